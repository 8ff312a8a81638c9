"""What was acknowledged is not lost: services killed and paused under 200 notifications/s, judged by the checker."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.system.saboteur import Saboteur
from tests.system.traffic import Traffic

pytestmark = pytest.mark.system
PAUSE = 15
"""Seconds a backend stands still in the pause test."""
RUNS = itertools.count()


def traffic(suite, **options) -> Traffic:
    return Traffic(suite.rest, suite.ws, suite.token(), prefix=f"flow-{next(RUNS)}", **options)


async def test_nothing_is_lost_without_faults(suite):
    async with traffic(suite) as flow:
        await flow.acknowledged(1000)
        verdict = await flow.finish()
    assert verdict.findings() == {}, verdict.summary()
    assert verdict.refused == []
    assert verdict.deliveries > 2 * verdict.acknowledged


@pytest.mark.parametrize("service", ["proxy", "backend", "frontend"])
async def test_a_killed_service_loses_nothing(suite, service):
    async with traffic(suite) as flow:
        for _ in range(3):
            await flow.acknowledged(400)
            await suite.kill(service)
        await flow.acknowledged(400)
        verdict = await flow.finish()
    print(service, verdict.summary())
    assert verdict.findings() == {}, verdict.summary()
    assert verdict.acknowledged >= 1600


async def test_a_paused_backend_loses_nothing(suite):
    async with traffic(suite) as flow:
        await flow.acknowledged(400)
        async with suite.paused("backend"):
            await asyncio.sleep(PAUSE)
        await flow.acknowledged(1000)
        verdict = await flow.finish()
    print("pause", verdict.summary())
    assert verdict.findings() == {}, verdict.summary()


@pytest.mark.parametrize(
    ("loss", "kinds"),
    [("request", {"lost", "not_delivered"}), ("event", {"not_delivered"}), ("reply", set())],
)
async def test_a_planted_loss_is_seen(suite, loss, kinds):
    """A notification that vanishes before the backend, an event before the frontend, a reply before the app."""
    saboteur = Saboteur(suite.bus, loss)
    await saboteur.start()
    try:
        async with suite.changed("frontend", BUS_URLS=saboteur.url), traffic(suite) as flow:
            await flow.acknowledged(600)
            verdict = await flow.finish(deadline=8)
    finally:
        await saboteur.stop()
    assert saboteur.done
    assert set(verdict.findings()) == kinds, verdict.summary()
    assert bool(verdict.refused) == (loss == "reply"), verdict.summary()
