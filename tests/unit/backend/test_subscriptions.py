import asyncio
import time

import pytest

from backend.api import subscriptions as module
from backend.api.subscriptions import Subscriptions
from skep import bus
from skep.wire import topics
from skep.wire.messages import NOTIFICATION, Lease, encode
from skep.wire.proxy import Code, Delivered
from tests.unit.backend.build import interest
from tests.unit.backend.fake_bus import FakeBus


def record(offset: int, key: bytes, payload: bytes | None, at: float | None = None) -> Delivered:
    return Delivered(offset, int((time.time() if at is None else at) * 1000), 1, offset, key, payload)


class World:
    def __init__(self) -> None:
        self.bus = FakeBus()
        self.subscriptions = Subscriptions(self.bus)  # type: ignore[arg-type]

    async def take(self, *events: bus.Event) -> None:
        await self.subscriptions.start()
        self.bus.subscriptions[topics.SUBSCRIPTIONS].give(*events)
        task = asyncio.create_task(self.subscriptions.follow())
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()

    def match(self) -> set[str]:
        return self.subscriptions.interests.match(NOTIFICATION, 1, 1, "d", "n")


async def test_the_snapshot_and_what_follows_fill_the_index() -> None:
    world = World()
    first, second = record(0, b"a/1", interest()), record(5, b"b/1", interest("events.b"))
    await world.take(bus.Assigned(0, 0, 1, "log"), bus.Records(0, "log", [first]), bus.Records(0, "log", [second]))
    assert world.match() == {"events.a", "events.b"}
    await world.subscriptions.reached(6)


async def test_an_empty_topic_is_read_at_once() -> None:
    world = World()
    await world.take(bus.Assigned(0, 4, 4, "log"))
    await world.subscriptions.reached(4)


async def test_a_new_log_empties_the_index() -> None:
    world = World()
    await world.take(bus.Assigned(0, 0, 9, "log"), bus.Records(0, "log", [record(8, b"a/1", interest())]))
    await world.take(
        bus.Gap(0), bus.Assigned(0, 0, 1, "new"), bus.Records(0, "new", [record(0, b"b/1", interest("events.b"))])
    )
    assert world.match() == {"events.b"}
    assert world.subscriptions.interests.position == 1


LEASED = [record(0, b"lease/a", encode(Lease("a", 60_000)), 0.0), record(1, b"a/1", interest(owner="a"))]
"""Of a log whose clock is decades behind ours."""


async def sweeping(world: World, monkeypatch: pytest.MonkeyPatch, turns: int = 50) -> None:
    """Some sweeps, a millisecond each."""
    monkeypatch.setattr(module, "SWEEP", 0.001)
    task = asyncio.create_task(world.subscriptions.sweep())
    for _ in range(turns):
        await asyncio.sleep(0.001)
    task.cancel()


async def test_no_clock_but_our_own_ends_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the log's, nor a step of the system's: a laptop that slept, a server that was set right."""
    world = World()
    await world.take(bus.Assigned(0, 0, 2, "log"), bus.Records(0, "log", LEASED))
    monkeypatch.setattr(time, "time", lambda: 1e12)
    await sweeping(world, monkeypatch)
    assert world.match() == {"events.a"}
    assert world.bus.sent == []


async def test_an_owner_whose_renewals_are_still_to_be_read_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """We were away for long: its renewals wait behind the connection."""
    world = World()
    await world.take(
        bus.Assigned(0, 0, 2, "log"),
        bus.Records(0, "log", [record(0, b"lease/a", encode(Lease("a", 1))), record(1, b"a/1", interest(owner="a"))]),
    )
    world.bus.end = 3
    monkeypatch.setattr(module, "PROBE", 60)
    await sweeping(world, monkeypatch)
    assert world.bus.sent == []
    await world.take(bus.Records(0, "log", [record(2, b"lease/a", encode(Lease("a", 60_000)))]))
    await sweeping(world, monkeypatch)
    assert world.bus.sent == []
    assert world.match() == {"events.a"}


async def test_lost_owners_get_tombstones_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    lease = record(0, b"lease/a", encode(Lease("a", 1)), 0.0)
    await world.take(
        bus.Assigned(0, 0, 2, "log"), bus.Records(0, "log", [lease, record(1, b"a/1", interest(owner="a"))])
    )
    world.bus.end = world.subscriptions.interests.position
    await sweeping(world, monkeypatch)
    assert world.bus.sent == [(topics.SUBSCRIPTIONS, None)] * 2


async def test_a_bus_that_refuses_tombstones_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    await world.take(
        bus.Assigned(0, 0, 1, "log"), bus.Records(0, "log", [record(0, b"lease/a", encode(Lease("a", 1)), 0.0)])
    )
    answers = iter([bus.Refused(Code.UNAVAILABLE, "away"), None])
    published = []

    async def publish(topic: str, payload: bytes | None, key: bytes | None = None) -> tuple[int, int]:
        error = next(answers)
        if error is not None:
            raise error
        published.append(key)
        return 0, 0

    world.bus.publish = publish  # type: ignore[method-assign,assignment]
    world.bus.end = world.subscriptions.interests.position
    await sweeping(world, monkeypatch)
    assert published == [b"lease/a"]
