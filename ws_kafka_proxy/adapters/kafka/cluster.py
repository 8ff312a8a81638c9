"""What is known of the Kafka cluster: topics with their ids and leaders, log ends; making and deleting topics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import AlterConfigsRequest, CreateTopicsRequest, DeleteTopicsRequest
from aiokafka.protocol.offset import OffsetRequest

from skep import logs
from ws_kafka_proxy.adapters.kafka import protocol
from ws_kafka_proxy.adapters.kafka.client import RETRY, Client, Connect, started

log = logs.get("bus.kafka")

LATEST, EARLIEST = -1, -2
TOPIC_TIMEOUT = 15.0
"""For making or deleting a topic until every broker shows it, seconds."""

ADMIN = "admin"
_TOPIC = 2
"""The kind of resource whose configuration it is."""


class Topic(NamedTuple):
    """id: 32 hex digits, another one when the topic is made again. leaders[p]: node or -1."""

    id: str
    leaders: tuple[int, ...]


class TopicRefused(Exception):
    """The brokers don't take this topic, as it was asked for."""


class Cluster:
    """Shared by writer and readers. `client`: for everything that is not a reader's."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect
        self.topics: dict[str, Topic] = {}
        self.client: Client
        self._refreshing: asyncio.Task[bool] | None = None

    async def start(self) -> None:
        self.client = await started(self.connect)
        await self._until(lambda: True)

    async def stop(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
        await self.client.close()

    def leader(self, topic: str, partition: int) -> int:
        """-1: nobody at the moment. Raises KeyError for a missing topic or partition."""
        leaders = self.topics[topic].leaders
        if partition >= len(leaders):
            raise KeyError(topic)
        return leaders[partition]

    @property
    def brokers(self) -> int:
        return len(self.client.cluster.brokers())

    async def refresh(self) -> bool:
        """Ask for all topics. Those who call at the same time share one question. False: no answer."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        return await asyncio.shield(self._refreshing)

    async def _refresh(self) -> bool:
        try:
            response = await self.ask(protocol.MetadataRequest())
        except KafkaError as error:
            log.debug("no metadata: %s", error)
            return False
        topics = {}
        for code, name, topic_id, _internal, partitions, *_ in response.topics:
            if code == protocol.NO_ERROR:
                leaders = {p[1]: p[2] for p in partitions}
                topics[name] = Topic(topic_id.hex(), tuple(leaders.get(i, -1) for i in range(len(leaders))))
        self.topics = topics
        return True

    async def ask(self, request: Any, connection: Hashable = ADMIN) -> Any:
        """Send to any broker. Raises KafkaError."""
        node = self.client.get_random_node()
        return await self.client.send(node, request, group=connection)

    async def offsets(self, topic: str, times: dict[int, int], client: Client | None = None) -> dict[int, int]:
        """For each partition the first offset at or after a time (ms), LATEST or EARLIEST; -1 where there is none.

        Retries while leaders are away. Raises KeyError for a missing topic.
        """
        found: dict[int, int] = {}
        while True:
            by_node: dict[int, list[tuple[int, int]]] = {}
            for partition, time in times.items():
                if partition not in found:
                    by_node.setdefault(self.leader(topic, partition), []).append((partition, time))
            if not by_node:
                return found
            for node, wanted in by_node.items():
                if node >= 0:
                    found.update(await self._offsets(client or self.client, node, topic, wanted))
            if len(found) < len(times):
                await asyncio.sleep(RETRY)
                await self.refresh()

    async def _offsets(self, client: Client, node: int, topic: str, wanted: list[tuple[int, int]]) -> dict[int, int]:
        try:
            response = await client.send(node, OffsetRequest(-1, 0, [(topic, wanted)]), group=ADMIN)
        except KafkaError as error:
            log.debug("no offsets of %s from node %s: %s", topic, node, error)
            return {}
        return {
            partition: offset
            for _, partitions in response.topics
            for partition, code, _, offset in partitions
            if code == protocol.NO_ERROR
        }

    async def create(self, topic: str, partitions: int, replicas: int, config: dict[str, str]) -> None:
        """Returns when it can be used. A topic that exists is left as it is. Raises TopicRefused, TimeoutError."""
        request = CreateTopicsRequest([(topic, partitions, replicas, [], list(config.items()))], 5_000, False)
        async with asyncio.timeout(TOPIC_TIMEOUT):
            while True:
                code, text = await self._topic_code(request)
                if code in (protocol.NO_ERROR, protocol.TOPIC_EXISTS):
                    break
                if code in (protocol.INVALID_TOPIC, protocol.POLICY_VIOLATION, 37, 38, 40, 42):
                    raise TopicRefused(f"topic {topic}: {text}")
                await asyncio.sleep(RETRY)
            await self._until(lambda: topic in self.topics and -1 not in self.topics[topic].leaders)

    async def configure(self, topic: str, config: dict[str, str]) -> None:
        """Give a topic this configuration and no other. Raises TopicRefused, TimeoutError."""
        request = AlterConfigsRequest([(_TOPIC, topic, list(config.items()))])
        async with asyncio.timeout(TOPIC_TIMEOUT):
            while True:
                code, text = await self._topic_code(request)
                if code == protocol.NO_ERROR:
                    return
                if code in (protocol.INVALID_TOPIC, protocol.POLICY_VIOLATION, protocol.UNKNOWN_TOPIC, 40, 42):
                    raise TopicRefused(f"topic {topic}: {text}")
                await asyncio.sleep(RETRY)

    async def delete(self, topic: str) -> None:
        """Returns when it is gone. Raises TopicRefused, TimeoutError."""
        request = DeleteTopicsRequest([topic], 5_000)
        async with asyncio.timeout(TOPIC_TIMEOUT):
            while True:
                code, text = await self._topic_code(request)
                if code in (protocol.NO_ERROR, protocol.UNKNOWN_TOPIC):
                    break
                if code in (protocol.INVALID_TOPIC, protocol.TOPIC_AUTHORIZATION_FAILED):
                    raise TopicRefused(f"topic {topic}: {text}")
                await asyncio.sleep(RETRY)
            await self._until(lambda: topic not in self.topics)

    async def _until(self, met: Callable[[], bool]) -> None:
        """Until fresh metadata meets the condition."""
        while True:
            if await self.refresh() and met():
                return
            await asyncio.sleep(RETRY / 4)

    async def _topic_code(
        self, request: CreateTopicsRequest | DeleteTopicsRequest | AlterConfigsRequest
    ) -> tuple[int, str]:
        """The answer for the one topic of an admin request; -1 where there was none."""
        try:
            response = await self.ask(request)
        except KafkaError as error:
            return -1, str(error)
        if isinstance(request, AlterConfigsRequest):
            code, text, *_ = response.resources[0]
            return code, text or f"error {code}"
        if isinstance(request, CreateTopicsRequest):
            _, code, text = response.topic_errors[0]
            return code, text or f"error {code}"
        _, code = response.topic_error_codes[0]
        return code, f"error {code}"
