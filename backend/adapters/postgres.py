"""Messages in PostgreSQL: one COPY per batch into `skep_messages.entries`, see `slices.py`.

Writes have a connection of their own, reads a few others, upkeep one: none waits for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors

from backend.adapters import copying, listing, slices
from backend.core.store import Away, Entry, Full, Held, Key, Page, Rejected, decode_item, retagged, table
from skep.wire.messages import List

log = logging.getLogger("backend.store")
_COPY = f"COPY skep_messages.entries ({copying.COLUMNS}) FROM STDIN (FORMAT BINARY)"
_GET = (
    "SELECT e.device_id, e.id, e.incarnation, e.born, e.body FROM skep_messages.entries e "  # noqa: S608
    "WHERE e.id = ANY(%(ids)s::bigint[]) AND e.kind + 0 = %(kind)s AND e.expires > %(now)s AND " + slices.NEWEST
)
"""By id alone, which is all but unique; other devices' messages are sorted out here."""
_INPUT = (errors.DataError, errors.IntegrityError, errors.ProgramLimitExceeded)
"""What the engine holds against a row. IntegrityError: also a row without a slice."""


class PostgresStore:
    """ttl, timeout: seconds. limit: bytes of tables and indexes after which writes are refused."""

    def __init__(
        self,
        url: str,
        ttl: float = 120.0,
        limit: int = 2 << 30,
        timeout: float = 5.0,
        readers: int = 3,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ttl = int(ttl * 1000)
        self._width = max(500, self._ttl // 4)
        self._limit = limit
        self._timeout = timeout
        self._clock = clock
        self._size = 0
        self._writer = _Line(url, timeout)
        self._keeper = _Line(url, timeout)
        self._readers: asyncio.LifoQueue[_Line] = asyncio.LifoQueue()
        self._lines = [_Line(url, timeout, _READING) for _ in range(readers)]
        for line in self._lines:
            self._readers.put_nowait(line)
        self._upkeep: asyncio.Task[None] | None = None

    @property
    def size(self) -> int:
        """Bytes in use, as last measured plus what was written since."""
        return self._size

    async def start(self) -> None:
        async with self._keeper.use() as connection:
            await slices.create(connection)
        await self._maintain()
        self._upkeep = asyncio.create_task(self._keep(), name="message store upkeep")

    async def stop(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.wait([self._upkeep])
        for line in (self._writer, self._keeper, *self._lines):
            await line.close()

    async def put(self, entries: list[Entry]) -> None:
        if self._size >= self._limit:
            raise Full()
        try:
            data = copying.rows(entries, self._now() + self._ttl)
        except (struct.error, UnicodeError) as e:
            raise Rejected(str(e)) from e
        try:
            await self._copy(data)
        except errors.CheckViolation:  # no slice for that time: upkeep was late
            await self._maintain()
            await self._copy(data)
        self._size += 2 * len(data)  # rows and indexes, until upkeep measures

    async def _copy(self, data: bytes) -> None:
        async with self._writer.use() as connection, connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            await copy.write(data)

    async def get(self, kind: int, keys: list[Key]) -> dict[Key, Held]:
        values = {"kind": kind, "now": self._now(), "ids": [id_ for _, id_ in keys]}
        async with self._reader() as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute(_GET, values, prepare=True)
            found = await cursor.fetchall()
        wanted = set(keys)
        return {
            (device, id_): Held(decode_item(body), incarnation, born)
            for device, id_, incarnation, born, body in found
            if (device, id_) in wanted
        }

    async def list(self, query: List, limit: int) -> Page:
        if listing.nothing(query):
            return Page([])
        statement, values = listing.select(query, table(query.kind), self._now(), limit)
        async with self._reader() as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute(statement, values, prepare=True)
            rows = await cursor.fetchall()
        cut = bool(rows) and (len(rows) < rows[0][1] or len(rows) == listing.ROWS)
        return Page([retagged(body, query.kind) for body, _ in rows], cut)

    async def healthy(self) -> bool:
        try:
            async with asyncio.timeout(1.0), self._reader() as connection:
                await connection.execute("SELECT 1")
        except (Away, TimeoutError):
            return False
        return True

    @contextlib.asynccontextmanager
    async def _reader(self) -> AsyncIterator[AsyncConnection[Any]]:
        try:
            async with asyncio.timeout(self._timeout):
                line = await self._readers.get()
        except TimeoutError as e:
            raise Away() from e
        try:
            async with line.use() as connection:
                yield connection
        finally:
            self._readers.put_nowait(line)

    def _now(self) -> int:
        return int(self._clock() * 1000)

    async def _maintain(self) -> None:
        async with self._keeper.use() as connection:
            self._size = await slices.maintain(connection, self._now(), self._ttl, self._width)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._width / 1000))
            try:
                await self._maintain()
            except (Away, Full, Rejected) as e:
                log.warning("upkeep of the message store failed: %s", e.__cause__ or e)


_READING = " ".join(
    f"-c {setting}"
    for setting in (
        *(f"enable_{plan}=off" for plan in ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin", "material")),
        "jit=off",
        "plan_cache_mode=force_generic_plan",
    )
)
"""Slices live too short for statistics, so the planner is told: indexes, in their order. Planning would cost more
than running, so plans are kept."""


class _Line:
    """A connection, made anew when it broke; one user at a time. Errors come out as the port's."""

    def __init__(self, url: str, timeout: float, options: str = "-c jit=off") -> None:
        self._url = url
        self._timeout = timeout
        self._options = f"{options} -c statement_timeout={int(timeout * 1000)}"
        self._connection: AsyncConnection[Any] | None = None
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[AsyncConnection[Any]]:
        try:
            async with asyncio.timeout(self._timeout), self._lock:
                connection = await self._connected()
                try:
                    yield connection
                except (psycopg.OperationalError, psycopg.InterfaceError, asyncio.CancelledError):
                    # Also after a deadline: what is under way on it can't be trusted.
                    self._connection = None
                    await asyncio.shield(_closed(connection))
                    raise
        except errors.DiskFull as e:
            raise Full() from e
        except errors.CheckViolation:
            raise
        except _INPUT as e:
            raise Rejected(str(e)) from e
        except (psycopg.Error, OSError, TimeoutError) as e:
            raise Away() from e

    async def _connected(self) -> AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await AsyncConnection.connect(
                self._url, autocommit=True, options=self._options, application_name="skep-backend"
            )
        return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            await _closed(self._connection)
            self._connection = None


async def _closed(connection: AsyncConnection[Any]) -> None:
    with contextlib.suppress(psycopg.Error, OSError):
        await connection.close()
