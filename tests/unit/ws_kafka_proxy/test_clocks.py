"""Steps of the system's clock."""

import time

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from skep import settings, tokens
from ws_kafka_proxy import app
from ws_kafka_proxy.settings import Settings

SECRET = "a secret of thirty-two characters!"
HOUR = 3600


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_services_connect_after_a_step_of_the_clock(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    environment = {"DATABASE_URL": "postgresql://x@127.0.0.1/x", "BUS_SECRET": SECRET, "JWT_SECRET": SECRET[::-1]}
    core = app.Core(settings.load(Settings, environment))
    stepped = time.time() + step
    monkeypatch.setattr(time, "time", lambda: stepped)
    token = tokens.encode_service("backend", "backend-1", SECRET, int(time.time() * 1000) + 60_000)
    request = Request("/", Headers({"Authorization": f"Bearer {token}"}))
    assert core.listener.identify(request) == ("backend", "backend-1")


def test_the_logs_clock_does_not_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = app.steady_clock()
    before = clock()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert before <= clock() < before + 60_000
