"""One subscription's way through a topic of the PostgreSQL log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from skep.wire.proxy import Assigned, Delivered, Gap, Revoked
from ws_kafka_proxy.adapters.postgres.store import Store, StoreLost
from ws_kafka_proxy.adapters.postgres.topics import Partition, Topic
from ws_kafka_proxy.core.engine import Chunk, ReaderEvent

BEHIND_RECORDS = 2_000
"""Most records read from the table at once."""
RETRY = 0.2
"""Seconds between tries while PostgreSQL is away."""


class LogReader:
    """Reads from memory what is new, from the table what is older. Implements the port's Reader for broadcast."""

    def __init__(self, topic: Topic, store: Store) -> None:
        self.topic = topic
        self._store = store
        self._events: list[ReaderEvent] = []
        self._positions: dict[int, int] = {}
        self._order: list[int] = []
        self._paused: set[int] = set()
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    # -- what the engine and the group do

    def give(self, partition: int, offset: int, state: bytes = b"") -> None:
        """The partition is ours from `offset`."""
        part = self.topic.partitions[partition]
        start = min(max(offset, part.first), part.next)
        self._events.append(Assigned(0, partition, start, part.next, self.topic.incarnation, state))
        if start > offset:
            self._events.append(Gap(0, partition, offset, start, "retention removed records that were not read"))
        self._positions[partition] = start
        self._order.append(partition)
        part.readers.append(self)
        self.wake()

    def revoke(self, partitions: Iterable[int]) -> None:
        taken = [number for number in partitions if self._positions.pop(number, None) is not None]
        self._paused.difference_update(taken)
        for number in taken:
            self._order.remove(number)
            self.topic.partitions[number].readers.remove(self)
        if taken:
            self._events.append(Revoked(0, sorted(taken)))
            self.wake()

    def pause(self, partitions: set[int]) -> None:
        """Nothing is read of these; of all others it is."""
        self._paused = partitions
        self.wake()

    def end(self, error: Exception) -> None:
        """Every `read` raises this from now on."""
        self.detach()
        self._error = self._error or error
        self.wake()

    def detach(self) -> None:
        for number in self._order:
            self.topic.partitions[number].readers.remove(self)
        self._positions, self._order, self._events = {}, [], []

    def position(self, partition: int) -> int:
        return self._positions[partition]

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- the port

    async def read(self, records: int, size: int) -> list[ReaderEvent]:
        while True:
            if self._error is not None:
                raise self._error
            found, self._events = self._events, []
            behind = self._collect(found, records, size) if records > 0 else None
            if found:
                return found
            if behind is not None:
                found = await self._fetch(behind, min(records, BEHIND_RECORDS), size)
                if found:
                    return found
                continue
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def commit(self, partition: int, offset: int, state: bytes) -> None:
        """A broadcast reader has no position to keep."""

    async def settled(self) -> None:
        """Nor anything to lose."""

    async def close(self, leave: bool) -> None:
        self.detach()

    # -- inside

    def _collect(self, found: list[ReaderEvent], records: int, size: int) -> Partition | None:
        """Adds what is in memory. Returns a partition that must be read from the table, where that comes first."""
        for number in list(self._order):
            if number in self._paused:
                continue
            part = self.topic.partitions[number]
            position = self._positions[number]
            if position < part.first:
                found.append(Gap(0, number, position, part.first, "retention removed records that were not read"))
                position = self._positions[number] = part.first
            if position >= part.next:
                continue
            self._order.remove(number)
            self._order.append(number)  # its turn is over
            if position < part.base:
                if not found:
                    return part
                self._order.insert(0, self._order.pop())
                return None
            taken = _within(part.tail, position - part.base, records, size)
            found.append(Chunk(number, taken))
            self._positions[number] = position + len(taken)
            records -= len(taken)
            size -= sum(len(r.payload or b"") + len(r.key or b"") for r in taken)
            if records <= 0 or size <= 0:
                break
        return None

    async def _fetch(self, part: Partition, records: int, size: int) -> list[ReaderEvent]:
        position, end = self._positions[part.number], part.next
        try:
            rows = await self._store.read(self.topic.id, part.number, position, end, records, size)
        except StoreLost:
            await asyncio.sleep(RETRY)
            return []
        if self._positions.get(part.number) != position or position < part.first or part.number in self._paused:
            return []
        whole = len(rows) < records and sum(len(r.payload or b"") for r in rows) < size
        self._positions[part.number] = end if whole or not rows else rows[-1].offset + 1
        return [Chunk(part.number, rows)] if rows else []


def _within(records: list[Delivered], start: int, limit: int, size: int) -> list[Delivered]:
    """From `start`, at most `limit` and about `size` bytes, at least one."""
    stop = min(len(records), start + max(limit, 1))
    for end in range(start, stop):
        size -= len(records[end].payload or b"") + len(records[end].key or b"")
        if size <= 0:
            return records[start : end + 1]
    return records[start:stop]
