"""The PostgreSQL log: the engine of the light set. One process writes, holding an advisory lock.

Appends of one loop turn are one COPY, which is one transaction. While it runs the next ones gather. After the commit
they are confirmed and handed to live readers from memory.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable

from skep import logs
from skep.wire import topics as catalogue
from skep.wire.proxy import Code, Failure, Record, Start
from ws_kafka_proxy.adapters.postgres.appender import Appender
from ws_kafka_proxy.adapters.postgres.batch import Planner, Result
from ws_kafka_proxy.adapters.postgres.groups import Group, GroupReader
from ws_kafka_proxy.adapters.postgres.leaves import Leaves
from ws_kafka_proxy.adapters.postgres.options import Options
from ws_kafka_proxy.adapters.postgres.positions import Positions
from ws_kafka_proxy.adapters.postgres.reader import LogReader
from ws_kafka_proxy.adapters.postgres.store import PartitionRow, PositionRow, Store, StoreLost, TopicRow
from ws_kafka_proxy.adapters.postgres.topics import Topic
from ws_kafka_proxy.adapters.postgres.upkeep import Upkeep
from ws_kafka_proxy.core.engine import EngineLost, Reader, TopicDeleted

log = logs.get("bus.postgres")


class PostgresLog:
    """Implements `core.engine.Engine`. clock: ms since the epoch. standby: called with True when another process
    holds the lock, so that this one's clients go there, and with False when this one does."""

    name = "postgres"

    def __init__(
        self,
        url: str,
        options: Options,
        clock: Callable[[], int],
        standby: Callable[[bool], None] = lambda waiting: None,
    ) -> None:
        self._options = options
        boot = secrets.token_hex(4)
        name = f"skep-bus {boot}"
        self._boot = boot
        self._epoch = 0
        self._overtaken = False
        """Another process was the writer since we loaded last."""
        self._store = Store(url, name, options.deadline)
        self._positions = Positions(self._store, log)
        self._names: dict[str, Topic] = {}
        self.topics: dict[int, Topic] = {}
        self.groups: dict[tuple[str, str], Group] = {}
        self._leaves = Leaves(self._store, round(options.leaf * 1000))
        self._appender = Appender(
            url, name, options, self._store, self._leaves, Planner(self._names, clock), self._load, standby
        )
        self._upkeep = Upkeep(self, self._store, self._leaves, options, clock)
        self._tasks: list[asyncio.Task[None]] = []

    # -- life

    async def start(self) -> None:
        self._tasks.append(asyncio.create_task(self._appender.run()))
        await self._appender.ready.wait()
        self._tasks.append(asyncio.create_task(self._upkeep.run()))

    async def stop(self) -> None:
        await self._positions.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for topic in self.topics.values():
            self._end_readers(topic, EngineLost("the engine stops"))
        await self._store.close()

    @property
    def ready(self) -> bool:
        """Whether this process is the log's writer and connected."""
        return self._appender.ready.is_set()

    @property
    def written(self) -> int:
        """Bytes written since the start."""
        return self._appender.written

    async def healthy(self) -> bool:
        if not self.ready:
            return False
        try:
            async with asyncio.timeout(1):
                await self._store.ping()
        except (TimeoutError, StoreLost):
            return False
        return True

    async def _load(self) -> None:
        """As the new writer: see what is there, make what is missing."""
        store = self._store
        await store.prepare()
        epoch = await store.begin(self._boot)
        self._overtaken = self._overtaken or epoch != self._epoch + 1
        self._epoch = self._positions.epoch = epoch
        topics, partitions, positions = await store.load()
        self._forget_replaced(topics, partitions)
        for row in topics:
            self._adopt(row)
        for part in partitions:
            self.topics[part.topic].catch_up(part)
        self._restore(positions)
        for name, kept in catalogue.DURABLE.items():
            await self._create(name, kept.partitions or self._options.partitions, kept.retention, kept.compacted)
        await self._leaves.load()
        self._overtaken = False

    def _forget_replaced(self, topics: list[TopicRow], partitions: list[PartitionRow]) -> None:
        """Drop what is in memory of topics that are not the ones we knew, or that others wrote meanwhile."""
        there = {row.name: row.incarnation for row in topics}
        short = {p.topic for p in partitions if p.topic in self.topics and self.topics[p.topic].is_past(p)}
        for topic in list(self.topics.values()):
            if self._overtaken or topic.id in short or there.get(topic.name) != topic.incarnation:
                self._drop(topic, EngineLost(f"the log of {topic.name} was replaced"))

    def _restore(self, positions: Iterable[PositionRow]) -> None:
        known = set(self.groups)
        for row in positions:
            topic = self.topics[row.topic]
            if (row.group, topic.name) not in known:
                group = self._group(row.group, topic)
                group.restore(row.part, row.offset, row.state, row.member)
        for key in known:
            self.groups[key].save_all()

    # -- topics

    def names(self) -> list[str]:
        return sorted(self._names)

    def partitions(self, topic: str) -> int | None:
        known = self._names.get(topic)
        return None if known is None else len(known.partitions)

    async def describe(self, topic: str) -> tuple[str, list[tuple[int, int]]]:
        known = self._names[topic]
        return known.incarnation, [(p.first, p.next) for p in known.partitions]

    async def positions(self, topic: str) -> dict[str, dict[int, int]]:
        if topic not in self._names:
            raise KeyError(topic)
        groups = {name: group for (name, of), group in self.groups.items() if of == topic}
        return {name: {p: offset for p, (offset, _) in group.positions.items()} for name, group in groups.items()}

    async def create(self, topic: str, partitions: int, retention: int) -> None:
        await self._create(topic, partitions, retention, False)

    async def _create(self, topic: str, partitions: int, retention: int, compacted: bool) -> None:
        known = self._names.get(topic)
        if known is not None and known.retention == retention:
            return
        try:
            if known is None:
                self._adopt(await self._store.create_topic(topic, partitions, retention, compacted))
            else:
                # What was appended keeps its own: when something behind it goes, it is out of reach as well.
                await self._store.retain_topic(known.id, retention)
                known.retention = retention
        except StoreLost as error:
            raise EngineLost(str(error)) from error

    def _adopt(self, row: TopicRow) -> None:
        if row.name not in self._names:
            self._names[row.name] = self.topics[row.id] = Topic(row)

    async def delete(self, topic: str) -> None:
        known = self._names.get(topic)
        if known is None:
            return
        try:
            await self._store.delete_topic(known.id)
        except StoreLost as error:
            raise EngineLost(str(error)) from error
        self._drop(known, TopicDeleted(f"topic {topic} was deleted"))
        self._upkeep.purge(known.id)

    def _drop(self, topic: Topic, error: Exception) -> None:
        self._names.pop(topic.name, None)
        self.topics.pop(topic.id, None)
        self._end_readers(topic, error)

    def _end_readers(self, topic: Topic, error: Exception) -> None:
        for key in [key for key in self.groups if key[1] == topic.name]:
            self.groups.pop(key).end(error)
        for part in topic.partitions:
            for reader in list(part.readers):
                reader.end(error)

    def lag(self) -> dict[str, int]:
        return {f"{name}/{topic}": group.lag() for (name, topic), group in self.groups.items()}

    # -- records

    def append(self, publisher: int, records: list[Record]) -> asyncio.Future[Result]:
        if self._options.limit and self._upkeep.used > self._options.limit:
            full: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            full.set_result([Failure(Code.FULL, "the log is at its size limit")] * len(records))
            return full
        return self._appender.append(publisher, records)

    async def reader(self, topic: str, group: str | None, member: str, start: Start, drain: bool = False) -> Reader:
        known = self._names[topic]
        shared = None if group is None else self._group(group, known)
        missing = [p.number for p in known.partitions if shared is None or p.number not in shared.positions]
        offsets = await self._offsets(known, missing, start)
        if self._names.get(topic) is not known:
            raise KeyError(topic)
        if shared is not None:
            shared.begin(offsets)
            handed = start.offsets if start.at == "offsets" else {}
            member_reader = GroupReader(known, self._store, shared, member, handed if drain else None)
            shared.join(member, member_reader)
            return member_reader
        reader = LogReader(known, self._store)
        for partition, offset in offsets.items():
            reader.give(partition, offset)
        return reader

    def _group(self, name: str, topic: Topic) -> Group:
        group = self.groups.get((name, topic.name))
        if group is None:
            positions = self._positions
            timeout = self._options.session_timeout
            group = self.groups[name, topic.name] = Group(name, topic, timeout, positions.write, positions.flushed)
        return group

    async def _offsets(self, topic: Topic, partitions: Iterable[int], start: Start) -> dict[int, int]:
        """Where each partition begins. Raises EngineLost."""
        found: dict[int, int] = {}
        for number in partitions:
            part = topic.partitions[number]
            if start.at == "earliest":
                found[number] = part.first
            elif start.at == "offsets" and number in start.offsets:
                found[number] = start.offsets[number]
            elif start.at == "time":
                try:
                    found[number] = await self._store.offset_at(topic.id, number, part.first, part.next, start.time)
                except StoreLost as error:
                    raise EngineLost(str(error)) from error
            else:
                found[number] = part.next
        return found
