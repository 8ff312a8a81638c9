"""`waitTimeout=0` in a loop, as the PyPI client over HTTP polls: free while nothing is new, and nothing is missed."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest

from frontend.core.quiet import MAX_AGE
from tests.system.traffic import Session, call

pytestmark = pytest.mark.system
POLLS = 500
ROUNDS = 30
BURSTS, BURST = 30, 50


class Poller:
    """A device's notifications, by one connection that stays open."""

    def __init__(self, suite) -> None:
        self.device = f"{suite.rest}/device/idle-polls-{suite.engines}"
        self.token = suite.token()
        call("PUT", self.device, {"name": "idle"}, self.token)
        self.since = call("GET", f"{suite.rest}/info")["serverTimestamp"]
        self.connection = http.client.HTTPConnection("127.0.0.1", int(suite.settings["FRONTEND_PORT"]), timeout=10)
        self.metrics = suite.rest.removesuffix("/api/rest") + "/metrics"

    def poll(self) -> list[dict]:
        path = f"/{self.device.split('/', 3)[3]}/notification/poll?timestamp={self.since}&waitTimeout=0&limit=0"
        self.connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        answer = self.connection.getresponse()
        found = json.loads(answer.read())
        assert answer.status == 200, found
        if found:
            self.since = found[-1]["timestamp"]
        return found

    def reads(self) -> int:
        """Asked of the backends since the start."""
        with urllib.request.urlopen(self.metrics, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("skep_reads ")))

    def quieten(self) -> None:
        """Poll until that costs nothing."""
        for _ in range(POLLS):
            before = self.reads()
            if self.poll() == [] and self.reads() == before:
                return
        raise AssertionError("every poll reads")


@pytest.fixture
def poller(suite) -> Iterator[Poller]:
    made = Poller(suite)
    yield made
    made.connection.close()


def test_idle_polls_cost_the_backend_nothing(poller):
    poller.quieten()
    reads, began = poller.reads(), time.monotonic()
    for _ in range(POLLS):
        assert poller.poll() == []
    # One read each time that the last one has become too old, however many polls there are.
    assert poller.reads() - reads <= (time.monotonic() - began) / MAX_AGE + 1


def test_what_is_acknowledged_is_found_by_the_next_poll(poller):
    for number in range(ROUNDS):
        poller.quieten()
        sent = call("POST", f"{poller.device}/notification", {"notification": f"n{number}"}, poller.token)
        assert [n["id"] for n in poller.poll()] == [sent["id"]]


async def test_a_poller_misses_nothing_while_batches_are_stored(suite, poller):
    """On Hazelcast a batch can be read while it is written, a later message before an earlier one."""
    acknowledged: list[int] = []
    session, done = await Session.open(suite.ws, suite.token()), threading.Event()
    body = {"action": "notification/insert", "deviceId": poller.device.rsplit("/", 1)[1]}

    def answered(reply: dict | None) -> None:
        if reply is not None and reply["status"] == "success":
            acknowledged.append(reply["notification"]["id"])

    def follow() -> list[int]:
        found: list[int] = []
        while True:
            last = done.is_set()  # what was acknowledged until then is found by the next poll
            found += [n["id"] for n in poller.poll()]
            if last:
                return found

    following = asyncio.ensure_future(asyncio.to_thread(follow))
    for _ in range(BURSTS):
        for _ in range(BURST):
            session.send({**body, "notification": {"notification": "burst"}}, answered)
        await session.idle.wait()
    done.set()
    found = await following
    await session.close()
    assert acknowledged
    assert set(acknowledged) <= set(found)
    assert [id for id in found if id in set(acknowledged)] == acknowledged
