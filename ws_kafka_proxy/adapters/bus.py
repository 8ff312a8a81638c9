"""The plugin role's way to the topics: a client of the core proxy, one connection for each subscription.

A connection of its own has an instance name of its own, so several sockets of one plugin are several members of its
group, and a slow one holds up nobody else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from skep import bus
from skep.wire.proxy import Assigned, Code, Delivered, Failure, Gap, Record, Revoked, Start
from ws_kafka_proxy.core.engine import Chunk, Fenced, Reader, ReaderEvent, TopicDeleted

WINDOW = (1_000, 1 << 20)
"""Records and bytes that may wait here for one subscription."""

Connect = Callable[[str], bus.Bus]
"""Makes a client of the core proxy under an instance name."""


class BusTopics:
    """What the JSON dialect needs of an engine, for roles that only read."""

    def __init__(self, shared: bus.Bus, connect: Connect) -> None:
        self._shared = shared
        self._connect = connect

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

    async def reader(self, topic: str, group: str | None, member: str, start: Start) -> Reader:
        """Raises KeyError for a missing topic, TimeoutError when the core proxy does not answer."""
        client = self._connect(member)
        try:
            await client.start()
            records, size = WINDOW
            subscription = await client.subscribe(topic, group, start, records, size)
        except bus.Refused as error:
            await client.close()
            if error.code == Code.NO_TOPIC:
                raise KeyError(topic) from error
            raise TimeoutError(str(error)) from error
        except bus.TimedOut as error:
            await client.close()
            raise TimeoutError(str(error)) from error
        except BaseException:
            await client.close()
            raise
        return BusReader(client, subscription)


class BusReader:
    """The engine port's Reader on a subscription of the bus client. Drops repeated sources."""

    def __init__(self, client: bus.Bus, subscription: bus.Subscription) -> None:
        self._client = client
        self._subscription = subscription
        self._waiting: deque[bus.Event] = deque()
        self._sources: dict[int, bus.Sources] = {}

    async def read(self, records: int, size: int) -> list[ReaderEvent]:
        """At least one record; `size` is bounded by WINDOW."""
        while True:
            if not self._waiting:
                try:
                    self._waiting.extend(await self._subscription.next())
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
        await self._client.close()

    def _take(self, count: int) -> list[ReaderEvent]:
        events: list[ReaderEvent] = []
        while self._waiting and count > 0:
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
                    if len(records) > count:
                        self._waiting.appendleft(bus.Records(partition, incarnation, records[count:]))
                        records = records[:count]
                    count -= len(records)
                    fresh = self._fresh(partition, records)
                    if fresh:
                        events.append(Chunk(partition, fresh))
        return events

    def _fresh(self, partition: int, records: list[Delivered]) -> list[Delivered]:
        sources = self._sources.setdefault(partition, bus.Sources())
        return [r for r in records if sources.fresh(r.offset, r.source)]


def _ended(error: bus.Closed) -> Exception:
    if error.code == Code.FENCED:
        return Fenced(error.reason)
    return TopicDeleted(error.reason)
