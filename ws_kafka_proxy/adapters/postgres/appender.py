"""Takes appends and writes them, one COPY at a time; stays or becomes the log's writer.

When the connection breaks during a COPY nobody knows whether it was committed, so whoever waits gets EngineLost, and
what they send again comes in order behind a fresh look at the log. Becoming the writer waits until the former session
is over, ours too: after that its last COPY has an outcome that can be read.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable

import psycopg

from skep import logs
from skep.wire.proxy import Code, Failure, Record
from ws_kafka_proxy.adapters.postgres.batch import Batch, Call, Planner, Result
from ws_kafka_proxy.adapters.postgres.leaves import Leaves
from ws_kafka_proxy.adapters.postgres.options import Options
from ws_kafka_proxy.adapters.postgres.store import Store, StoreLost
from ws_kafka_proxy.adapters.postgres.writer import ConnectionLost, Refused, Writer
from ws_kafka_proxy.core.engine import EngineLost

log = logs.get("bus.postgres")

COPY_RECORDS = 20_000
COPY_BYTES = 8 << 20
"""Bounds of one COPY."""
STANDBY = 0.25
"""Seconds between looks at a lock that another process holds."""
UNIQUE_VIOLATION = "23505"


class Appender:
    """load: called as the new writer, before anything is written; raises StoreLost. standby: called with True when
    another process is the writer, with False when it is this one."""

    def __init__(
        self,
        url: str,
        name: str,
        options: Options,
        store: Store,
        leaves: Leaves,
        planner: Planner,
        load: Callable[[], Awaitable[None]],
        standby: Callable[[bool], None],
    ) -> None:
        self._url = url
        self._name = name
        self._options = options
        self._store = store
        self._leaves = leaves
        self._planner = planner
        self._load = load
        self._standby = standby
        self._queue: deque[Call] = deque()
        self._flying: list[Call] = []
        self._records = 0
        self._bytes = 0
        self._work = asyncio.Event()
        self._losing = False
        self.written = 0
        """Bytes copied since the start."""
        self.ready = asyncio.Event()
        """Set while this process is the writer and connected."""

    def append(self, publisher: int, records: list[Record]) -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        if self._losing:
            future.set_exception(EngineLost("the connection to PostgreSQL broke"))
            return future
        if self._records > self._options.queue_records or self._bytes > self._options.queue_bytes:
            failure = Failure(Code.UNAVAILABLE, "too much waits for PostgreSQL")
            future.set_result([failure] * len(records))
            return future
        call = Call(publisher, records, future)
        self._queue.append(call)
        self._records += len(records)
        self._bytes += call.size
        self._work.set()
        return future

    async def run(self) -> None:
        """Until cancelled; what waits then gets EngineLost."""
        try:
            while True:
                writer = await self._become()
                try:
                    self.ready.set()
                    await self._write_until_lost(writer)
                except (ConnectionLost, StoreLost) as error:
                    self.ready.clear()
                    log.warning("the connection to PostgreSQL broke: %s", error)
                    self._lose(str(error))
                except Exception as error:
                    self.ready.clear()
                    log.exception("writing the log failed")
                    self._lose(str(error))
                    await asyncio.sleep(STANDBY)
                finally:
                    await writer.close()
        finally:
            self.ready.clear()
            self._lose("the engine stops")

    # -- writing

    async def _write_until_lost(self, writer: Writer) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if writer.lost:
                raise ConnectionLost("the server ended the connection")
            while self._queue:
                await self._write(writer)

    async def _write(self, writer: Writer) -> None:
        calls = self._flying = self._take()
        for expiry in self._planner.expiries(calls):
            await self._leaves.ensure(expiry)
        batch = self._planner.plan(calls)
        data = batch.data
        try:
            if data:
                await writer.copy(data)
        except Refused as error:
            self._refuse(batch, error)
        else:
            self.written += len(data)
            batch.commit()
        self._flying = []

    def _take(self) -> list[Call]:
        calls: list[Call] = []
        records = size = 0
        while self._queue and (not calls or (records < COPY_RECORDS and size < COPY_BYTES)):
            call = self._queue.popleft()
            calls.append(call)
            records += len(call.records)
            size += call.size
        self._records -= records
        self._bytes -= size
        return calls

    def _refuse(self, batch: Batch, error: Refused) -> None:
        if error.state == UNIQUE_VIOLATION:
            raise ConnectionLost("somebody else wrote the log") from error
        log.error("PostgreSQL refused records: %s %s", error.state, error)
        full = error.state.startswith("53")  # insufficient resources, a full disk among them
        batch.refuse(Failure(Code.FULL if full else Code.UNAVAILABLE, f"PostgreSQL refused: {error}"))

    def _lose(self, reason: str) -> None:
        """Fail what waits, and for the rest of this loop turn what comes: its sender has not heard of it yet."""
        self._losing = True
        lost, self._flying, self._queue = [*self._flying, *self._queue], [], deque()
        self._records = self._bytes = 0
        for call in lost:
            if not call.future.done():
                call.future.set_exception(EngineLost(reason))
        asyncio.get_running_loop().call_soon(self._accept)

    def _accept(self) -> None:
        self._losing = False

    # -- becoming the writer

    async def _become(self) -> Writer:
        pause, tries = 0.05, 0
        while True:
            try:
                writer = await self._try_become()
                log.log(logging.WARNING if tries else logging.INFO, "this proxy writes the log")
                return writer
            except (psycopg.Error, ConnectionLost, Refused, StoreLost) as error:
                tries += 1
                level = logging.WARNING if tries == 1 else logging.DEBUG
                log.log(level, "PostgreSQL is away, trying again until it is back: %s", " ".join(str(error).split()))
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311
            pause = min(pause * 2, self._options.back_off)

    async def _try_become(self) -> Writer:
        options = self._options
        writer = await Writer.connect(self._url, f"{self._name} writer", options.deadline, self._work.set)
        try:
            await self._lock(writer)
            await self._load()
        except BaseException:
            await writer.close()
            raise
        self._standby(False)
        return writer

    async def _lock(self, writer: Writer) -> None:
        waiting = False
        while not await writer.lock():
            if not waiting and not await self._store.end_former(writer.pid):
                waiting = True
                log.warning("another proxy writes the log; this one waits until it is gone")
                self._standby(True)
            await asyncio.sleep(STANDBY if waiting else 0.01)
