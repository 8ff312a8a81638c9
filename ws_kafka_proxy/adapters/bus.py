"""The plugin role's way to the topics: a client of the core proxy, one connection for each subscription.

A connection of its own has an instance name of its own, so several sockets of one plugin are several members of its
group, and a slow one holds up nobody else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count

from skep import bus
from skep.wire.proxy import Assigned, Code, Delivered, Failure, Gap, Record, Revoked, Start
from ws_kafka_proxy.core.engine import Chunk, Fenced, Reader, ReaderEvent, TopicDeleted

WINDOW = (1_000, 1 << 20)
"""Records and bytes that may wait here for one subscription."""

Connect = Callable[[str], bus.Bus]
"""Makes a client of the core proxy under an instance name."""


class BusTopics:
    """What the JSON dialect needs of an engine, for roles that only read.

    instance: a member that brings no name of its own gets `<instance>.<lowest free number>`, so that after a restart
    the members of a group are the former ones to it, and take their partitions over at once.
    """

    def __init__(self, shared: bus.Bus, connect: Connect, instance: str) -> None:
        self._shared = shared
        self._connect = connect
        self._instance = instance
        self._taken: set[tuple[str, str | None, str]] = set()

    def append(self, publisher: int, records: list[Record]) -> Awaitable[list[tuple[int, int] | Failure]]:
        refused: asyncio.Future[list[tuple[int, int] | Failure]] = asyncio.get_running_loop().create_future()
        refused.set_result([Failure(Code.FORBIDDEN, "this proxy takes no messages")] * len(records))
        return refused

    async def create(self, topic: str, partitions: int, retention: int) -> None:
        raise KeyError(topic)

    def names(self) -> list[str]:
        return []

    async def healthy(self) -> bool:
        return self._shared.connected

    async def reader(self, topic: str, group: str | None, member: str, start: Start, drain: bool = False) -> Reader:
        """Raises KeyError for a missing topic, TimeoutError when the core proxy does not answer."""
        names = (f"{self._instance}.{number}" for number in count())
        member = member or next(name for name in names if (topic, group, name) not in self._taken)
        place = (topic, group, member)
        self._taken.add(place)
        client = self._connect(member)
        try:
            await client.start()
            records, size = WINDOW
            subscription = await client.subscribe(topic, group, start, records, size, drain=drain)
        except BaseException as error:
            await client.close()
            self._taken.discard(place)
            if isinstance(error, bus.Refused) and error.code == Code.NO_TOPIC:
                raise KeyError(topic) from error
            if isinstance(error, bus.BusError):
                raise TimeoutError(str(error)) from error
            raise
        return BusReader(client, subscription, lambda: self._taken.discard(place))


class BusReader:
    """The engine port's Reader on a subscription of the bus client. Repeated sources come without payload: nobody is
    told of them, but the position passes them. `closed` is called when the group has been left."""

    def __init__(self, client: bus.Bus, subscription: bus.Subscription, closed: Callable[[], None]) -> None:
        self._client = client
        self._subscription = subscription
        self._closed = closed
        self._waiting: deque[bus.Event] = deque()
        self._sources: dict[int, bus.Sources] = {}

    async def read(self, records: int, size: int) -> list[ReaderEvent]:
        """At least one record; `size` is bounded by WINDOW."""
        while True:
            if not self._waiting:
                try:
                    self._waiting.extend(_remaining(await self._subscription.next()))
                except bus.Closed as error:
                    raise _ended(error) from error
            events = self._take(records)
            if events:
                return events

    def commit(self, partition: int, offset: int, state: bytes) -> None:
        sources = self._sources.get(partition)
        if sources is not None:
            self._subscription.ack(partition, offset, sources.state(offset))

    async def settled(self) -> None:
        await self._subscription.settled()

    async def close(self, leave: bool) -> None:
        try:
            await self._client.close()
        finally:
            self._closed()

    def _take(self, limit: int) -> list[ReaderEvent]:
        events: list[ReaderEvent] = []
        while self._waiting and limit > 0:
            event = self._waiting.popleft()
            match event:
                case bus.Assigned(partition, offset, end, incarnation, state):
                    self._sources[partition] = bus.Sources(state)
                    events.append(Assigned(0, partition, offset, end, incarnation, state))
                case bus.Revoked(partitions):
                    for partition in partitions:
                        self._sources.pop(partition, None)
                    events.append(Revoked(0, partitions))
                case bus.Gap(partition, first, end, reason):
                    events.append(Gap(0, partition, first, end, reason))
                case bus.Records(partition, incarnation, records):
                    if len(records) > limit:
                        self._waiting.appendleft(bus.Records(partition, incarnation, records[limit:]))
                        records = records[:limit]
                    limit -= len(records)
                    events.append(Chunk(partition, self._fresh(partition, records)))
        return events

    def _fresh(self, partition: int, records: list[Delivered]) -> list[Delivered]:
        sources = self._sources.setdefault(partition, bus.Sources())
        return [r if sources.fresh(r.offset, r.source) else _without_payload(r) for r in records]


def _remaining(events: list[bus.Event]) -> list[bus.Event]:
    """Without records of partitions that were taken away behind them."""
    kept: list[bus.Event] = []
    gone: set[int] = set()
    for event in reversed(events):
        if isinstance(event, bus.Revoked):
            gone.update(event.partitions)
        if not (isinstance(event, bus.Records) and event.partition in gone):
            kept.append(event)
    return kept[::-1]


def _without_payload(record: Delivered) -> Delivered:
    return Delivered(record.offset, record.time, record.publisher, record.seq, record.key, None, record.source)


def _ended(error: bus.Closed) -> Exception:
    if error.code == Code.FENCED:
        return Fenced(error.reason)
    return TopicDeleted(error.reason)
