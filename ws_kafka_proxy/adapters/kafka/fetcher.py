"""Fetching the partitions of one topic into a bounded queue of events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest

from skep import logs
from skep.wire.proxy import Assigned, Delivered, Gap, Revoked
from ws_kafka_proxy.adapters.kafka import protocol, records
from ws_kafka_proxy.adapters.kafka.client import RETRY, Client
from ws_kafka_proxy.adapters.kafka.cluster import EARLIEST, LATEST, Cluster
from ws_kafka_proxy.core.engine import Chunk, EngineLost, ReaderEvent, TopicDeleted

log = logs.get("bus.kafka")

FETCH = "fetch"
MAX_WAIT = 300
"""A fetch without news is answered after so many ms; so long a new partition of the same leader may wait."""
PARTITION_BYTES = 1 << 20
FETCH_BYTES = 2 << 20
QUEUE_BYTES = 2 << 20
"""Nothing more is fetched while this much waits: a reader holds at most QUEUE_BYTES + FETCH_BYTES a leader."""


def size_of(record: Delivered) -> int:
    return len(record.key or b"") + len(record.payload or b"")


class Fetcher:
    """Partitions are added and removed at any time; `take` gives what came, in order.

    `fail` is called with TopicDeleted when the topic is gone, with EngineLost when another one has its name.
    """

    def __init__(self, cluster: Cluster, client: Client, topic: str, fail: Callable[[Exception], None]) -> None:
        self._cluster = cluster
        self._client = client
        self._topic = topic
        self._fail = fail
        self._topic_id = cluster.topics[topic].id
        self._positions: dict[int, int] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._told: list[ReaderEvent] = []
        self._data: deque[Chunk | Gap] = deque()
        self._size = 0
        self._change = asyncio.Event()
        self._news = asyncio.Event()

    def add(self, partition: int, offset: int) -> None:
        self._positions[partition] = offset
        self._changed()

    def remove(self, partitions: set[int]) -> None:
        """Forget them, and what of them waits."""
        for partition in partitions:
            self._positions.pop(partition, None)
        kept = deque(e for e in self._data if e.partition not in partitions)
        self._data = kept
        self._size = sum(size_of(r) for e in kept if isinstance(e, Chunk) for r in e.records)
        self._changed()

    def tell(self, event: Assigned | Revoked) -> None:
        """Overtakes what was fetched, which is of other partitions."""
        self._told.append(event)
        self._news.set()

    def put(self, event: Chunk | Gap) -> None:
        self._data.append(event)
        self._news.set()

    async def wait(self) -> None:
        """Until something has come, or `wake`. Cancelling loses nothing."""
        await self._news.wait()
        self._news.clear()

    def wake(self) -> None:
        self._news.set()

    def has(self, count: int, size: int) -> bool:
        """Whether `take` would give anything."""
        return bool(self._told or (self._data and count > 0 and size > 0))

    def take(self, count: int, size: int) -> list[ReaderEvent]:
        """At most about `count` records and `size` bytes; one record is never too large for `size`."""
        taken, self._told = self._told, []
        while self._data and count > 0 and size > 0:
            event = self._data.popleft()
            if isinstance(event, Chunk):
                fitting, used = _fitting(event.records, count, size)
                if fitting < len(event.records):
                    self._data.appendleft(Chunk(event.partition, event.records[fitting:]))
                    event = Chunk(event.partition, event.records[:fitting])
                count -= fitting
                size -= used
                self._size -= used
            taken.append(event)
        if self._size < QUEUE_BYTES:
            self._change.set()
        return taken

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- one task a leader

    def _changed(self) -> None:
        leaders = self._leaders()
        if leaders is None:
            self._positions.clear()
            if self._topic in self._cluster.topics:
                self._fail(EngineLost(f"the log of {self._topic} was replaced"))
            else:
                self._fail(TopicDeleted(f"topic {self._topic} was deleted"))
            return
        for node in {leaders[p] for p in self._positions}:
            task = self._tasks.get(node)
            if task is None or task.done():
                self._tasks[node] = asyncio.create_task(self._run(node))
        self._change.set()

    def _leaders(self) -> tuple[int, ...] | None:
        """None: the topic is gone, or another one of the same name."""
        topic = self._cluster.topics.get(self._topic)
        return None if topic is None or topic.id != self._topic_id else topic.leaders

    def _wanted(self, node: int) -> list[tuple[int, int, int]]:
        leaders = self._leaders() or ()
        return [(p, o, PARTITION_BYTES) for p, o in self._positions.items() if leaders and leaders[p] == node]

    async def _run(self, node: int) -> None:
        while wanted := self._wanted(node):
            if self._size >= QUEUE_BYTES:
                self._change.clear()
                await self._change.wait()
            elif not await self._fetch(node, wanted):
                await asyncio.sleep(RETRY)
                await self._cluster.refresh()
                self._changed()
        self._changed()

    async def _fetch(self, node: int, wanted: list[tuple[int, int, int]]) -> bool:
        """False: leaders have to be looked up again."""
        if node < 0:
            return False
        request = FetchRequest(MAX_WAIT, 1, FETCH_BYTES, 0, [(self._topic, wanted)])
        try:
            response = await self._client.send(node, request, group=FETCH)
        except KafkaError as error:
            log.debug("fetch of %s from node %s: %s", self._topic, node, error)
            return False
        fine: bool = response.error_code == protocol.NO_ERROR
        asked = {p: offset for p, offset, _ in wanted}
        for _, partitions in response.topics:
            for partition, code, *rest in partitions:
                # Taken away, or given anew at another place, while the fetch was under way.
                if self._positions.get(partition) == asked[partition]:
                    fine &= await self._fetched(partition, asked[partition], code, rest)
        return fine

    async def _fetched(self, partition: int, offset: int, code: int, rest: list[Any]) -> bool:
        if code == protocol.OFFSET_OUT_OF_RANGE:
            await self._out_of_range(partition, offset)
            return True
        if code != protocol.NO_ERROR:
            log.debug("fetch of %s/%s: Kafka answered %s", self._topic, partition, code)
            return False
        delivered, position = records.parse(rest[-1] or b"", offset)
        self._positions[partition] = position
        if delivered:
            self._size += sum(map(size_of, delivered))
            self.put(Chunk(partition, delivered))
        return True

    async def _out_of_range(self, partition: int, offset: int) -> None:
        """Retention was faster than we (or the log is a new, shorter one): go on with what is there."""
        await self._cluster.refresh()
        try:
            first = (await self._cluster.offsets(self._topic, {partition: EARLIEST}))[partition]
            end = (await self._cluster.offsets(self._topic, {partition: LATEST}))[partition]
        except KeyError:
            return
        if self._positions.get(partition) != offset or first <= offset <= end:
            return
        if offset < first:
            self.put(Gap(0, partition, offset, first, "removed by retention before it was read"))
        self._positions[partition] = first


def _fitting(delivered: list[Delivered], count: int, size: int) -> tuple[int, int]:
    """How many of the first records are within the limits, at least one; and their bytes."""
    used = 0
    for n, record in enumerate(delivered[:count]):
        if n and used + size_of(record) > size:
            return n, used
        used += size_of(record)
    return min(count, len(delivered)), used
