"""What the PostgreSQL log keeps in memory of topics, partitions and their newest records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.wire.proxy import Delivered
from ws_kafka_proxy.adapters.postgres.schema import NEVER
from ws_kafka_proxy.adapters.postgres.store import PartitionRow, TopicRow

if TYPE_CHECKING:
    from ws_kafka_proxy.adapters.postgres.reader import LogReader

TAIL_BYTES = 8 << 20
"""Newest records kept for readers of one partition; who is further behind reads the table."""


class Partition:
    """`first`, `next`: offsets that can be read, `next` committed. `tail`: the records before `next`, without holes."""

    def __init__(self, topic: Topic, number: int, first: int, next: int) -> None:
        self.topic = topic
        self.number = number
        self.first = first
        self.next = next
        self.readers: list[LogReader] = []
        self.tail: list[Delivered] = []
        self._size = 0

    @property
    def base(self) -> int:
        """Offset of the tail's first record."""
        return self.next - len(self.tail)

    def grow(self, records: list[Delivered]) -> None:
        """Committed records; live readers are woken."""
        self.next += len(records)
        if not self.readers:
            self.forget()  # a tail with a hole before `next` would give its records wrong offsets
            return
        self._trim()
        self.tail += records
        self._size += sum(len(r.payload or b"") + 100 for r in records)
        if self._size > TAIL_BYTES:
            self.forget()
        for reader in self.readers:
            reader.wake()

    def _trim(self) -> None:
        """Drop what every reader has had."""
        done = min(reader.position(self.number) for reader in self.readers) - self.base
        if done >= len(self.tail):
            self.forget()
        elif done > 1000:
            self._size -= sum(len(r.payload or b"") + 100 for r in self.tail[:done])
            del self.tail[:done]

    def forget(self) -> None:
        self.tail = []
        self._size = 0

    def raise_floor(self, first: int) -> None:
        """Retention removed what was before `first`."""
        if first > self.first:
            self.first = first
            for reader in self.readers:
                reader.wake()


class Topic:
    """`time`: the newest append time, ms; it never falls."""

    def __init__(self, row: TopicRow) -> None:
        self.id = row.id
        self.name = row.name
        self.incarnation = row.incarnation
        self.retention = row.retention
        self.compacted = row.compacted
        self.partitions = [Partition(self, number, 0, 0) for number in range(row.partitions)]
        self.time = 0
        self.turn = 0

    def is_past(self, row: PartitionRow) -> bool:
        """Whether more was committed here than the table has."""
        return row.next < self.partitions[row.part].next

    def catch_up(self, row: PartitionRow) -> None:
        """What the table has; records of a COPY without outcome may be among it."""
        self.time = max(self.time, row.time)
        part = self.partitions[row.part]
        part.first = max(part.first, row.first)
        if row.next != part.next:
            part.forget()
            part.next = row.next
            for reader in part.readers:
                reader.wake()

    def expiry(self, now: int) -> int:
        """Of a record appended now."""
        return NEVER if self.compacted else now + self.retention
