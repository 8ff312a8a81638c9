"""From the stream to the broker; the test plays both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress

import pytest

from mqtt_bridge.core.outbound import Outbound, push
from mqtt_bridge.core.packets import Lost
from skep import bus
from skep.wire import messages
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE, Command, Events, Item, Notification
from skep.wire.proxy import Delivered, Source


class Stream:
    def __init__(self) -> None:
        self.events: asyncio.Queue[list[bus.Event]] = asyncio.Queue()
        self.acked: list[tuple[int, int]] = []
        self.foreign: set[int] = set()
        self.states: list[bytes] = []

    async def next(self) -> list[bus.Event]:
        return await self.events.get()

    async def owned(self, partitions: Iterable[int]) -> set[int]:
        return set(partitions) - self.foreign

    def ack(self, partition: int, offset: int, state: bytes = b"") -> None:
        self.acked.append((partition, offset))
        self.states.append(state)


class Connection:
    """Keeps what is published until `confirm`."""

    def __init__(self, window: int = 3) -> None:
        self.window = window
        self.published: list[str] = []
        self.waiting: list[asyncio.Future[None]] = []

    def publish(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        self.published.append(topic.rsplit("/", 1)[1])
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return future

    def confirm(self, *numbers: int) -> None:
        for number in numbers:
            self.waiting[number].set_result(None)

    def lose(self) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_exception(Lost("gone"))


class Bridge:
    def __init__(self) -> None:
        self.stream = Stream()
        self.now = 0.0
        self.outbound = Outbound(self.stream, clock=lambda: self.now)
        self.following = asyncio.create_task(self.outbound.follow())
        self.forwarding: asyncio.Task[None] | None = None

    async def come(self, *events: bus.Event) -> None:
        self.stream.events.put_nowait(list(events))
        await turns()

    async def connect(self, window: int = 3) -> Connection:
        connection = Connection(window)
        self.forwarding = asyncio.create_task(self.outbound.forward(connection))
        await turns()
        return connection


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    made = Bridge()
    yield made
    for task in (made.following, made.forwarding):
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError, Lost):
                await task


def assigned(partition: int = 0, state: bytes = b"") -> bus.Assigned:
    return bus.Assigned(partition, 0, 0, "log", state)


def record(offset: int, name: str, source: int | None = None) -> Delivered:
    item = Item(0, offset, NOTIFICATION, Notification(offset, name, "d1", 1, 2, 1000, b'{"v":1}'))
    origin = None if source is None else Source("requests", 0, source)
    return Delivered(offset, 0, 1, offset, b"d1", messages.encode(Events("log", [item])), origin)


def records(*found: Delivered, partition: int = 0) -> bus.Records:
    return bus.Records(partition, "log", list(found))


async def test_in_order_within_the_window_and_acknowledged_in_order(bridge: Bridge) -> None:
    connection = await bridge.connect()
    await bridge.come(assigned(), records(*(record(n, f"n{n}") for n in range(5))))
    assert connection.published == ["n0", "n1", "n2"]
    connection.confirm(1)
    await turns()
    assert connection.published == ["n0", "n1", "n2", "n3"]
    assert not bridge.stream.acked
    connection.confirm(0)
    await turns()
    assert bridge.stream.acked == [(0, 2)]
    assert bridge.outbound.published == 2


async def test_what_is_not_confirmed_goes_out_again_in_order(bridge: Bridge) -> None:
    connection = await bridge.connect()
    await bridge.come(assigned(), records(*(record(n, f"n{n}") for n in range(4))))
    connection.confirm(1)
    await turns()
    connection.lose()
    await turns()
    assert bridge.forwarding is not None
    with pytest.raises(Lost):
        await bridge.forwarding
    second = await bridge.connect()
    assert second.published == ["n0", "n2", "n3"]
    second.confirm(0, 1, 2)
    await turns()
    assert bridge.stream.acked[-1] == (0, 4)


async def test_answers_of_an_old_connection_mean_nothing_to_the_next(bridge: Bridge) -> None:
    first = await bridge.connect(window=1)
    await bridge.come(assigned(), records(record(0, "a"), record(1, "b")))
    assert bridge.forwarding is not None
    bridge.forwarding.cancel()
    second = await bridge.connect(window=1)
    first.lose()
    await turns()
    assert second.published == ["a"]
    second.confirm(0)
    await turns()
    assert second.published == ["a", "b"]


async def test_what_comes_while_there_is_no_connection_waits(bridge: Bridge) -> None:
    await bridge.come(assigned(), records(record(0, "a")))
    assert (await bridge.connect()).published == ["a"]


async def test_a_partition_that_is_gone_is_not_published_nor_acknowledged(bridge: Bridge) -> None:
    connection = await bridge.connect(window=1)
    await bridge.come(
        assigned(0), assigned(1), records(record(0, "a"), record(1, "b")), records(record(0, "x"), partition=1)
    )
    await bridge.come(bus.Revoked([0]))
    connection.confirm(0)
    await turns()
    assert connection.published == ["a", "x"]
    assert not [ack for ack in bridge.stream.acked if ack[0] == 0]


async def test_repeated_sources_are_published_once_also_after_a_takeover(bridge: Bridge) -> None:
    connection = await bridge.connect()
    await bridge.come(assigned(), records(record(0, "a", 7), record(1, "a", 7), record(2, "b", 8)))
    assert connection.published == ["a", "b"]
    connection.confirm(0, 1)
    await turns()
    assert bridge.stream.acked[-1] == (0, 3)
    other = Bridge()
    second = await other.connect()
    await other.come(assigned(state=bridge.stream.states[-1]), records(record(3, "b", 8), record(4, "c", 9)))
    assert second.published == ["c"]
    for task in (other.following, other.forwarding):
        assert task is not None
        task.cancel()


async def test_a_command_that_waited_too_long_is_not_published(bridge: Bridge) -> None:
    """The stream keeps it for an hour; its update is news all the same."""
    command = Command(7, "c", "d1", 1, 2, 1000, 1000, lifetime=5)
    item, update = Item(0, 0, COMMAND, command=command), Item(0, 1, UPDATE, command=command)
    found = [
        Delivered(n, 0, 1, n, b"d1", messages.encode(Events("log", [each])))
        for n, each in enumerate((item, update, item))
    ]
    bridge.now = 6.0
    await bridge.come(assigned(), records(*found))
    connection = await bridge.connect()
    assert len(connection.published) == 1
    connection.confirm(0)
    await turns()
    assert bridge.stream.acked[-1] == (0, 3)
    bridge.now = 5.9
    await bridge.come(records(Delivered(3, 0, 1, 3, b"d1", messages.encode(Events("log", [item])))))
    assert len(connection.published) == 2


async def test_a_malformed_record_is_passed_over(bridge: Bridge) -> None:
    connection = await bridge.connect()
    broken = Delivered(0, 0, 1, 0, b"d1", b"\xc1")
    await bridge.come(assigned(), records(broken, record(1, "a")))
    assert connection.published == ["a"]
    assert bridge.stream.acked == [(0, 1)]


async def test_a_gap_is_counted(bridge: Bridge) -> None:
    await bridge.come(assigned(), bus.Gap(0, 3, 8))
    assert bridge.outbound.lost == 5


@pytest.mark.parametrize(
    ("kind", "topic", "action", "entity"),
    [
        (NOTIFICATION, "dh/notification/1/2/d1/a%2Fb", "notification/insert", "notification"),
        (COMMAND, "dh/command/1/2/d1/a%2Fb", "command/insert", "command"),
        (UPDATE, "dh/command_update/1/2/d1/a%2Fb", "command/update", "command"),
    ],
)
def test_push(kind: int, topic: str, action: str, entity: str) -> None:
    if kind == NOTIFICATION:
        item = Item(0, 0, kind, Notification(5, "a/b", "d1", 1, 2, 1000, b'{"v":1}'))
    else:
        item = Item(0, 0, kind, None, Command(5, "a/b", "d1", 1, 2, 1000, 1000, 7, b'{"v":1}'))
    where, payload = push(item)
    pushed = json.loads(payload)
    assert where == topic
    assert (pushed["action"], pushed["subscriptionId"]) == (action, 0)
    assert (pushed[entity]["id"], pushed[entity]["parameters"]) == (5, {"v": 1})


def test_a_push_of_nothing() -> None:
    with pytest.raises(ValueError, match="without a message"):
        push(Item(0, 0, NOTIFICATION))


async def test_who_was_paused_sends_nothing_that_is_anothers_by_now(bridge: Bridge) -> None:
    """It learns so a moment later from the stream."""
    connection = await bridge.connect(window=1)
    await bridge.come(assigned(), assigned(1), records(*(record(n, f"n{n}") for n in range(3))))
    bridge.stream.foreign = {0}
    connection.confirm(0)
    await bridge.come(records(record(0, "m0"), partition=1))
    assert connection.published == ["n0", "m0"]
    await bridge.come(bus.Revoked([0]), assigned(0))
    bridge.stream.foreign = set()
    connection.confirm(1)
    await bridge.come(records(record(5, "n5")))
    assert connection.published == ["n0", "m0", "n5"]
