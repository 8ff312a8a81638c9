"""Consumer groups of the PostgreSQL log. Membership is in memory; positions and owners are written behind.

A member is its name: who joins under a name that is taken fences the older one and gets its partitions. A member
that vanished keeps them for the session timeout; so do, after a start of the proxy, the members of before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ws_kafka_proxy.adapters.postgres.reader import LogReader
from ws_kafka_proxy.adapters.postgres.store import PositionRow, Store
from ws_kafka_proxy.adapters.postgres.topics import Topic
from ws_kafka_proxy.core.engine import DRAIN_SESSION, Chunk, Fenced, ReaderEvent
from ws_kafka_proxy.core.groups import assign


class GroupReader(LogReader):
    """A member's reader. handed: None unless it drains; then the next offsets after what it was given on a former
    connection. `read` keeps it."""

    def __init__(
        self, topic: Topic, store: Store, group: Group, member: str, handed: Mapping[int, int] | None = None
    ) -> None:
        super().__init__(topic, store)
        self._group = group
        self._member = member
        self._drains = handed is not None
        self._handed = dict(handed or {})

    @property
    def session(self) -> float:
        """Seconds it may be away, at least."""
        return DRAIN_SESSION if self._drains else 0

    def owes(self, partition: int) -> bool:
        """Whether the partition must wait for commits of what was read."""
        handed = min(self._handed.get(partition, 0), self.topic.partitions[partition].next)
        return self._drains and self._group.positions[partition][0] < handed

    async def read(self, records: int, size: int) -> list[ReaderEvent]:
        events = await super().read(records, size)
        if self._drains:
            for event in events:
                if isinstance(event, Chunk):
                    self._handed[event.partition] = event.records[-1].offset + 1
        return events

    async def settled(self) -> None:
        await self._group.flushed()

    def commit(self, partition: int, offset: int, state: bytes) -> None:
        if partition in self._positions:
            self._group.commit(partition, offset, state)

    async def close(self, leave: bool) -> None:
        self.detach()
        self._group.part(self._member, self, leave)
        await self._group.flushed()


class Group:
    """The members of one group on one topic. `write` takes positions to be written, `flushed` waits for them."""

    def __init__(
        self,
        name: str,
        topic: Topic,
        timeout: float,
        write: Callable[[PositionRow], None],
        flushed: Callable[[], asyncio.Future[None]],
    ) -> None:
        self.name = name
        self.topic = topic
        self.flushed = flushed
        self.positions: dict[int, tuple[int, bytes]] = {}
        self._timeout = timeout
        self._write = write
        self._members: dict[str, GroupReader | None] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._owners: dict[int, str] = {}
        self._draining: set[int] = set()
        self._previous: dict[int, str] = {}

    def restore(self, partition: int, offset: int, state: bytes, member: str) -> None:
        """A position as stored. Its owner is expected back."""
        self.positions[partition] = (offset, state)
        if member:
            self._owners[partition] = member
            self._previous[partition] = member
            if member not in self._members:
                self._members[member] = None
                # All members lost the proxy at once and are on their way; nobody knows yet who drains.
                self._expect(member, max(self._timeout, DRAIN_SESSION / 2))

    def begin(self, offsets: dict[int, int]) -> None:
        """Positions of partitions that have none."""
        for partition, offset in offsets.items():
            if partition not in self.positions:
                self.positions[partition] = (offset, b"")
                self._save(partition)

    def join(self, member: str, reader: GroupReader) -> None:
        older = self._members.get(member)
        if older is not None:
            older.end(Fenced(f"a newer {member} joined group {self.name}"))
        expiry = self._expiries.pop(member, None)
        if expiry is not None:
            expiry.cancel()
        self._members[member] = reader
        for partition in sorted(p for p, owner in self._owners.items() if owner == member):
            reader.give(partition, *self.positions[partition])
        self._balance()

    def part(self, member: str, reader: GroupReader, leave: bool) -> None:
        """The reader was closed."""
        if self._members.get(member) is not reader:
            return
        if leave:
            self._remove(member)
        else:
            self._members[member] = None
            self._expect(member, max(self._timeout, reader.session))

    def commit(self, partition: int, offset: int, state: bytes) -> None:
        former = self.positions[partition]
        if offset >= former[0] and (offset, state) != former:
            self.positions[partition] = (min(offset, self.topic.partitions[partition].next), state)
            self._save(partition)
            if partition in self._draining:
                self._balance()

    def end(self, error: Exception) -> None:
        """Every reader raises this; nobody is a member any more."""
        for reader in self._members.values():
            if reader is not None:
                reader.end(error)
        for expiry in self._expiries.values():
            expiry.cancel()
        self._members, self._expiries = {}, {}

    def lag(self) -> int:
        parts = self.topic.partitions
        return sum(max(0, parts[p].next - max(offset, parts[p].first)) for p, (offset, _) in self.positions.items())

    def save_all(self) -> None:
        for partition in self.positions:
            self._save(partition)

    def _expect(self, member: str, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self._expiries[member] = loop.call_later(timeout, self._remove, member)

    def _remove(self, member: str) -> None:
        self._expiries.pop(member, None)
        del self._members[member]
        self._balance()

    def _balance(self) -> None:
        wanted = assign(len(self.topic.partitions), self._members, self._owners, self._previous)
        moved = [p for p in range(len(self.topic.partitions)) if wanted.get(p) != self._owners.get(p)]
        moved = self._drained(moved)
        for member, reader in self._members.items():
            if reader is not None:
                reader.revoke([p for p in moved if self._owners.get(p) == member])
        for partition in moved:
            former = self._owners.pop(partition, None)
            if former is not None:
                self._previous[partition] = former
            if partition in wanted:
                self._owners[partition] = wanted[partition]
                reader = self._members[wanted[partition]]
                if reader is not None:
                    reader.give(partition, *self.positions[partition])
            self._save(partition)

    def _drained(self, moved: list[int]) -> list[int]:
        """Those that may move now. Readers that owe commits are paused, and the commits bring us back here; a holder
        that is expected back may owe too."""
        owing: dict[GroupReader, set[int]] = {r: set() for r in self._members.values() if r is not None}
        free = []
        for partition in moved:
            owner = self._owners.get(partition)
            holder = self._members.get(owner) if owner is not None else None
            if holder is not None and holder.owes(partition):
                owing[holder].add(partition)
            elif owner not in self._members or holder is not None:
                free.append(partition)
        for reader, partitions in owing.items():
            reader.pause(partitions)
        self._draining = {p for partitions in owing.values() for p in partitions}
        return free

    def _save(self, partition: int) -> None:
        if partition not in self.positions:
            return  # nobody has joined since the start
        offset, state = self.positions[partition]
        owner = self._owners.get(partition, "")
        self._write(PositionRow(self.topic.id, self.name, partition, offset, state, owner))
