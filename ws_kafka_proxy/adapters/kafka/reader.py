"""Readers: a broadcast subscriber, or a member of a group."""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64decode, b64encode

from skep import logs
from skep.wire.proxy import Assigned, Gap, Revoked, Start
from ws_kafka_proxy.adapters.kafka.client import RETRY, Client
from ws_kafka_proxy.adapters.kafka.cluster import EARLIEST, LATEST, Cluster
from ws_kafka_proxy.adapters.kafka.fetcher import Fetcher
from ws_kafka_proxy.adapters.kafka.member import Member
from ws_kafka_proxy.core.engine import Chunk, Fenced, ReaderEvent, TopicDeleted

log = logs.get("bus.kafka")

COMMIT_PAUSE = 0.02
"""Between two commits of one reader, seconds: positions of that time are written together."""
GRACE = 0.1
"""Seconds in which a member may still acknowledge what it had handled when partitions were taken from it."""
FLUSH = 1.0
"""Longest wait for the last commit when closing, seconds."""
MAX_STATE = 3_000
"""Bytes; in base64 they fill Kafka's default `offset.metadata.max.bytes` of 4096."""


class KafkaReader:
    """A broadcast subscriber: every partition, no positions kept."""

    def __init__(self, cluster: Cluster, client: Client, topic: str, start: Start) -> None:
        self._cluster = cluster
        self._client = client
        self._topic = topic
        self._start = start
        self._incarnation = cluster.topics[topic].id
        self._fetcher = Fetcher(cluster, client, topic, self.failed)
        self._error: Exception | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self, partitions: set[int]) -> None:
        """Returns when the subscription is in effect. Raises KeyError."""
        await self.begin(partitions, {})

    async def read(self, records: int, size: int) -> list[ReaderEvent]:
        while self._error is None and not self._fetcher.has(records, size):
            await self._fetcher.wait()
        if self._error is not None:
            raise self._error
        return self._fetcher.take(records, size)

    def commit(self, partition: int, offset: int, state: bytes) -> None:
        """Broadcast readers have no positions."""

    async def settled(self) -> None:
        """Nor anything to lose."""

    async def close(self, leave: bool) -> None:
        """May be called again, also while it closes."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(leave))
        await asyncio.shield(self._closing)

    async def _close(self, leave: bool) -> None:
        await self._fetcher.stop()
        await self._client.close()

    @property
    def closed(self) -> bool:
        return self._closing is not None and self._closing.done()

    def failed(self, error: Exception) -> None:
        self._error = self._error or error
        self._fetcher.wake()

    async def begin(self, partitions: set[int], committed: dict[int, tuple[int, bytes]]) -> dict[int, tuple[int, int]]:
        """Announce partitions and fetch them, from their committed position or else where `start` says.
        Gives the offset each begins at, and the log's end. Raises KeyError."""
        first = await self._offsets(partitions, EARLIEST)
        end = await self._offsets(partitions, LATEST)
        fresh = {p: 0 for p in partitions if p not in committed}
        begin = await self._fresh(set(fresh), first, end) | {p: offset for p, (offset, _) in committed.items()}
        begun = {}
        for partition in sorted(partitions):
            offset, low, high = begin[partition], first[partition], end[partition]
            # Beyond the end: the log is a new one, so all of it is news.
            position = offset if low <= offset <= high else low
            _, state = committed.get(partition, (0, b""))
            self._fetcher.tell(Assigned(0, partition, position, high, self._incarnation, state))
            if offset < low:
                self._fetcher.put(Gap(0, partition, offset, low, "removed by retention before it was read"))
            begun[partition] = (position, high)
            self._fetcher.add(partition, position)
        return begun

    async def _offsets(self, partitions: set[int], time: int) -> dict[int, int]:
        return await self._cluster.offsets(self._topic, dict.fromkeys(partitions, time), self._client)

    async def _fresh(self, partitions: set[int], first: dict[int, int], end: dict[int, int]) -> dict[int, int]:
        """Where partitions without a committed position begin."""
        start = self._start
        if start.at == "earliest":
            return {p: first[p] for p in partitions}
        if start.at == "offsets":
            return {p: start.offsets.get(p, end[p]) for p in partitions}
        if start.at == "time":
            found = await self._offsets(partitions, start.time)
            return {p: found[p] if found[p] >= 0 else end[p] for p in partitions}
        return {p: end[p] for p in partitions}


class MemberReader(KafkaReader):
    """A member of a group. drain: what is to move waits until all that was read of it is committed."""

    def __init__(
        self,
        cluster: Cluster,
        client: Client,
        topic: str,
        start: Start,
        group: str,
        instance: str,
        session: float,
        drain: bool,
    ) -> None:
        super().__init__(cluster, client, topic, start)
        self._drain = drain
        self._draining: set[int] = set()
        self._handed: dict[int, int] = {}
        self._member = Member(cluster, client, group, instance, session, topic, self)
        self._announced: set[int] = set()
        self._leaving: set[int] = set()
        self._positions: dict[int, int] = {}
        self._pending: dict[int, tuple[int, str]] = {}
        self._commit = asyncio.Event()
        self._committer: asyncio.Task[None] | None = None
        self._joined = asyncio.Event()
        self._progress = asyncio.Event()
        """A position was committed, or written."""

    async def open(self, partitions: set[int]) -> None:
        """Returns when the group has given this member its share."""
        self._member.start()
        self._committer = asyncio.create_task(self._commit_loop())
        await self._joined.wait()
        if isinstance(self._error, TopicDeleted):
            raise KeyError(self._topic)

    async def read(self, records: int, size: int) -> list[ReaderEvent]:
        events = await super().read(records, size)
        for event in events:
            if isinstance(event, Chunk):
                self._handed[event.partition] = event.records[-1].offset + 1
        return events

    async def _close(self, leave: bool) -> None:
        if self._committer is not None:
            self._committer.cancel()
            await asyncio.gather(self._committer, return_exceptions=True)
        await self._flush()
        await self._member.stop(leave)
        await super()._close(leave)

    def commit(self, partition: int, offset: int, state: bytes) -> None:
        if partition in self._announced | self._leaving and offset >= self._positions[partition]:
            self._positions[partition] = offset
            self._pending[partition] = (offset, b64encode(state[:MAX_STATE]).decode())
            self._commit.set()
            self._progress.set()

    async def settled(self) -> None:
        wanted = self._pending.copy()
        while not self.closed and any(self._pending.get(p) == wanted[p] for p in wanted):
            self._progress.clear()
            await self._progress.wait()

    def failed(self, error: Exception) -> None:
        super().failed(error)
        self._joined.set()

    # -- the membership's news

    async def gained(self, partitions: set[int]) -> None:
        if not partitions:
            self._joined.set()
            return
        committed = {p: (o, _state(m)) for p, (o, m) in (await self._member.committed(partitions)).items()}
        try:
            begun = await self.begin(partitions, committed)
        except KeyError:
            self.failed(TopicDeleted(f"topic {self._topic} was deleted"))
            return
        self._announced |= partitions
        offsets = self._start.offsets if self._start.at == "offsets" else {}
        for partition, (offset, end) in begun.items():
            self._positions[partition] = offset
            self._handed[partition] = max(offset, min(offsets.get(partition, 0), end))
            if partition not in committed:
                # So that records which come while nobody reads are not skipped by a later "latest".
                self.commit(partition, offset, b"")
        self._joined.set()

    def kept(self, partitions: set[int]) -> None:
        for partition in partitions & self._draining:
            self._fetcher.add(partition, self._handed[partition])
        self._draining -= partitions

    async def drained(self, partitions: set[int]) -> None:
        if not self._drain:
            return
        self._fetcher.remove(partitions - self._draining)
        self._draining |= partitions
        while any(self._positions[p] < self._handed[p] for p in partitions & self._announced):
            self._progress.clear()
            await self._progress.wait()

    async def lost(self, partitions: set[int], handed_over: bool) -> None:
        announced = partitions & self._announced
        self._revoke(partitions)
        if handed_over and announced and not self._drain:
            # Acknowledgements that were on their way spare the next owner repetitions.
            self._leaving = announced
            await asyncio.sleep(GRACE)
            self._leaving = set()
        await self._flush(partitions)
        for partition in partitions:
            self._pending.pop(partition, None)
        self._progress.set()

    def _revoke(self, partitions: set[int]) -> None:
        announced = sorted(partitions & self._announced)
        self._announced -= partitions
        self._draining -= partitions
        self._fetcher.remove(partitions)
        if announced:
            self._fetcher.tell(Revoked(0, announced))

    # -- commits

    async def _commit_loop(self) -> None:
        while True:
            await self._commit.wait()
            self._commit.clear()
            try:
                written = await self._write(None)
            except Fenced as error:
                self._revoke(self._announced.copy())
                self.failed(error)
                return
            await asyncio.sleep(COMMIT_PAUSE if written else RETRY)

    async def _write(self, partitions: set[int] | None) -> bool:
        """Write pending positions, of these partitions or all. False: they still wait."""
        offsets = {p: o for p, o in self._pending.items() if partitions is None or p in partitions}
        if not offsets:
            return True
        if not await self._member.commit(offsets):
            self._commit.set()
            return False
        for partition, offset in offsets.items():
            if self._pending.get(partition) == offset:
                del self._pending[partition]
        self._progress.set()
        return True

    async def _flush(self, partitions: set[int] | None = None) -> None:
        try:
            async with asyncio.timeout(FLUSH):
                while True:
                    if await self._write(partitions):
                        return
                    await asyncio.sleep(COMMIT_PAUSE)
        except (TimeoutError, Fenced) as error:
            log.warning("the last positions of a member on %s were not written: %r", self._topic, error)


def _state(metadata: str | None) -> bytes:
    try:
        return b64decode(metadata or "", validate=True)
    except binascii.Error:
        # Committed past the bus, by another program.
        return b""
