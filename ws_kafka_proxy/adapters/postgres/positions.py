"""Writes group positions behind: what changed since the last statement is the next one, newest only."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from ws_kafka_proxy.adapters.postgres.store import PositionRow, Store, StoreLost

PAUSE = 0.01
"""Seconds between statements, unless somebody waits. A statement for each of a thousand commits a second would cost
more than the records; what is lost with the process is delivered again."""
RETRY = 0.5
"""Seconds between tries while PostgreSQL is away."""


class Positions:
    """`epoch`: the writer's, so that a former writer's positions are void."""

    def __init__(self, store: Store, log: logging.Logger) -> None:
        self.epoch = 0
        self._store = store
        self._log = log
        self._dirty: dict[tuple[int, str, int], PositionRow] = {}
        self._task: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def write(self, row: PositionRow) -> None:
        self._dirty[row.topic, row.group, row.part] = row
        self._start()

    def flushed(self) -> asyncio.Future[None]:
        """Done when what was given so far is written, or was tried once in vain."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._dirty or self._task is not None:
            self._waiters.append(waiter)
            self._start()
        else:
            waiter.set_result(None)
        return waiter

    async def close(self) -> None:
        """Write what is left, if that takes no longer than a second."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.flushed()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._dirty or self._waiters:
                rows, self._dirty = self._dirty, {}
                waiters, self._waiters = self._waiters, []
                written = await self._try(rows)
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(None)
                if not written:
                    self._dirty = {**rows, **self._dirty}
                    await asyncio.sleep(RETRY)
                elif not self._waiters:
                    await asyncio.sleep(PAUSE)
        finally:
            self._task = None

    async def _try(self, rows: dict[tuple[int, str, int], PositionRow]) -> bool:
        try:
            if rows:
                await self._store.write_positions(self.epoch, rows.values())
        except StoreLost as error:
            self._log.warning("positions of groups wait: %s", error)
            return False
        return True
