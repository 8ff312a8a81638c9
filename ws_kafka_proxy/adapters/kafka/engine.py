"""The engine port on Kafka."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import ApiVersionRequest, ListGroupsRequest
from aiokafka.protocol.commit import OffsetFetchRequest

from skep import logs
from skep.wire import topics
from skep.wire.proxy import Code, Failure, Record, Start
from ws_kafka_proxy.adapters.kafka.client import REQUEST_TIMEOUT, RETRY, Client, started
from ws_kafka_proxy.adapters.kafka.cluster import EARLIEST, LATEST, Cluster, TopicRefused
from ws_kafka_proxy.adapters.kafka.reader import KafkaReader, MemberReader
from ws_kafka_proxy.adapters.kafka.writer import Call, Result, Writer
from ws_kafka_proxy.core.engine import DRAIN_SESSION, EngineLost
from ws_kafka_proxy.core.partition import place

log = logs.get("bus.kafka")

MAX_RECORD = 2 << 20
"""`max.message.bytes` of our topics: a body of 1 MiB with all that travels beside it."""
MEASURE = 5.0
"""Seconds between two measurements of the lag."""
DESCRIBE_TIMEOUT = 5.0
STOP_TIMEOUT = 3.0


class KafkaEngine:
    """bootstrap: "host:port,host:port". partitions: of topics that leave it to the proxy's setting. replicas 0: as
    many as there are brokers, at most 3. session: seconds a vanished member keeps its partitions. security: keyword
    arguments of aiokafka's client (TLS, SASL)."""

    name = "kafka"

    def __init__(
        self,
        bootstrap: str,
        partitions: int = 8,
        replicas: int = 0,
        session: float = 2.0,
        security: dict[str, Any] | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._partitions = partitions
        self._replicas = replicas
        self._session = session
        self._security = security or {}
        self._cluster = Cluster(self._connect)
        self._writer = Writer(self._cluster)
        self._lag: dict[str, int] = {}
        self._turn = 0
        self._looked_up: dict[str, list[tuple[Call, int, int, Record]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._readers: set[KafkaReader] = set()
        self._opening: set[asyncio.Future[None]] = set()

    def _connect(self) -> Client:
        return Client(self._bootstrap, self._security)

    async def start(self) -> None:
        await self._cluster.start()
        # From here on our own log tells what is wrong, once, and not each library connection at each try.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        await self._make_topics()
        self._writer.start()
        self._tasks.add(asyncio.create_task(self._watch_loop()))

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._opening:  # whoever wanted them has gone, and what was begun is being closed
            await asyncio.wait(self._opening, timeout=STOP_TIMEOUT)
        await asyncio.gather(*(reader.close(leave=False) for reader in self._readers))
        await self._writer.stop(STOP_TIMEOUT)
        await self._cluster.stop()

    # -- appending

    def append(self, publisher: int, records: list[Record]) -> asyncio.Future[list[Result]]:
        call = Call(len(records))
        self._turn += 1
        for index, record in enumerate(records):
            pending = self._looked_up.get(record.topic)
            if pending is not None:  # behind those that came first
                pending.append((call, index, publisher, record))
            elif not self._put(call, index, publisher, record):
                self._looked_up[record.topic] = [(call, index, publisher, record)]
                task = asyncio.create_task(self._look_up(record.topic))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return call.done

    async def _look_up(self, topic: str) -> None:
        """A topic that perhaps another proxy has just made. What comes for it meanwhile waits in line."""
        answered = False
        try:
            answered = await self._cluster.refresh()
        finally:
            for call, index, publisher, record in self._looked_up.pop(topic):
                if not self._put(call, index, publisher, record):
                    call.settle(index, _unknown(topic, answered))

    def _put(self, call: Call, index: int, publisher: int, record: Record) -> bool:
        """False: no such topic is known."""
        count = self.partitions(record.topic)
        if count is None:
            return False
        partition = place(record, count, self._turn)
        if isinstance(partition, Failure):
            call.settle(index, partition)
        else:
            self._writer.put(call, index, publisher, record, partition)
        return True

    # -- reading

    async def reader(
        self, topic: str, group: str | None, member: str, start: Start, drain: bool = False
    ) -> KafkaReader:
        opening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._opening.add(opening)
        try:
            return await self._opened(topic, group, member, start, drain)
        finally:
            self._opening.discard(opening)
            opening.set_result(None)

    async def _opened(self, topic: str, group: str | None, member: str, start: Start, drain: bool) -> KafkaReader:
        if topic not in self._cluster.topics:
            await self._cluster.refresh()
        count = len(self._cluster.topics[topic].leaders)
        client = await started(self._connect)
        reader: KafkaReader
        if group is None:
            reader = KafkaReader(self._cluster, client, topic, start)
        else:
            session = max(self._session, DRAIN_SESSION) if drain else self._session
            reader = MemberReader(self._cluster, client, topic, start, _group_id(group, topic), member, session, drain)
        self._readers = {r for r in self._readers if not r.closed} | {reader}
        try:
            await reader.open(set(range(count)))
        except BaseException:
            await reader.close(leave=False)
            raise
        return reader

    # -- topics

    def names(self) -> list[str]:
        return sorted(name for name in self._cluster.topics if topics.is_durable(name))

    def partitions(self, topic: str) -> int | None:
        known = self._cluster.topics.get(topic)
        return None if known is None else len(known.leaders)

    async def describe(self, topic: str) -> tuple[str, list[tuple[int, int]]]:
        if topic not in self._cluster.topics:
            await self._cluster.refresh()
        known = self._cluster.topics[topic]
        count = len(known.leaders)
        try:
            async with asyncio.timeout(DESCRIBE_TIMEOUT):
                first = await self._cluster.offsets(topic, dict.fromkeys(range(count), EARLIEST))
                end = await self._cluster.offsets(topic, dict.fromkeys(range(count), LATEST))
        except TimeoutError as error:
            raise EngineLost(f"Kafka does not answer for {topic}") from error
        return known.id, [(first[p], end[p]) for p in range(count)]

    async def positions(self, topic: str) -> dict[str, dict[int, int]]:
        count = self.partitions(topic)
        if count is None:
            raise KeyError(topic)
        found = {}
        try:
            async with asyncio.timeout(DESCRIBE_TIMEOUT):
                for group in await self._groups():
                    name, _, of = group.partition("/")
                    if of == topic:
                        found[name] = await self._committed(group, topic, count)
        except (TimeoutError, KafkaError) as error:
            raise EngineLost(f"Kafka does not answer for the groups of {topic}") from error
        return found

    async def create(self, topic: str, partitions: int, retention: int) -> None:
        """Raises EngineLost, also where Kafka's policies don't take the topic or its retention."""
        try:
            await self._create(topic, topics.Durable(partitions, retention))
        except (TopicRefused, TimeoutError) as error:
            raise EngineLost(f"topic {topic} was not made: {error}") from error

    async def delete(self, topic: str) -> None:
        """Raises EngineLost."""
        try:
            await self._cluster.delete(topic)
        except (TopicRefused, TimeoutError) as error:
            raise EngineLost(f"topic {topic} was not deleted: {error}") from error

    async def _make_topics(self) -> None:
        for topic, durable in topics.DURABLE.items():
            if topic not in self._cluster.topics:
                await self._create(topic, durable)

    async def _create(self, topic: str, durable: topics.Durable) -> None:
        replicas = self._replicas or min(3, self._cluster.brokers)
        config = {
            # Times that consumers and stores see are the log's, so they rise with the offsets of a partition.
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(MAX_RECORD),
            "min.insync.replicas": "2" if replicas > 2 else "1",
        }
        if durable.compacted:
            config |= {
                "cleanup.policy": "compact",
                # Only closed segments are cleaned: close them soon, and clean when a tenth is superseded.
                "segment.ms": "60000",
                "min.cleanable.dirty.ratio": "0.1",
                "delete.retention.ms": str(topics.HOUR),
            }
        else:
            # Retention removes whole segments: a quarter of it bounds by how much it is late.
            segment = max(60_000, min(durable.retention // 4, 6 * topics.HOUR))
            config |= {
                "cleanup.policy": "delete",
                "retention.ms": str(durable.retention),
                "segment.ms": str(segment),
            }
        if topic in self._cluster.topics:
            await self._cluster.configure(topic, config)
        else:
            await self._cluster.create(topic, durable.partitions or self._partitions, replicas, config)

    # -- health

    async def healthy(self) -> bool:
        try:
            async with asyncio.timeout(1.0):
                await self._cluster.ask(ApiVersionRequest(), "health")
        except (KafkaError, TimeoutError):
            return False
        return True

    def lag(self) -> dict[str, int]:
        return self._lag

    async def _watch_loop(self) -> None:
        """Say when Kafka goes and comes; make our topics where they went; measure the lag."""
        was = True
        while True:
            answers = await self._cluster.refresh()
            if answers != was:
                log.warning("Kafka answers again" if answers else "Kafka does not answer")
            was = answers
            if answers:
                try:
                    await self._make_topics()
                    async with asyncio.timeout(REQUEST_TIMEOUT):
                        self._lag = await self._measure()
                except (KafkaError, TimeoutError, TopicRefused) as error:
                    log.debug("lag not measured: %r", error)
            await asyncio.sleep(MEASURE if answers else 10 * RETRY)

    async def _measure(self) -> dict[str, int]:
        lag: dict[str, int] = {}
        ends: dict[str, dict[int, int]] = {}
        for group in await self._groups():
            topic = group.partition("/")[2]
            count = self.partitions(topic)
            if count is None:
                continue
            if topic not in ends:
                ends[topic] = await self._cluster.offsets(topic, dict.fromkeys(range(count), LATEST))
            committed = await self._committed(group, topic, count)
            lag[group] = sum(max(0, ends[topic][partition] - offset) for partition, offset in committed.items())
        return lag

    async def _groups(self) -> list[str]:
        """Kafka's names of all groups. Raises KafkaError."""
        client = self._cluster.client
        answers = [
            await client.send(broker.nodeId, ListGroupsRequest(), group="lag") for broker in client.cluster.brokers()
        ]
        return [group for answer in answers for group, _type in answer.groups]

    async def _committed(self, group: str, topic: str, count: int) -> dict[int, int]:
        """Partition -> next offset, where there is one. Raises KafkaError."""
        client = self._cluster.client
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        response = await client.send(node, OffsetFetchRequest(group, [(topic, list(range(count)))]), group="lag")
        return {
            partition: offset
            for _, rows in response.topics
            for partition, offset, _, code in rows
            if not code and offset >= 0
        }


def _group_id(group: str, topic: str) -> str:
    """A group of the bus is a group of Kafka for each topic. No name of ours has a slash."""
    return f"{group}/{topic}"


def _unknown(topic: str, answered: bool) -> Failure:
    if answered:
        return Failure(Code.NO_TOPIC, f"no topic {topic}")
    return Failure(Code.UNAVAILABLE, f"Kafka does not answer, and topic {topic} is not known")
