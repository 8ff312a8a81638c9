"""Password rules and hashes: argon2id, one at a time per call, tens of milliseconds of CPU each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

import argon2

from skep import errors
from skep.wire import fields

T = TypeVar("T")
P = ParamSpec("P")

HASHER = argon2.PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)
MAX_WAITING = 256
WAIT_SECONDS = 4.0


def check(password: str) -> None:
    """Raises BadRequest."""
    fields.check(fields.Password, password)


def hashed(password: str) -> str:
    """About 60 ms and 64 MiB: call it from a thread, not many at once."""
    return HASHER.hash(password)


class Pool:
    """Threads for hashing. argon2 releases the interpreter while it works, so one thread per core keeps the loop
    free. Take a `turn` for what is asked of it: the pool's own queue has no bound."""

    def __init__(
        self, threads: int, hasher: argon2.PasswordHasher = HASHER, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        threads = min(threads, os.cpu_count() or 1)
        self._hasher, self._wait_seconds = hasher, wait_seconds
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hash")
        self._free = asyncio.Semaphore(threads)
        self._waiting = 0

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises Unavailable when too many wait or the wait is too long."""
        if self._waiting >= MAX_WAITING:
            raise errors.Unavailable
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise errors.Unavailable from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()

    async def hashed(self, password: str) -> str:
        return await self._run(self._hasher.hash, password)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))
