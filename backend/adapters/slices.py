"""The schema of the PostgreSQL message store, and its partitions.

`entries` is append-only and partitioned by the time its rows expire: expiry drops whole partitions ("slices"). A
row is a version of a message; readers take the newest version (`NEWEST`). Two writers of one record can't make it
appear twice, whatever slice each wrote to, and a late writer can't hide a newer version.
"""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection, errors, sql

SCHEMA = "skep_messages"
LOCK = 0x534B4550_4D534753
"""Advisory lock of whoever makes or drops tables ("SKEPMSGS")."""

_CREATE = """
CREATE SCHEMA IF NOT EXISTS skep_messages;
CREATE SEQUENCE IF NOT EXISTS skep_messages.seq;
CREATE TABLE IF NOT EXISTS skep_messages.entries (
    kind smallint NOT NULL, id bigint NOT NULL, network_id bigint NOT NULL, device_type_id bigint NOT NULL,
    ts bigint NOT NULL, part integer NOT NULL, off bigint NOT NULL, born bigint NOT NULL, expires bigint NOT NULL,
    updated_at bigint, lapses bigint, seq bigint NOT NULL DEFAULT nextval('skep_messages.seq'),
    device_id text NOT NULL, incarnation text NOT NULL, name text NOT NULL, status text, body bytea NOT NULL
) PARTITION BY RANGE (expires);
ALTER TABLE skep_messages.entries ADD COLUMN IF NOT EXISTS lapses bigint;
CREATE INDEX IF NOT EXISTS entries_id ON skep_messages.entries (id);
CREATE INDEX IF NOT EXISTS entries_device ON skep_messages.entries (device_id, kind, ts);
CREATE INDEX IF NOT EXISTS entries_network ON skep_messages.entries (network_id, kind, ts);
CREATE INDEX IF NOT EXISTS entries_ts ON skep_messages.entries (kind, ts);
CREATE INDEX IF NOT EXISTS entries_updated ON skep_messages.entries (updated_at) WHERE updated_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS entries_device_updated ON skep_messages.entries (device_id, updated_at)
    WHERE updated_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS entries_network_updated ON skep_messages.entries (network_id, updated_at)
    WHERE updated_at IS NOT NULL;
"""

NEWEST = """NOT EXISTS (
    SELECT 1 FROM skep_messages.entries n
    WHERE n.id = e.id AND n.device_id || '' = e.device_id AND n.kind + 0 = e.kind AND n.expires > %(now)s
    AND CASE WHEN n.incarnation = e.incarnation AND n.part = e.part
        THEN n.off > e.off OR (n.off = e.off AND n.seq < e.seq) ELSE n.seq > e.seq END)"""
"""Condition on row `e`: no newer version. Of one record's rows the first counts, so a stored timestamp stays.
`|| ''` and `+ 0` keep the planner, which has no statistics, from other indexes: ids are all but unique."""

_SLICES = """
SELECT c.relname, pg_total_relation_size(c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'skep_messages.entries'::regclass
"""


async def create(connection: AsyncConnection[Any]) -> None:
    """Make schema and table where they are missing; one process at a time."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        await connection.execute(_CREATE)


async def maintain(connection: AsyncConnection[Any], now: int, ttl: int, width: int) -> int:
    """Make the slices that writes of the next while need, drop those whose rows are all expired; times in ms.
    Returns the size of all in bytes."""
    found = await _sizes(connection)
    first = now // width * width
    wanted = [start for start in range(first, first + ttl + 3 * width, width) if _name(start) not in found]
    gone = [name for name in found if _start(name) + width <= now]
    if wanted or gone:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            found = await _sizes(connection)
            for start in wanted:
                if _name(start) not in found:
                    await _add(connection, start, width)
        for name in gone:
            if name in found:
                await _drop(connection, name)
    return sum((await _sizes(connection)).values())


async def _sizes(connection: AsyncConnection[Any]) -> dict[str, int]:
    cursor = await connection.execute(_SLICES)
    return {str(name): int(size) for name, size in await cursor.fetchall()}


async def _add(connection: AsyncConnection[Any], start: int, width: int) -> None:
    # LIKE and ATTACH lock the parent less than CREATE ... PARTITION OF: readers and writers go on. Append-only
    # tables that live for minutes gain nothing from autovacuum.
    names = {"slice": sql.Identifier(SCHEMA, _name(start)), "parent": sql.Identifier(SCHEMA, "entries")}
    create = sql.SQL("CREATE TABLE {slice} (LIKE {parent} INCLUDING DEFAULTS) WITH (autovacuum_enabled = false)")
    await connection.execute(create.format(**names))
    attach = sql.SQL("ALTER TABLE {parent} ATTACH PARTITION {slice} FOR VALUES FROM ({first}) TO ({last})")
    await connection.execute(attach.format(**names, first=sql.Literal(start), last=sql.Literal(start + width)))


async def _drop(connection: AsyncConnection[Any], name: str) -> None:
    """Needs the parent for itself: give up soon rather than hold writers up behind a long read; try again later."""
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '50ms'")
            await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(SCHEMA, name)))
    except errors.LockNotAvailable:
        return


def _name(start: int) -> str:
    return f"entries_{start}"


def _start(name: str) -> int:
    return int(name.rpartition("_")[2])
