"""Appending: an idempotent producer whose order is the order of calls.

One batch a partition is under way at a time; what comes meanwhile waits and makes the next batch, so batches grow
with the load and nothing waits for a timer. A batch without answer is sent again with the same producer id and
sequence until the broker answers; the broker knows what it has. Only when its numbering and ours differ
(SEQUENCE_ERRORS) nobody can tell what was written: everybody who waits gets EngineLost, and the writer begins anew
with another producer id.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable
from time import time
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from skep import logs
from skep.wire.proxy import Code, Failure, Record
from ws_kafka_proxy.adapters.kafka import protocol, records
from ws_kafka_proxy.adapters.kafka.client import RETRY
from ws_kafka_proxy.adapters.kafka.cluster import Cluster
from ws_kafka_proxy.core.engine import EngineLost

log = logs.get("bus.kafka")

BATCH_BYTES = 1 << 20
MAX_WAITING = 128 << 20
"""Bytes that may wait for the engine; more is refused."""
PRODUCE = "produce"
BROKER_TIMEOUT = 5_000
"""The leader's wait for its replicas, ms."""
REFUSALS = {
    protocol.MESSAGE_TOO_LARGE: Code.TOO_LARGE,
    protocol.RECORD_LIST_TOO_LARGE: Code.TOO_LARGE,
    protocol.INVALID_TOPIC: Code.NO_TOPIC,
    protocol.TOPIC_AUTHORIZATION_FAILED: Code.FORBIDDEN,
    protocol.POLICY_VIOLATION: Code.BAD,
    protocol.INVALID_RECORD: Code.BAD,
}

Result = tuple[int, int] | Failure


class Call:
    """One `append`: `done` gives the results when every record has one."""

    __slots__ = ("crowded", "done", "missing", "results")

    def __init__(self, count: int) -> None:
        self.results: list[Result] = [(-1, -1)] * count
        self.missing = count
        self.crowded = False
        """There was no room for a record of it, so there is none for those behind, be they smaller."""
        self.done: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        if not count:
            self.done.set_result(self.results)

    def settle(self, index: int, result: Result) -> None:
        self.results[index] = result
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(self.results)

    def lose(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(EngineLost(reason))
            self.done.exception()


class Entry(NamedTuple):
    call: Call
    at: int
    record: Record
    headers: records.Headers
    size: int


class Batch(NamedTuple):
    data: bytes
    entries: list[Entry]


class Lane:
    """One partition: what waits, the batch under way, the next sequence number."""

    __slots__ = ("batch", "busy", "partition", "seq", "topic", "topic_id", "waiting")

    def __init__(self, topic: str, topic_id: str, partition: int) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.partition = partition
        self.waiting: deque[Entry] = deque()
        self.batch: Batch | None = None
        self.busy = False
        self.seq = 0


class Writer:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._active: dict[Lane, None] = {}
        self._producer: tuple[int, int] | None = None
        self._size = 0
        self._kicked = False
        self._nodes: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = False
        self._lost: str | None = None

    def start(self) -> None:
        self._spawn_producer()

    async def stop(self, timeout: float) -> None:
        """Write what waits; what is left after `timeout` seconds is lost to its callers."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            self._lose("the proxy stops", again=False)
        self._stopped = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def put(self, call: Call, index: int, publisher: int, record: Record, partition: int) -> None:
        """Append to a partition of a known topic. The order of calls is the order in the partition."""
        if self._lost is not None:
            call.lose(self._lost)
            return
        size = len(record.payload or b"") + len(record.key or b"") + records.OVERHEAD
        if call.crowded or self._size + size > MAX_WAITING:
            call.crowded = True
            call.settle(index, Failure(Code.UNAVAILABLE, "Kafka is away or slow and too much waits for it"))
            return
        topic_id = self._cluster.topics[record.topic].id
        lane = self._lanes.get((record.topic, partition))
        if lane is None or lane.topic_id != topic_id:
            if lane is not None:
                self._abandon(lane)
            lane = self._lanes[record.topic, partition] = Lane(record.topic, topic_id, partition)
        self._size += size
        lane.waiting.append(Entry(call, index, record, records.headers(publisher, record), size))
        self._active[lane] = None
        self._idle.clear()
        self._kick()

    # -- sending

    def _kick(self) -> None:
        """Send at the end of this loop turn, all its calls together."""
        if not self._kicked:
            self._kicked = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._kicked = False
        if self._producer is None or self._stopped:
            return
        by_node: dict[int, list[Lane]] = {}
        for lane in list(self._active):
            if lane.busy:
                continue
            try:
                node = self._cluster.leader(lane.topic, lane.partition)
            except KeyError:
                self._abandon(lane)
                continue
            by_node.setdefault(node, []).append(lane)
        for node, lanes in by_node.items():
            if node not in self._nodes:
                self._nodes.add(node)
                for lane in lanes:
                    lane.busy = True
                self._spawn(self._produce(node, lanes, self._producer))

    def _build(self, lane: Lane, producer: tuple[int, int]) -> Batch:
        builder = DefaultRecordBatchBuilder(
            magic=2,
            compression_type=0,
            is_transactional=0,
            producer_id=producer[0],
            producer_epoch=producer[1],
            base_sequence=lane.seq,
            batch_size=BATCH_BYTES,
        )
        entries: list[Entry] = []
        now = int(time() * 1000)
        while lane.waiting:
            entry = lane.waiting[0]
            record = entry.record
            if builder.append(len(entries), now, record.key, record.payload, entry.headers) is None:
                break
            entries.append(lane.waiting.popleft())
        return Batch(bytes(builder.build()), entries)

    async def _produce(self, node: int, lanes: list[Lane], producer: tuple[int, int]) -> None:
        """One request to one leader. `node` -1: there is none at the moment."""
        try:
            codes = await self._request(node, lanes, producer) if node >= 0 else {}
            if producer == self._producer:
                answers = [self._answered(lane, *codes.get((lane.topic, lane.partition), (-1, -1))) for lane in lanes]
                if not all(answers):
                    await asyncio.sleep(RETRY)
                    await self._cluster.refresh()
        finally:
            self._nodes.discard(node)
            for lane in lanes:
                lane.busy = False
            self._rest(lanes)

    async def _request(
        self, node: int, lanes: list[Lane], producer: tuple[int, int]
    ) -> dict[tuple[str, int], tuple[int, int]]:
        """(topic, partition) -> (error code, offset of the batch's first record); empty: no answer."""
        topics: dict[str, list[tuple[int, bytes]]] = {}
        for lane in lanes:
            if lane.batch is None:
                lane.batch = self._build(lane, producer)
            topics.setdefault(lane.topic, []).append((lane.partition, lane.batch.data))
        request = ProduceRequest(None, -1, BROKER_TIMEOUT, list(topics.items()))
        try:
            response = await self._cluster.client.send(node, request, group=PRODUCE)
        except KafkaError as error:
            log.debug("produce to node %s: %s", node, error)
            return {}
        return {
            (topic, partition): (code, offset)
            for topic, partitions in response.topics
            for partition, code, offset, *_ in partitions
        }

    def _answered(self, lane: Lane, code: int, offset: int) -> bool:
        """The broker's answer for a partition; False when the same must be sent again. -1: no answer."""
        batch = lane.batch
        if batch is None:
            return True
        if code == protocol.NO_ERROR and offset >= 0:
            lane.batch = None
            lane.seq = (lane.seq + len(batch.entries)) % (1 << 31)
            for i, entry in enumerate(batch.entries):
                self._size -= entry.size
                entry.call.settle(entry.at, (lane.partition, offset + i))
            return True
        if code in REFUSALS:
            lane.batch = None
            self._refuse(batch.entries, Failure(REFUSALS[code], f"{lane.topic}: Kafka answered {code}"))
            return True
        if code in protocol.SEQUENCE_ERRORS or code == protocol.NO_ERROR:
            self._lose(f"{lane.topic}/{lane.partition}: Kafka answered {code}")
            return True
        return False

    def _rest(self, lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            if lane.batch is None and not lane.waiting:
                self._active.pop(lane, None)
        if self._active:
            self._kick()
        else:
            self._idle.set()

    # -- what can't be written

    def _refuse(self, entries: Iterable[Entry], failure: Failure) -> None:
        for entry in entries:
            self._size -= entry.size
            entry.call.settle(entry.at, failure)

    def _abandon(self, lane: Lane) -> None:
        """The topic is gone, or made anew."""
        if self._lanes.get((lane.topic, lane.partition)) is lane:
            del self._lanes[lane.topic, lane.partition]
        failure = Failure(Code.NO_TOPIC, f"no topic {lane.topic}")
        batch, lane.batch = lane.batch, None
        self._refuse([*(batch.entries if batch else ()), *lane.waiting], failure)
        lane.waiting.clear()
        self._rest([lane])

    def _lose(self, reason: str, again: bool = True) -> None:
        """Nobody can tell what was written. All that waits must go too: its publishers send it again, in order,
        and nothing that they gave before they could hear of it may come first."""
        log.error("the outcome of writes is unknown, all publishers are dropped: %s", reason)
        for lane in self._active:
            for entry in [*(lane.batch.entries if lane.batch else ()), *lane.waiting]:
                entry.call.lose(reason)
            lane.batch = None
            lane.waiting.clear()
        self._lanes.clear()
        self._active.clear()
        self._size = 0
        self._producer = None
        self._idle.set()
        self._lost = reason
        asyncio.get_running_loop().call_soon(self._accept)
        if again:
            self._spawn_producer()

    def _accept(self) -> None:
        """Every caller has heard."""
        self._lost = None

    def _spawn_producer(self) -> None:
        self._spawn(self._new_producer())

    async def _new_producer(self) -> None:
        while True:
            try:
                response = await self._cluster.ask(InitProducerIdRequest(None, -1))
                if response.error_code == protocol.NO_ERROR:
                    break
            except KafkaError as error:
                log.debug("no producer id: %s", error)
            await asyncio.sleep(RETRY)
        self._producer = (response.producer_id, response.producer_epoch)
        self._kick()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
