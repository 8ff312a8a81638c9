"""From `mqtt.out` to the broker: in order, acknowledged on the bus once the broker has confirmed.

What was not confirmed when a connection ended goes out again, in order, on the next; so does what another bridge had
under way when its partitions came here. The broker drops what nobody subscribed to.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import msgspec

from mqtt_bridge.core import topics
from skep import bus
from skep.wire import messages, views
from skep.wire.messages import COMMAND, NEVER, NOTIFICATION, UPDATE, Item
from skep.wire.proxy import Delivered

log = logging.getLogger("mqtt_bridge")

_HEADS = {
    NOTIFICATION: b'{"action":"notification/insert","subscriptionId":0,"notification":',
    COMMAND: b'{"action":"command/insert","subscriptionId":0,"command":',
    UPDATE: b'{"action":"command/update","subscriptionId":0,"command":',
}
_json = msgspec.json.Encoder().encode


class Connection(Protocol):
    """A connection to the broker."""

    @property
    def window(self) -> int:
        """Messages that may be unconfirmed at a time."""

    def publish(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        """Done once the broker has it; fails where that is unknown, or refused."""


class Stream(Protocol):
    """`skep.bus.Subscription` of `mqtt.out`, as it is used here."""

    async def next(self) -> list[bus.Event]: ...
    def ack(self, partition: int, offset: int, state: bytes = b"") -> None: ...
    async def owned(self, partitions: Iterable[int]) -> set[int]: ...


def push(item: Item, also: str = "") -> tuple[str, bytes]:
    """Topic and payload of a message: what a subscriber of the WebSocket API is sent. also: see `topics.escape`.
    Raises ValueError for an item without a message."""
    message = item.notification or item.command
    if message is None:
        raise ValueError("an item without a message")
    place = message.network_id, message.device_type_id, message.device_id
    payload = _HEADS[item.kind] + _json(views.message(item)) + b"}"
    return topics.event(item.kind, *place, message.name, also), payload


class _Entry:
    """A record on its way. offset: the one behind it. message: None where there is nothing to publish. lapses: when a
    command is not to be executed any more, ms."""

    __slots__ = ("is_confirmed", "lapses", "line", "message", "offset")

    def __init__(self, line: _Line, offset: int, message: tuple[str, bytes] | None, lapses: int) -> None:
        self.line = line
        self.offset = offset
        self.message = message
        self.lapses = lapses
        self.is_confirmed = message is None


class _Line:
    """A partition, and what the broker does not have of it yet."""

    def __init__(self, partition: int, state: bytes) -> None:
        self.partition = partition
        self.sources = bus.Sources(state)
        self.entries: deque[_Entry] = deque()
        self.is_ours = True

    def settled(self) -> int | None:
        """The offset up to which everything is confirmed now, if that is news."""
        offset = None
        while self.entries and self.entries[0].is_confirmed:
            offset = self.entries.popleft().offset
        return offset


class _Flight:
    """One connection's publishes: how many are unconfirmed, and why it ended."""

    def __init__(self) -> None:
        self.under_way = 0
        self.failure: BaseException | None = None


class Outbound:
    """`follow` runs all the time, `forward` beside it for each connection. clock: seconds since the epoch."""

    def __init__(self, stream: Stream, also: str = "", clock: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._also = also
        self._clock = clock
        self._lines: dict[int, _Line] = {}
        self._todo: deque[_Entry] = deque()
        self._wake = asyncio.Event()
        self.published = 0
        """Messages the broker has confirmed since the start."""
        self.lost = 0
        """Records that retention had removed before they were read."""

    # -- from the bus -----------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Take what comes until the stream ends (`bus.Closed`). What waits here is bounded by the stream, which
        delivers no more than so much that is not acknowledged."""
        while True:
            for event in await self._stream.next():
                match event:
                    case bus.Assigned(partition=number, state=state):
                        self._lines[number] = _Line(number, state)
                    case bus.Revoked(partitions=numbers):
                        self._give_up(numbers)
                    case bus.Gap(partition=number, start=start, end=end):
                        self.lost += end - start
                        log.error("%s..%s of partition %s were removed before they went out", start, end, number)
                    case bus.Records(partition=number, records=records):
                        self._take(self._lines[number], records)
            self._wake.set()

    def _give_up(self, numbers: list[int]) -> None:
        for number in numbers:
            line = self._lines.pop(number, None)
            if line is not None:
                line.is_ours = False

    def _take(self, line: _Line, records: list[Delivered]) -> None:
        for record in records:
            entry = _Entry(line, record.offset + 1, *self._message(line, record))
            line.entries.append(entry)
            if entry.message is not None:
                self._todo.append(entry)
        self._acknowledge(line)

    def _message(self, line: _Line, record: Delivered) -> tuple[tuple[str, bytes] | None, int]:
        """What to publish, and until when (ms)."""
        if not line.sources.fresh(record.offset, record.source):
            return None, NEVER
        try:
            (item,) = messages.decode_events(record.payload or b"").items
            lapses = item.command.lapses() if item.kind == COMMAND and item.command is not None else NEVER
            return push(item, self._also), lapses
        except (msgspec.MsgspecError, ValueError):
            log.error("a malformed record at offset %s of partition %s is passed over", record.offset, line.partition)
            return None, NEVER

    # -- to the broker ------------------------------------------------------------------------------------------------

    async def forward(self, connection: Connection) -> None:
        """Publish, beginning with what is not confirmed, until the connection fails; raises what it fails with."""
        lines = self._lines.values()
        self._todo = deque(entry for line in lines for entry in line.entries if not entry.is_confirmed)
        flight = _Flight()
        while flight.failure is None:
            count = min(len(self._todo), connection.window - flight.under_way)
            if count > 0:
                await self._publish(connection, flight, [self._todo.popleft() for _ in range(count)])
                continue
            self._wake.clear()
            await self._wake.wait()
        raise flight.failure

    async def _publish(self, connection: Connection, flight: _Flight, entries: list[_Entry]) -> None:
        # A bridge that was paused wakes up with messages that another has sent meanwhile, and later ones, too.
        ours = await self._stream.owned({entry.line.partition for entry in entries})
        for entry in entries:
            if entry.lapses <= self._clock() * 1000:  # the stream kept it for longer than it may live
                entry.is_confirmed = True
                self._acknowledge(entry.line)
            elif entry.line.is_ours and entry.line.partition in ours and entry.message is not None:
                flight.under_way += 1
                connection.publish(*entry.message).add_done_callback(partial(self._answered, flight, entry))

    def _answered(self, flight: _Flight, entry: _Entry, confirmed: asyncio.Future[None]) -> None:
        flight.under_way -= 1
        self._wake.set()
        if confirmed.cancelled():
            return
        failure = confirmed.exception()
        if failure is not None:
            flight.failure = failure
            return
        self.published += 1
        entry.is_confirmed = True
        self._acknowledge(entry.line)

    def _acknowledge(self, line: _Line) -> None:
        offset = line.settled()
        if offset is not None and line.is_ours:
            self._stream.ack(line.partition, offset, line.sources.state(offset))
