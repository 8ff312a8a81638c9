"""The way to PostgreSQL: pool, deadlines, transactions with their outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Row as SqlRow
from sqlalchemy import insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.sql import Executable

from skep import errors
from skep.wire.messages import Changed

from . import failures, outbox, tables

T = TypeVar("T")
P = ParamSpec("P")

TIMEOUT = 4.5
"""Seconds any operation may take, waiting for a connection included: callers answer within 5 s."""
STATEMENT_TIMEOUT = 5.0
CONNECT_TIMEOUT = 3
POOL = 8
TRIES = 3
PLANNING = "-c random_page_cost=1.1"
"""Indexes are in memory or on a flash drive. By the server's 4, a deep page of a caller with many networks is sorted
each time instead of read off the index. What DATABASE_URL says in `options` counts more."""

Committed = Callable[[list[Changed]], None]


def parse(url: str) -> URL:
    """DATABASE_URL as SQLAlchemy has it. Raises ValueError with one line that does not hold the password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError("DATABASE_URL is not of the form postgresql://user:password@host:port/database") from None
    if parsed.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise ValueError(f"DATABASE_URL must begin with postgresql://, not {parsed.drivername}://")
    if not parsed.database:
        raise ValueError("DATABASE_URL names no database: postgresql://user:password@host:port/database")
    return parsed.set(drivername="postgresql+psycopg")


def connect(url: str, *, pool: int = POOL, statement_timeout: float = STATEMENT_TIMEOUT) -> AsyncEngine:
    """An engine that connects when first used. pool 0: each use its own connection. Times in seconds."""
    parsed = parse(url)
    session = f"-c statement_timeout={int(statement_timeout * 1000)} -c idle_in_transaction_session_timeout=15000"
    given = parsed.query.get("options", "")
    own = given if isinstance(given, str) else ""
    arguments = {
        "options": " ".join(filter(None, (PLANNING, own, session))),
        "connect_timeout": CONNECT_TIMEOUT,
        "application_name": "skep",
        # A server that vanished without a word is noticed by the kernel, not after minutes.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 2,
        "tcp_user_timeout": 5000,
    }
    if pool == 0:
        return create_async_engine(parsed, connect_args=arguments, poolclass=NullPool)
    return create_async_engine(
        parsed,
        connect_args=arguments,
        pool_size=pool,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT,
        pool_pre_ping=True,  # after a restart of the server no request meets a dead connection
    )


class Transaction:
    """One transaction and what it will tell: rows of the outbox, written just before it commits."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.changes: list[Changed] = []
        self._calls: list[outbox.Row] = []

    async def all(self, statement: Executable) -> Sequence[SqlRow[Any]]:
        return (await self.connection.execute(statement)).all()

    async def first(self, statement: Executable) -> SqlRow[Any] | None:
        return (await self.connection.execute(statement)).first()

    async def value(self, statement: Executable) -> Any:
        return (await self.connection.execute(statement)).scalar()

    async def run(self, statement: Executable) -> None:
        await self.connection.execute(statement)

    async def affected(self, statement: Executable) -> int:
        """Rows of an update or a delete; SQLAlchemy does not count those of an insert."""
        return (await self.connection.execute(statement)).rowcount

    def changed(self, entity: str, *ids: object) -> None:
        """Tell every cache. No ids: all of the entity."""
        self.changes.append(Changed(entity, [str(i) for i in ids]))

    def call(self, row: outbox.Row) -> None:
        self._calls.append(row)

    async def write_outbox(self) -> bool:
        """Whether there was anything to tell."""
        rows = [outbox.changed(c.entity, c.ids) for c in self.changes] + self._calls
        if rows:
            values = [{"topic": r.topic, "key": r.key, "payload": r.payload} for r in rows]
            await self.connection.execute(insert(tables.outbox), values)
        return bool(rows)


class Database:
    """`read` and `write` run a function on a connection and raise errors of `skep.errors` only.

    Cancelling the caller rolls back. Past the deadline the caller gets Unavailable at once, whatever the driver
    does; a commit that was on its way by then may have happened.
    """

    def __init__(self, url: str, pool: int = POOL, timeout: float = TIMEOUT) -> None:
        self.url = url
        self._engine = connect(url, pool=pool)
        self.reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        """Each statement is a transaction of its own."""
        self._timeout = timeout
        self._strays: set[asyncio.Task[Any]] = set()
        self._listeners: list[Committed] = []

    def on_commit(self, listener: Committed) -> None:
        """`listener` gets the changes of each transaction of this process right after its commit, if it has
        something to tell (not after, say, a counted login failure)."""
        self._listeners.append(listener)

    async def close(self) -> None:
        for task in list(self._strays):
            task.cancel()
        if self._strays:
            await asyncio.wait(self._strays, timeout=1)
        await self._engine.dispose()

    async def read(
        self, work: Callable[Concatenate[Transaction, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async def run() -> T:
            async with self.reader.connect() as connection:
                return await work(Transaction(connection), *args, **kwargs)

        return await self.bounded(run())

    async def write(
        self, work: Callable[Concatenate[Transaction, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self.bounded(self._write(lambda t: work(t, *args, **kwargs)))

    async def hold(self, work: Callable[[Transaction], Awaitable[T]], timeout: float) -> T:
        """`write` with a deadline of its own, for work that waits for others inside the transaction."""
        return await self.bounded(self._write(work), timeout)

    async def _write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        for left in reversed(range(TRIES)):
            try:
                async with self._engine.begin() as connection:
                    transaction = Transaction(connection)
                    result = await work(transaction)
                    told = await transaction.write_outbox()
            except Exception as error:
                if left and failures.repeatable(error):
                    continue
                raise
            for listener in self._listeners if told else ():
                listener(transaction.changes)
            return result
        raise AssertionError("the last try returns or raises")

    async def bounded(self, work: Coroutine[Any, Any, T], timeout: float = 0) -> T:
        """Its result within the timeout (0: the usual one). Raises errors of `skep.errors`."""
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout or self._timeout)
        except asyncio.CancelledError:
            self._abandon(task)
            raise
        if not done:
            self._abandon(task)
            raise errors.Unavailable
        try:
            return task.result()
        except Exception as error:
            wrapped = failures.translated(error)
            if wrapped is error:
                raise
            raise wrapped from error

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        """Let go of a task without waiting: on a dead link the driver's own cancelling takes seconds."""
        task.cancel()
        self._strays.add(task)
        task.add_done_callback(self._buried)

    def _buried(self, task: asyncio.Task[Any]) -> None:
        self._strays.discard(task)
        if not task.cancelled():
            task.exception()


class Kept:
    """One connection that stays open between its uses, for what is to end with it: session locks. A use that fails or
    is cancelled ends it, and the next one has another. appear: run first on each. It counts among those of the pool.
    """

    def __init__(self, database: Database, appear: Callable[[Transaction], Awaitable[None]]) -> None:
        self._database, self._appear = database, appear
        self._connection: AsyncConnection | None = None
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """As `Database.read`, one after the other."""
        async with self._turn:
            return await self._database.bounded(self._run(work))

    async def _run(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        # Out of the next one's way: what is abandoned takes its connection with it.
        connection, self._connection = self._connection, None
        try:
            if connection is None:
                connection = await self._database.reader.connect()
                await self._appear(Transaction(connection))
            result = await work(Transaction(connection))
        except BaseException:
            if connection is not None:
                await _ended(connection)
            raise
        self._connection = connection
        return result

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await _ended(connection)


async def _ended(connection: AsyncConnection) -> None:
    """Not back into the pool: its session would live on there."""
    await connection.invalidate()
    await connection.close()
