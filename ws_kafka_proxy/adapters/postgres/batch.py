"""From appends to one COPY: partitions, offsets and times are given here. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from skep.wire.proxy import Code, Delivered, Failure, Record
from ws_kafka_proxy.adapters.postgres.schema import COPY_HEAD, COPY_TAIL, row
from ws_kafka_proxy.adapters.postgres.topics import Partition, Topic
from ws_kafka_proxy.core.partition import place

Result = list[tuple[int, int] | Failure]


class Call:
    """One append."""

    __slots__ = ("future", "publisher", "records", "result", "size")

    def __init__(self, publisher: int, records: list[Record], future: asyncio.Future[Result]) -> None:
        self.publisher = publisher
        self.records = records
        self.future = future
        self.size = sum(len(r.payload or b"") + 100 for r in records)
        self.result: Result = []


class Batch:
    """`data`: the COPY, empty where every record was refused. `fresh`: what each partition gets by it."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.fresh: dict[Partition, list[Delivered]] = {}
        self.rows: list[bytes] = []

    @property
    def data(self) -> bytes:
        return b"".join((COPY_HEAD, *self.rows, COPY_TAIL)) if self.rows else b""

    def commit(self) -> None:
        """It is in the log: tell readers and callers."""
        for partition, records in self.fresh.items():
            partition.grow(records)
        self._answer()

    def refuse(self, failure: Failure) -> None:
        """Nothing of it is in the log."""
        for call in self.calls:
            call.result = [r if isinstance(r, Failure) else failure for r in call.result]
        self._answer()

    def _answer(self) -> None:
        for call in self.calls:
            if not call.future.done():
                call.future.set_result(call.result)


class Planner:
    """clock: ms since the epoch."""

    def __init__(self, topics: Mapping[str, Topic], clock: Callable[[], int]) -> None:
        self._topics = topics
        self._clock = clock

    def expiries(self, calls: Iterable[Call]) -> set[int]:
        """Gives the topics their time of append; the expiries of what is going to be written."""
        now = self._clock()
        topics = {self._topics.get(record.topic) for call in calls for record in call.records}
        found = set()
        for topic in topics:
            if topic is not None:
                topic.time = max(topic.time, now)
                found.add(topic.expiry(topic.time))
        return found

    def plan(self, calls: list[Call]) -> Batch:
        """In order, in the state of the partitions as of now."""
        batch = Batch(calls)
        for call in calls:
            call.result = [self._place(batch, call.publisher, record) for record in call.records]
        return batch

    def _place(self, batch: Batch, publisher: int, record: Record) -> tuple[int, int] | Failure:
        topic = self._topics.get(record.topic)
        if topic is None:
            return Failure(Code.NO_TOPIC, f"no topic {record.topic}")
        topic.turn += 1
        number = place(record, len(topic.partitions), topic.turn)
        if isinstance(number, Failure):
            return number
        partition = topic.partitions[number]
        fresh = batch.fresh.get(partition)
        if fresh is None:
            fresh = batch.fresh[partition] = []
        offset = partition.next + len(fresh)
        time = topic.time
        batch.rows.append(row(topic.id, number, offset, topic.expiry(time), time, publisher, record))
        fresh.append(Delivered(offset, time, publisher, record.seq, record.key, record.payload, record.source))
        return number, offset
