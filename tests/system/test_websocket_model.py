"""What comes over WebSockets is what a model says: runs of requests chosen by hypothesis (`tests/system/model/`).

SKEP_MODEL_RUNS is the number of runs, SKEP_MODEL_SEED chooses them; without them every test run does the same ones:

    SKEP_MODEL_RUNS=2000 SKEP_MODEL_SEED=7 pytest tests/system/test_websocket_model.py -k light
"""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from tests.system.model.machine import WebSocketModel

pytestmark = pytest.mark.system
RUNS = {"light": 200, "full": 20}
STEPS = 15
SEED = 4


def test_what_comes_is_what_the_model_says(suite):
    configured = settings(
        max_examples=int(os.environ.get("SKEP_MODEL_RUNS", RUNS[suite.engines])),
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    with asyncio.Runner() as loop:

        @seed(int(os.environ.get("SKEP_MODEL_SEED", SEED)))
        class Model(WebSocketModel):
            runner, worlds, findings = loop, [], []

        Model.suite = suite
        try:
            run_state_machine_as_test(Model, settings=configured)
        except Flaky:
            # The same requests went well the second time: a matter of timing, and a fault all the same.
            raise Model.findings[0] from None
