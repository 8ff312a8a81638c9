"""The table of notifications: whatever waits is written in one transaction, again and again until it is there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from datetime import UTC, datetime

import psycopg

from skep_plugin import Notification

log = logging.getLogger("store")

# json, not jsonb: that one refuses texts with a NUL or half a surrogate pair, which a device may well send.
CREATE = """
    CREATE TABLE IF NOT EXISTS notifications (
        device_id text, id bigint, name text NOT NULL, network_id bigint, device_type_id bigint,
        at timestamptz NOT NULL, parameters json,
        PRIMARY KEY (device_id, id)
    );
    CREATE INDEX IF NOT EXISTS notifications_at ON notifications (at);
"""
# A message that comes a second time has the same device and id.
INSERT = "INSERT INTO notifications VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
COUNTS = """
    SELECT date_trunc('minute', at) AS minute, name, count(*)
    FROM notifications WHERE at > now() - make_interval(mins => %s)
    GROUP BY minute, name ORDER BY minute, name
"""
LOCK = 5_021_873_640
"""Copies of the plugin that start together make the table one after the other."""
BATCH = 500
LONGEST_PAUSE = 10.0


class Store:
    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: asyncio.Queue[tuple[Notification, asyncio.Future[None]]] = asyncio.Queue()
        self._writing: asyncio.Task[None] | None = None
        self._connection: psycopg.AsyncConnection | None = None

    async def open(self) -> None:
        self._writing = asyncio.create_task(self._write())

    async def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._disconnect()

    async def add(self, notification: Notification) -> None:
        """Returns when it is committed; waits as long as the database is away."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((notification, written))
        await written

    def counts(self, minutes: int) -> list[tuple[datetime, str, int]]:
        """(minute in UTC, name, how many) of the last minutes, oldest first."""
        with psycopg.connect(self._url) as connection:
            connection.execute(CREATE)
            rows = connection.execute(COUNTS, [minutes]).fetchall()
        return [(minute.astimezone(UTC), name, count) for minute, name, count in rows]

    async def _write(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            try:
                await self._commit([row(notification) for notification, _ in batch])
            except psycopg.Error as error:
                for _, written in batch:
                    if not written.done():
                        written.set_exception(error)
            else:
                for _, written in batch:
                    if not written.done():
                        written.set_result(None)

    async def _commit(self, rows: list[tuple[object, ...]]) -> None:
        pause = 0.5
        while True:
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                async with self._connection.transaction(), self._connection.cursor() as cursor:
                    await cursor.executemany(INSERT, rows)
                return
            except psycopg.OperationalError as error:
                log.warning("the database is away, next attempt in %.1f s: %s", pause, error)
                await self._disconnect()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _connect(self) -> psycopg.AsyncConnection:
        connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, connect_timeout=10)
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            await connection.execute(CREATE)
        return connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()


def row(it: Notification) -> tuple[object, ...]:
    parameters = None if it.parameters is None else json.dumps(it.parameters)
    return (clean(it.device_id), it.id, clean(it.name), it.network_id, it.device_type_id, it.timestamp, parameters)


def clean(text: str) -> str:
    """Without what a PostgreSQL text can't hold."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")
