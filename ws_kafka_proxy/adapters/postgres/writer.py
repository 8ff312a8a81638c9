"""The writing connection of the PostgreSQL log: it holds the advisory lock, and copies.

libpq is driven directly: a COPY is two short waits on the socket, without a cursor around it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import psycopg
from psycopg import pq

from ws_kafka_proxy.adapters.postgres.connecting import Connection, connect
from ws_kafka_proxy.adapters.postgres.schema import COPY, LOCK


class ConnectionLost(Exception):
    """Whether the last statement was committed is unknown."""


class Refused(Exception):
    """The server refused the statement: nothing of it was written. `state`: SQLSTATE."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(message)
        self.state = state


class Writer:
    """One statement at a time. When the connection breaks, also between statements, `lost` is true and `on_lost`
    is called."""

    def __init__(self, connection: Connection, deadline: float, on_lost: Callable[[], None]) -> None:
        self._connection = connection
        self._on_lost = on_lost
        self._pg: pq.abc.PGconn = connection.pgconn
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self.lost = False
        self._fd = self._pg.socket
        self._loop.add_reader(self._fd, self._readable)

    @classmethod
    async def connect(cls, url: str, name: str, deadline: float, on_lost: Callable[[], None]) -> Writer:
        """name: application_name. Raises psycopg.OperationalError."""
        return cls(await connect(url, name, deadline), deadline, on_lost)

    @property
    def pid(self) -> int:
        """Of the server's process."""
        return self._pg.backend_pid

    async def lock(self) -> bool:
        """Whether the lock is ours now."""
        rows = await self._query(b"SELECT pg_try_advisory_lock(%d)" % LOCK)
        return rows[0] == b"t"

    async def copy(self, data: bytes) -> None:
        """Copy and commit. Raises Refused or ConnectionLost; cancelling closes the connection."""
        try:
            async with asyncio.timeout(self._deadline):
                await self._copy(data)
        except (psycopg.Error, TimeoutError) as error:
            self._break()
            raise ConnectionLost(str(error)) from error
        except asyncio.CancelledError:
            self._break()
            raise

    async def _copy(self, data: bytes) -> None:
        pg = self._pg
        self._send(COPY)
        await self._flush()
        result = await self._result()
        if result is not None and result.status == pq.ExecStatus.COPY_IN:
            while not pg.put_copy_data(data):
                await self._flush()
            while not pg.put_copy_end(None):
                await self._flush()
            await self._flush()
            result = await self._result()
        await self._finish(result, pq.ExecStatus.COMMAND_OK)

    async def _query(self, sql: bytes) -> list[bytes | None]:
        """First row."""
        try:
            async with asyncio.timeout(self._deadline):
                self._send(sql)
                await self._flush()
                result = await self._result()
                await self._finish(result, pq.ExecStatus.TUPLES_OK)
                assert result is not None
                return [result.get_value(0, column) for column in range(result.nfields)]
        except (psycopg.Error, TimeoutError) as error:
            self._break()
            raise ConnectionLost(str(error)) from error

    async def _finish(self, result: pq.abc.PGresult | None, wanted: pq.ExecStatus) -> None:
        """Read to the statement's end, so that the connection is ready for the next."""
        first = result
        while result is not None:
            result = await self._result()
        if first is not None and first.status == wanted:
            return
        if first is None or self._pg.status != pq.ConnStatus.OK:
            self._break()
            raise ConnectionLost("the server ended the connection")
        state = first.error_field(pq.DiagnosticField.SQLSTATE) or b""
        message = first.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        if state.startswith((b"57P", b"08")):  # the server shuts down, or the connection failed
            self._break()
            raise ConnectionLost(message.decode(errors="replace"))
        raise Refused(state.decode(), message.decode(errors="replace"))

    def _send(self, sql: bytes) -> None:
        if self.lost:
            raise ConnectionLost("the connection is closed")
        self._pg.send_query(sql)

    async def _result(self) -> pq.abc.PGresult | None:
        while self._pg.is_busy():
            await self._wait()
        return self._pg.get_result()

    async def _flush(self) -> None:
        while self._pg.flush():
            self._loop.add_writer(self._fd, self._wake)
            try:
                await self._wait()
            finally:
                self._loop.remove_writer(self._fd)

    async def _wait(self) -> None:
        if self.lost:
            raise ConnectionLost("the connection broke")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self.lost:
            raise ConnectionLost("the connection broke")

    def _readable(self) -> None:
        try:
            self._pg.consume_input()
        except psycopg.Error:
            self._break()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _break(self) -> None:
        """Close without waiting for anybody."""
        if not self.lost:
            self.lost = True
            self._loop.remove_reader(self._fd)
            with suppress(psycopg.Error):
                self._pg.finish()
            self._wake()
            self._on_lost()

    async def close(self) -> None:
        self._break()
        await self._connection.close()
