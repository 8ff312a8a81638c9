"""Retention, compaction and measuring of the PostgreSQL log, in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

import psycopg

from skep import logs
from ws_kafka_proxy.adapters.postgres.groups import Group
from ws_kafka_proxy.adapters.postgres.leaves import Leaves
from ws_kafka_proxy.adapters.postgres.options import Options
from ws_kafka_proxy.adapters.postgres.store import Store, StoreLost
from ws_kafka_proxy.adapters.postgres.topics import Topic

log = logs.get("bus.postgres")


class Log(Protocol):
    """What upkeep needs of the engine."""

    topics: dict[int, Topic]
    groups: dict[tuple[str, str], Group]

    @property
    def ready(self) -> bool: ...

    @property
    def written(self) -> int: ...


class Upkeep:
    """clock: ms since the epoch."""

    def __init__(self, engine: Log, store: Store, leaves: Leaves, options: Options, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._store = store
        self._leaves = leaves
        self._options = options
        self._clock = clock
        self._measured = 0
        self._written = 0
        self._deleted: list[int] = []
        self._turn = asyncio.Lock()

    @property
    def used(self) -> int:
        """Bytes on disk: as last measured, and what was written since."""
        return self._measured + self._engine.written - self._written

    def purge(self, topic: int) -> None:
        """The records of a deleted topic go with the next round."""
        self._deleted.append(topic)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if self._engine.ready:
                try:
                    await self.round()
                except (StoreLost, psycopg.Error) as error:
                    log.warning("upkeep of the log failed, the next round tries again: %s", error)
            await asyncio.sleep(self._options.upkeep)

    async def round(self) -> None:
        """One at a time."""
        async with self._turn:
            await self._round()

    async def _round(self) -> None:
        now = self._clock()
        await self._prepare(now)
        for leaf in self._leaves.expired(now):
            await self._drop(leaf)
        await self._compact(now)
        while self._deleted:
            await self._store.purge(self._deleted[0])
            self._deleted.pop(0)
        written = self._engine.written
        self._measured = await self._store.size()
        self._written = written

    async def _prepare(self, now: int) -> None:
        """Make the tables that the next rounds will need, so that no append waits for them."""
        ahead = round(self._options.upkeep * 2000)
        for retention in {t.retention for t in self._engine.topics.values() if t.time and not t.compacted}:
            await self._leaves.ensure(now + retention)
            await self._leaves.ensure(now + retention + ahead)

    async def _drop(self, leaf: tuple[int, int]) -> None:
        ends = await self._store.leaf_ends(*leaf)
        self._warn(ends)
        self._leaves.forget(leaf)
        for topic, part, end in ends:
            if topic in self._engine.topics:
                self._engine.topics[topic].partitions[part].raise_floor(end)
        await self._store.drop_leaf(*leaf, ends)

    def _warn(self, ends: Iterable[tuple[int, int, int]]) -> None:
        for topic, part, end in ends:
            for group in self._engine.groups.values():
                position = group.positions.get(part)
                if group.topic.id == topic and position is not None and position[0] < end:
                    log.warning(
                        "retention removes %d records of %s/%d that group %s has not read",
                        end - position[0], group.topic.name, part, group.name,
                    )  # fmt: skip

    async def _compact(self, now: int) -> None:
        before = now - round(self._options.tombstones * 1000)
        for topic in [t for t in self._engine.topics.values() if t.compacted]:
            for part in topic.partitions:
                removed = await self._store.compact(topic.id, part.number, part.next, before)
                if removed:
                    log.debug("compaction removed %d records of %s/%d", removed, topic.name, part.number)
