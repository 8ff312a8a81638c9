"""SQL of the PostgreSQL log beside the writing: topics, positions, reading behind, upkeep.

Each connection (`Side`) serves one kind of work, one statement at a time, and is made anew when it broke.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, cast

import psycopg

from skep.wire.proxy import Delivered
from ws_kafka_proxy.adapters.postgres.connecting import Connection, connect
from ws_kafka_proxy.adapters.postgres.schema import (
    DDL,
    LOCK,
    decode_source,
    leaf_bounds,
    leaf_ddl,
    leaf_name,
)


class StoreLost(Exception):
    """PostgreSQL did not answer."""


class TopicRow(NamedTuple):
    id: int
    name: str
    incarnation: str
    partitions: int
    retention: int
    compacted: bool


class PartitionRow(NamedTuple):
    topic: int
    part: int
    first: int
    next: int
    time: int


class PositionRow(NamedTuple):
    topic: int
    group: str
    part: int
    offset: int
    state: bytes
    member: str


class Side:
    """A connection that comes back by itself."""

    def __init__(self, url: str, name: str, deadline: float, setup: str = "") -> None:
        self._url = url
        self._name = name
        self._deadline = deadline
        self._setup = setup
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._closed = False

    @asynccontextmanager
    async def use(self, deadline: float | None = None) -> AsyncIterator[Connection]:
        """The connection, ours alone. Raises StoreLost where PostgreSQL is away or slower than `deadline` seconds."""
        async with self._lock:
            try:
                if self._closed:
                    raise StoreLost("the engine stopped")
                async with asyncio.timeout(deadline or self._deadline):
                    if self._connection is None:
                        self._connection = await self._connect()
                    yield self._connection
            except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
                await self._drop()
                raise StoreLost(str(error) or "no answer in time") from error
            except asyncio.CancelledError:
                await self._drop()
                raise

    async def _connect(self) -> Connection:
        connection = await connect(self._url, self._name, self._deadline)
        try:
            if self._setup:
                await connection.execute(self._setup)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    async def close(self) -> None:
        self._closed = True
        async with self._lock:
            await self._drop()


class Store:
    """What the engine asks of PostgreSQL. Every method raises StoreLost."""

    def __init__(self, url: str, name: str, deadline: float) -> None:
        self._name = name
        self._admin = Side(url, name, deadline, "SET lock_timeout = '2s'; SET client_min_messages = warning")
        self._positions = Side(url, name, deadline, "SET synchronous_commit = off")
        self._reads = Side(url, name, deadline)
        self._work = Side(url, name, deadline, "SET lock_timeout = '2s'; SET synchronous_commit = off")

    async def close(self) -> None:
        for side in (self._admin, self._positions, self._reads, self._work):
            await side.close()

    async def ping(self) -> None:
        async with self._admin.use() as connection:
            await connection.execute("SELECT 1")

    # -- becoming the writer

    async def prepare(self) -> None:
        """Make the tables that are missing."""
        async with self._admin.use() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK + 1,))
            await connection.execute(DDL)

    async def end_former(self, pid: int) -> int:
        """End sessions of earlier connections of this process that still hold the lock; how many. pid: the new one."""
        async with self._admin.use() as connection:
            cursor = await connection.execute(
                "SELECT count(pg_terminate_backend(a.pid)) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                " WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint << 32 | l.objid::bigint = %s"
                " AND l.database = a.datid AND a.datname = current_database()"
                " AND a.application_name = %s AND a.pid <> %s",
                (LOCK, f"{self._name} writer", pid),
            )
            row = await cursor.fetchone()
            return int(row[0]) if row else 0

    async def begin(self, boot: str) -> int:
        """A new epoch: what an earlier writer still tries to write beside the log is void."""
        async with self._admin.use() as connection:
            cursor = await connection.execute(
                "INSERT INTO skep_bus.writer VALUES (1, 1, %s)"
                " ON CONFLICT (id) DO UPDATE SET epoch = skep_bus.writer.epoch + 1, boot = excluded.boot"
                " RETURNING epoch",
                (boot,),
            )
            row = await cursor.fetchone()
            assert row is not None
            return int(row[0])

    async def load(self) -> tuple[list[TopicRow], list[PartitionRow], list[PositionRow]]:
        async with self._admin.use() as connection:
            topics = [
                TopicRow(*row)
                for row in await _all(
                    connection,
                    "SELECT id, name, incarnation::text, partitions, retention, compacted FROM skep_bus.topics",
                )
            ]
            partitions = [
                PartitionRow(*row)
                for row in await _all(
                    connection,
                    "SELECT t.id, p.part, coalesce(f.first, 0), greatest(coalesce(f.first, 0), coalesce(l.off + 1, 0)),"
                    " coalesce(l.time, 0) FROM skep_bus.topics t"
                    " CROSS JOIN LATERAL generate_series(0, t.partitions - 1) p (part)"
                    " LEFT JOIN skep_bus.floors f ON f.topic = t.id AND f.part = p.part"
                    " LEFT JOIN LATERAL (SELECT off, time FROM skep_bus.records r"
                    " WHERE r.topic = t.id AND r.part = p.part ORDER BY off DESC LIMIT 1) l ON true",
                )
            ]
            positions = [
                PositionRow(*row)
                for row in await _all(
                    connection, "SELECT topic, name, part, off, state, member FROM skep_bus.positions"
                )
            ]
        return topics, partitions, positions

    # -- topics

    async def create_topic(self, name: str, partitions: int, retention: int, compacted: bool) -> TopicRow:
        async with self._admin.use() as connection:
            await connection.execute(
                "INSERT INTO skep_bus.topics (name, partitions, retention, compacted) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (name) DO NOTHING",
                (name, partitions, retention, compacted),
            )
            rows = await _all(
                connection,
                "SELECT id, name, incarnation::text, partitions, retention, compacted FROM skep_bus.topics"
                " WHERE name = %s",
                (name,),
            )
        return TopicRow(*rows[0])

    async def retain_topic(self, id: int, retention: int) -> None:
        async with self._admin.use() as connection:
            await connection.execute("UPDATE skep_bus.topics SET retention = %s WHERE id = %s", (retention, id))

    async def delete_topic(self, id: int) -> None:
        async with self._admin.use() as connection:
            await connection.execute("DELETE FROM skep_bus.topics WHERE id = %s", (id,))

    async def leaves(self) -> list[tuple[int, int]]:
        """Bounds of the record tables."""
        async with self._admin.use() as connection:
            rows = await _all(
                connection,
                "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
                " WHERE i.inhparent = 'skep_bus.records'::regclass",
            )
        return sorted(bounds for (name,) in rows if (bounds := leaf_bounds(name)))

    async def create_leaf(self, low: int, high: int) -> None:
        async with self._admin.use() as connection, connection.transaction():
            await connection.execute(leaf_ddl(low, high))

    # -- positions

    async def write_positions(self, epoch: int, rows: Iterable[PositionRow]) -> None:
        """All in one statement; nothing where a newer writer took over."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        async with self._positions.use() as connection:
            await connection.execute(
                "INSERT INTO skep_bus.positions (topic, name, part, off, state, member)"
                " SELECT n.topic, n.name, n.part, n.off, n.state, n.member FROM"
                " unnest(%s::int[], %s::text[], %s::int[], %s::bigint[], %s::bytea[], %s::text[])"
                " n (topic, name, part, off, state, member) JOIN skep_bus.topics t ON t.id = n.topic"
                " WHERE EXISTS (SELECT FROM skep_bus.writer WHERE epoch = %s)"
                " ON CONFLICT (topic, name, part) DO UPDATE"
                " SET off = excluded.off, state = excluded.state, member = excluded.member",
                (*columns, epoch),
                binary=True,
            )

    # -- reading

    async def read(self, topic: int, part: int, offset: int, end: int, limit: int, size: int) -> list[Delivered]:
        """Records from `offset` to before `end`: at most `limit`, and about `size` bytes (at least one record)."""
        async with self._reads.use() as connection:
            rows = await _all(
                connection,
                "SELECT off, time, publisher, seq, key, payload, source FROM ("
                " SELECT *, sum(coalesce(octet_length(payload), 0)) OVER (ORDER BY off"
                " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM ("
                " SELECT * FROM skep_bus.records WHERE topic = %s AND part = %s AND off >= %s AND off < %s"
                " ORDER BY off LIMIT %s) r) w WHERE before IS NULL OR before < %s ORDER BY off",
                (topic, part, offset, end, limit, size),
                binary=True,
            )
        return [
            Delivered(off, time, publisher, seq, key, payload, None if source is None else decode_source(source))
            for off, time, publisher, seq, key, payload, source in rows
        ]

    async def offset_at(self, topic: int, part: int, first: int, end: int, time: int) -> int:
        """The first offset whose record was appended at or after `time`; `end` without one. Times rise with offsets."""
        low, high = first, end
        async with self._reads.use() as connection:
            while low < high:
                middle = (low + high) // 2
                rows = await _all(
                    connection,
                    "SELECT off, time FROM skep_bus.records WHERE topic = %s AND part = %s AND off >= %s AND off < %s"
                    " ORDER BY off LIMIT 1",
                    (topic, part, middle, high),
                )
                if not rows or rows[0][1] >= time:
                    high = middle
                else:
                    low = rows[0][0] + 1
        return low

    # -- upkeep

    async def leaf_ends(self, low: int, high: int) -> list[tuple[int, int, int]]:
        """(topic, partition, next offset) after the last record of each partition in a table."""
        async with self._work.use() as connection:
            rows = await _all(
                connection,
                f"SELECT topic, part, max(off) + 1 FROM skep_bus.{leaf_name(low, high)} GROUP BY 1, 2",  # noqa: S608
            )
        return [(topic, part, end) for topic, part, end in rows]

    async def drop_leaf(self, low: int, high: int, ends: list[tuple[int, int, int]]) -> None:
        """Drop a table of records; `ends` become the partitions' first offsets."""
        async with self._work.use() as connection, connection.transaction():
            for topic, part, end in ends:
                await connection.execute(
                    "INSERT INTO skep_bus.floors SELECT id, %s, %s FROM skep_bus.topics WHERE id = %s"
                    " ON CONFLICT (topic, part) DO UPDATE SET first = greatest(skep_bus.floors.first, excluded.first)",
                    (part, end, topic),
                )
            await connection.execute(f"DROP TABLE IF EXISTS skep_bus.{leaf_name(low, high)}")

    async def compact(self, topic: int, part: int, end: int, tombstones_before: int) -> int:
        """Remove superseded records, and tombstones from before that time (ms); how many. Never the last record: a
        writer that starts counts on from it, and would give its offset again."""
        async with self._work.use(60) as connection:
            cursor = await connection.execute(
                "DELETE FROM skep_bus.records_kept r WHERE topic = %(topic)s AND part = %(part)s"
                " AND off < %(end)s AND (EXISTS (SELECT FROM skep_bus.records_kept n"
                " WHERE n.topic = r.topic AND n.part = r.part AND n.key = r.key AND n.off > r.off AND n.off < %(end)s)"
                " OR payload IS NULL AND time < %(time)s AND off < %(end)s - 1)",
                {"topic": topic, "part": part, "end": end, "time": tombstones_before},
            )
            return cursor.rowcount

    async def purge(self, topic: int) -> None:
        """Remove the records of a deleted topic."""
        async with self._work.use(60) as connection:
            await connection.execute("DELETE FROM skep_bus.records WHERE topic = %s", (topic,))

    async def size(self) -> int:
        """Bytes of all records on disk."""
        async with self._work.use() as connection:
            rows = await _all(
                connection,
                "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits"
                " WHERE inhparent = 'skep_bus.records'::regclass",
            )
        return int(rows[0][0])


async def _all(
    connection: Connection, sql: str, values: tuple[Any, ...] = (), binary: bool = False
) -> list[tuple[Any, ...]]:
    cursor = connection.cursor(binary=binary)
    await cursor.execute(cast(Any, sql), values)
    return await cursor.fetchall()
