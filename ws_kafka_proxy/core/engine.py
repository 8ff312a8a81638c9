"""The port to a bus engine: durable topics, append and read. Adapters: `adapters/postgres.py`, `adapters/kafka.py`.

Positions are next offsets. An engine knows nothing of sockets, sessions or short-lived topics.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import NamedTuple, Protocol

from skep.wire.proxy import Assigned, Delivered, Failure, Gap, Record, Revoked, Start


class EngineLost(Exception):
    """The engine can't tell whether it wrote. Whoever waits for a confirmation must be dropped, not answered."""


DRAIN_SESSION = 6.0
"""Seconds a draining member may be away, unless the engine's own time is longer: what it was given may still be on its
way to somebody, and a restart of the proxy must not be taken for its end."""


class Fenced(Exception):
    """A newer member with the same name took this reader's place. The reader is of no more use."""


class TopicDeleted(Exception):
    """The topic is gone, and with it the reader."""


class Chunk(NamedTuple):
    """Records of one partition, in order."""

    partition: int
    records: list[Delivered]


ReaderEvent = Assigned | Revoked | Gap | Chunk
"""`sid` of Assigned, Revoked and Gap is 0 here; the session puts its own in."""


class Reader(Protocol):
    """One subscription's way through a topic.

    A group member gets the partitions that the group gives it (Assigned, Revoked as it changes); a broadcast
    reader gets one Assigned for each partition at once.
    """

    async def read(self, records: int, size: int) -> list[ReaderEvent]:
        """What comes next, at most about `records` and `size` bytes (one record always fits; with `records` 0
        nothing but Assigned, Revoked and Gap). Waits until there is something. Cancelling loses nothing.

        Raises Fenced, TopicDeleted, and EngineLost where the log behind the topic was replaced; retries by itself
        while the engine is away."""

    def commit(self, partition: int, offset: int, state: bytes) -> None:
        """Remember the group's position; written soon, in order, newest only. Ignored for partitions that are
        not this reader's, and for broadcast readers."""

    async def settled(self) -> None:
        """Returns when what was committed so far won't be forgotten, should this process end now. At once where that is
        not in our hands."""

    async def close(self, leave: bool) -> None:
        """Stop reading; flush commits. leave: give the partitions away at once. Otherwise the member is expected
        back under its name and keeps them for the session timeout."""


class Engine(Protocol):
    name: str

    async def start(self) -> None:
        """Connect, make the topics of `skep.wire.topics.DURABLE` that are missing. PostgreSQL: wait for the
        advisory lock, saying so in the log."""

    async def stop(self) -> None: ...

    def append(self, publisher: int, records: list[Record]) -> Awaitable[list[tuple[int, int] | Failure]]:
        """Append in order; one (partition, offset) or final refusal for each record.

        Calls may overlap: the order of calls is the order in each partition. Records of all calls of one loop turn
        are written together. Raises EngineLost where it can't tell; so do calls that were made before the callers
        of the failed ones could hear of it (one loop turn), or theirs would overtake what is sent again. Every later
        call waits for the engine."""

    async def reader(self, topic: str, group: str | None, member: str, start: Start, drain: bool = False) -> Reader:
        """Subscribe. `member` is the service's instance name. In effect when it returns: a record appended later is
        delivered to a "latest" broadcast reader. drain: the group takes a partition from this member only when all
        that it read of it is committed; offsets in `start` count as read. Raises KeyError for a missing topic."""

    def names(self) -> list[str]:
        """The topics there are, sorted."""

    def partitions(self, topic: str) -> int | None:
        """How many partitions; None for a topic that does not exist."""

    async def describe(self, topic: str) -> tuple[str, list[tuple[int, int]]]:
        """(incarnation, [(first offset, next offset) of each partition]). Raises KeyError, EngineLost."""

    async def positions(self, topic: str) -> dict[str, dict[int, int]]:
        """Committed positions: group -> partition -> next offset. Groups keep theirs without members, until the topic
        goes. Raises KeyError, EngineLost."""

    async def create(self, topic: str, partitions: int, retention: int) -> None:
        """retention in ms. A topic that exists keeps its partitions and gets the retention. Raises EngineLost."""

    async def delete(self, topic: str) -> None: ...

    async def healthy(self) -> bool:
        """Whether the engine answers, within a second."""

    def lag(self) -> dict[str, int]:
        """ "group/topic" -> records not yet acknowledged, as last measured."""
