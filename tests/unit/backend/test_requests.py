"""The pipeline, with a bus and a store in the test's hands."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from backend.api.counters import Counters
from backend.api.requests import Requests, _cut
from backend.api.subscriptions import Subscriptions
from backend.core.batches import Partition, Planner
from skep import bus
from skep.wire import topics
from skep.wire.messages import COMMAND, NOTIFICATION, DeadLetter, Marker, decode_events
from skep.wire.proxy import Code, Delivered
from tests.unit.backend.build import command, insert, interest, notification, record
from tests.unit.backend.fake_bus import FakeBus, FakeSubscription
from tests.unit.backend.memory_store import MemoryStore

FAR = 10**14
"""A deadline that no test reaches."""


class World:
    """A running pipeline over partition 0 with an interest in everything."""

    def __init__(self) -> None:
        self.bus = FakeBus()
        self.store = MemoryStore()
        self.counters = Counters()
        self.subscriptions = Subscriptions(self.bus)  # type: ignore[arg-type]
        interests = self.subscriptions.interests
        for i, kind in enumerate((NOTIFICATION, COMMAND)):
            interests.apply(i, f"a/{i}".encode(), interest(kind=kind), 0)
        self.requests = Requests(
            self.bus, self.store, self.subscriptions, Planner(interests), self.counters, records=10, in_flight=2  # type: ignore[arg-type]
        )  # fmt: skip

    async def start(self) -> None:
        await self.requests.start()
        self.tasks = [asyncio.create_task(loop) for loop in (self.requests.follow(), self.requests.settle())]
        self.subscription.give(bus.Assigned(0, 0, 0, "log"))

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    @property
    def subscription(self) -> FakeSubscription:
        return self.bus.subscriptions[topics.REQUESTS]

    def give(self, *requests: Any, offset: int = 0, deadline: int = FAR) -> None:
        made = [
            r if isinstance(r, Delivered) else record(r, offset + i, deadline=deadline) for i, r in enumerate(requests)
        ]
        self.subscription.give(bus.Records(0, "log", made))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                assert not any(t.done() for t in self.tasks), [t.exception() for t in self.tasks if t.done()]
                await asyncio.sleep(0)

    async def rest(self) -> None:
        """Let everything that can happen by itself happen."""
        for _ in range(100):
            await asyncio.sleep(0)

    def events(self) -> list[int]:
        found = [decode_events(p or b"") for topic, p in self.bus.sent if topic == "events.a"]
        return [i.offset for e in found for i in e.items]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.start()
    yield world
    await world.stop()


async def test_what_waits_is_one_batch(world: World) -> None:
    world.give(insert(notification()), insert(notification()))
    await world.until(lambda: world.subscription.acks)
    assert [len(b) for b in world.store.puts] == [2]
    assert len([t for t, _ in world.bus.sent if t == "events.a"]) == 1
    assert len(world.bus.replies) == 2
    assert world.subscription.acks == [(0, 2)]


async def test_nothing_is_acknowledged_before_it_is_confirmed(world: World) -> None:
    world.bus.confirm = False
    world.give(insert(notification()))
    await world.until(lambda: world.bus.unconfirmed)
    await world.rest()
    assert world.subscription.acks == []
    world.bus.unconfirmed[0].set_result((-1, -1))
    await world.until(lambda: world.subscription.acks == [(0, 1)])


async def test_batches_overlap_and_are_acknowledged_in_order(world: World) -> None:
    world.bus.confirm = False
    world.give(insert(notification()), offset=0)
    world.give(insert(notification()), offset=1)
    await world.until(lambda: len(world.bus.unconfirmed) == 2)
    world.bus.unconfirmed[1].set_result((-1, -1))
    await world.rest()
    assert world.subscription.acks == []
    world.bus.unconfirmed[0].set_result((-1, -1))
    await world.until(lambda: world.subscription.acks == [(0, 1), (0, 2)])


async def test_only_so_many_batches_are_under_way(world: World) -> None:
    world.bus.confirm = False
    for offset in range(9):
        world.give(insert(notification()), offset=offset)
    await world.rest()
    under_way = len(world.store.puts)
    # Two that may fly, the one being confirmed, and the one that waits for its place.
    assert under_way == 4
    world.bus.unconfirmed[0].set_result((-1, -1))
    await world.until(lambda: len(world.store.puts) == under_way + 1)


async def test_nothing_is_told_before_it_is_stored(world: World) -> None:
    world.store.away = True
    world.give(insert(notification()))
    await world.rest()
    assert (world.bus.sent, world.bus.replies, world.subscription.acks) == ([], [], [])
    world.store.away = False
    await world.until(lambda: world.subscription.acks)
    assert (world.events(), len(world.bus.replies), world.counters.dead_letters) == ([0], 1, 0)


async def test_a_command_that_waited_for_the_store_expires(world: World) -> None:
    made = command()
    world.store.away = True
    world.give(insert(made), deadline=1)
    await world.rest()
    world.store.away = False
    await world.until(lambda: world.subscription.acks)
    assert ([code for _, code, _ in world.bus.replies], world.events()) == ([503], [])


async def test_a_full_store_is_told_to_those_who_wait_and_waited_for_by_the_others(world: World) -> None:
    world.store.full = True
    world.give(insert(notification()), offset=0)
    await world.until(lambda: world.subscription.acks == [(0, 1)])
    assert [code for _, code, _ in world.bus.replies] == [503]
    world.give(insert(notification()), offset=1, deadline=1)
    await world.rest()
    assert world.subscription.acks == [(0, 1)]
    world.store.full = False
    await world.until(lambda: world.subscription.acks == [(0, 1), (0, 2)])
    assert world.events() == [1]


async def test_what_the_store_cant_hold_is_buried_and_the_others_go_on(world: World) -> None:
    world.store.poison = {"bad"}
    world.give(insert(notification()), insert(notification(name="bad")), insert(notification()))
    await world.until(lambda: world.subscription.acks == [(0, 3)])
    assert world.events() == [0, 2]
    assert sorted((c[-1], code) for c, code, _ in world.bus.replies) == [(0, 0), (1, 500), (2, 0)]
    (letter,) = [_letter(p) for t, p in world.bus.sent if t == topics.DEAD_LETTERS]
    assert (letter.topic, letter.partition, letter.offset, letter.tries) == (topics.REQUESTS, 0, 1, 3)
    assert letter.reason == "Rejected: poison"
    assert world.counters.dead_letters == 1


async def test_garbage_is_buried_too(world: World) -> None:
    world.give(Delivered(0, 1, 1, 1, b"k", b"\xff"))
    await world.until(lambda: world.subscription.acks == [(0, 1)])
    (letter,) = [_letter(p) for t, p in world.bus.sent if t == topics.DEAD_LETTERS]
    assert (letter.key, letter.payload) == (b"k", b"\xff")
    assert world.bus.replies == []


async def test_a_command_is_answered_when_its_delivery_is_confirmed(world: World) -> None:
    world.bus.confirm = False
    world.give(insert(command()))
    await world.until(lambda: world.bus.unconfirmed)
    await world.rest()
    assert world.bus.replies == []
    world.bus.unconfirmed[0].set_result((-1, -1))
    await world.until(lambda: world.subscription.acks)
    assert [code for _, code, _ in world.bus.replies] == [0]


async def test_events_have_no_deadline(world: World) -> None:
    """Published again behind later ones of their partition, a frontend would drop them as known."""
    world.give(insert(notification()))
    await world.until(lambda: world.subscription.acks)
    assert (world.events(), world.bus.timeouts) == ([0], [None])


@pytest.mark.parametrize("code", [Code.NO_SUBSCRIBER, Code.FULL])
async def test_events_nobody_takes_are_dropped_and_counted(world: World, code: Code) -> None:
    world.bus.confirm = False
    world.give(insert(notification()))
    await world.until(lambda: world.bus.unconfirmed)
    world.bus.unconfirmed[0].set_exception(bus.Refused(code, "gone"))
    await world.until(lambda: world.subscription.acks)
    assert world.counters.dropped == 1


@pytest.mark.parametrize("error", [bus.Refused(Code.UNAVAILABLE, "away"), bus.TimedOut("late")])
async def test_a_plugins_record_is_published_until_it_is_confirmed(world: World, error: Exception) -> None:
    world.subscriptions.interests.clear()
    world.subscriptions.interests.apply(0, b"p", interest("plugin_topic_1"), 0)
    world.bus.confirm = False
    world.give(insert(notification()))
    await world.until(lambda: world.bus.unconfirmed)
    world.bus.unconfirmed[0].set_exception(error)
    await world.until(lambda: len(world.bus.unconfirmed) == 2)
    assert world.subscription.acks == []
    world.bus.unconfirmed[1].set_result((0, 5))
    await world.until(lambda: world.subscription.acks)
    assert world.bus.sent[0] == world.bus.sent[1]
    assert {(s.incarnation, s.partition, s.offset) for s in world.bus.sources} == {("log", 0, 0)}


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.FULL])
async def test_no_plugins_record_overtakes_one_that_was_refused_for_now(world: World, code: Code) -> None:
    """Readers take a source below one they have had for a repetition: published behind it, it would be lost."""
    world.subscriptions.interests.clear()
    for i, destination in enumerate(("plugin_topic_1.1", "plugin_topic_2.1")):
        world.subscriptions.interests.apply(i, b"%d" % i, interest(destination), 0)
    world.bus.confirm = False
    world.give(insert(notification()), insert(notification()), offset=0)
    world.give(insert(notification()), offset=2)
    await world.until(lambda: len(world.bus.unconfirmed) == 4)
    await world.rest()
    sent = [(topic, source.offset) for (topic, _), source in zip(world.bus.sent, world.bus.sources, strict=True)]
    one, other = sorted({topic for topic, _ in sent})
    assert sorted(sent) == [(one, 0), (one, 1), (other, 0), (other, 1)]
    assert [offset for _, offset in sorted(sent, key=lambda record: record[0])] == [0, 1, 0, 1]
    for (topic, _), future in zip(sent, list(world.bus.unconfirmed), strict=True):
        if topic == one:
            future.set_exception(bus.Refused(code, "for now"))
        else:
            future.set_result((0, 0))
    await world.until(lambda: len(world.bus.unconfirmed) == 7)
    for future in world.bus.unconfirmed[4:]:
        future.set_result((0, 0))
    await world.until(lambda: len(world.bus.unconfirmed) == 8)
    world.bus.unconfirmed[7].set_result((0, 0))
    await world.until(lambda: world.subscription.acks == [(0, 2), (0, 3)])
    sent = [(topic, source.offset) for (topic, _), source in zip(world.bus.sent, world.bus.sources, strict=True)]
    assert [offset for topic, offset in sent if topic == one] == [0, 1, 0, 1, 2]
    assert [offset for topic, offset in sent if topic == other] == [0, 1, 2]


async def test_a_stream_that_is_gone_holds_up_nobody(world: World) -> None:
    world.subscriptions.interests.clear()
    world.subscriptions.interests.apply(0, b"p", interest("plugin_topic_1.1"), 0)
    world.subscriptions.interests.apply(1, b"q", interest("plugin_topic_1.2"), 0)
    world.bus.confirm = False
    world.give(insert(notification()), insert(notification()))
    await world.until(lambda: len(world.bus.unconfirmed) == 4)
    for (topic, _), future in zip(world.bus.sent, world.bus.unconfirmed, strict=True):
        if topic == "plugin_topic_1.1":
            future.set_exception(bus.Refused(Code.NO_TOPIC, "deleted"))
        else:
            future.set_result((0, 0))
    await world.until(lambda: world.subscription.acks == [(0, 2)])
    assert (len(world.bus.sent), world.counters.dropped) == (4, 2)


async def test_a_partition_that_is_lost_is_not_written(world: World) -> None:
    world.subscription.lost = {0}
    world.give(insert(notification()))
    await world.rest()
    assert (world.store.puts, world.bus.sent, world.bus.replies) == ([], [], [])


async def test_records_of_a_revoked_partition_are_not_acknowledged(world: World) -> None:
    world.bus.confirm = False
    world.give(insert(notification()))
    await world.until(lambda: world.bus.unconfirmed)
    world.subscription.give(bus.Revoked([0]))
    world.subscription.give(bus.Assigned(0, 0, 1, "log"))
    await world.rest()
    world.bus.unconfirmed[0].set_result((-1, -1))
    await world.rest()
    assert world.subscription.acks == []


async def test_the_state_carries_the_highest_timestamp(world: World) -> None:
    world.give(insert(notification()), insert(notification()))
    await world.until(lambda: world.subscription.acks)
    highest = Partition(0, "log", 0, world.subscription.states[0]).timestamps.highest
    stored = [e.item.notification.timestamp for b in world.store.puts for e in b if e.item.notification]
    assert highest == max(stored)


async def test_a_marker_waits_for_the_index(world: World) -> None:
    world.bus.end = 4
    world.give(insert(notification()), Marker(4))
    await world.rest()
    assert (world.bus.replies, world.store.puts) == ([], [])
    for offset in (2, 3):
        world.subscriptions.interests.apply(offset, b"x", None, 0)
    world.subscriptions._moved.set()
    await world.until(lambda: world.subscription.acks)
    assert [(code, body) for _, code, body in world.bus.replies if not hasattr(body, "id")] == [(0, (0, 1))]


async def test_a_marker_past_the_end_blocks_nobody(world: World) -> None:
    world.bus.end = 2
    world.give(Marker(10**9), insert(notification()))
    await world.until(lambda: world.subscription.acks)
    assert sorted(code for _, code, _ in world.bus.replies) == [0, 500]


async def test_a_partition_begins_when_the_index_has_what_was_there(world: World) -> None:
    world.bus.end = 3
    world.subscription.give(bus.Assigned(1, 0, 0, "log"), bus.Records(1, "log", [record(insert(notification()), 0)]))
    await world.rest()
    assert world.store.puts == []
    world.subscriptions.interests.apply(2, b"x", None, 0)
    world.subscriptions._moved.set()
    await world.until(lambda: world.subscription.acks == [(1, 1)])


async def test_an_offset_that_never_comes_is_asked_for(world: World) -> None:
    """The last record before the end was a tombstone that compaction took."""
    world.bus.end = 3
    world.subscription.give(bus.Assigned(1, 0, 0, "log"))
    await world.until(lambda: any(t == topics.SUBSCRIPTIONS for t, _ in world.bus.sent))
    assert world.bus.sent == [(topics.SUBSCRIPTIONS, None)]


def test_batches_are_cut_by_records_and_bytes() -> None:
    partition = Partition(0, "log", 0)
    records = [Delivered(i, 0, 1, i, None, b"x" * 10) for i in range(7)]
    waiting = [(partition, records[:3]), (partition, records[3:])]

    def cut(most: int, room: int) -> list[list[int]]:
        return [[r.offset for _, rs in batch for r in rs] for batch in _cut(waiting, most, room)]

    assert cut(4, 1000) == [[0, 1, 2, 3], [4, 5, 6]]
    assert cut(3, 1000) == [[0, 1, 2], [3, 4, 5], [6]]
    assert cut(100, 25) == [[0, 1], [2, 3], [4, 5], [6]]
    assert cut(100, 5) == [[i] for i in range(7)]
    assert list(_cut([], 1, 1)) == []


def _letter(payload: bytes | None) -> DeadLetter:
    return msgspec.msgpack.decode(payload or b"", type=DeadLetter)
