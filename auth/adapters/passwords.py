"""Password hashes in a bounded pool of threads: argon2id, and DeviceHive's salted SHA-256 read once.

A hash taken over from DeviceHive is stored as `sha256$<salt>$<hash>`: hash = base64(SHA-256(salt + password)).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import argon2

from skep.errors import Unavailable
from skep.metadata import passwords

ARGON2 = "$argon2id$"
LEGACY = "sha256$"
MAX_WAITING = 256
WAIT_SECONDS = 4.0


class Argon2Passwords:
    """argon2 releases the interpreter while it works, so one thread per core keeps the loop free."""

    def __init__(
        self, threads: int, hasher: argon2.PasswordHasher = passwords.HASHER, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        threads = min(threads, os.cpu_count() or 1)
        self._hasher, self._wait_seconds = hasher, wait_seconds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="hash")
        self._free = asyncio.Semaphore(threads)
        self._waiting = 0
        self._nobody = hasher.hash(os.urandom(16))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        if self._waiting >= MAX_WAITING:
            raise Unavailable
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise Unavailable from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()

    async def matches(self, stored: str | None, password: str) -> bool:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._matches, stored, password)

    def is_outdated(self, stored: str) -> bool:
        return not stored.startswith(ARGON2) or self._hasher.check_needs_rehash(stored)

    async def hashed(self, password: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._hasher.hash, password)

    def _matches(self, stored: str | None, password: str) -> bool:
        if stored is None or not stored.startswith(ARGON2):
            self._verify(self._nobody, password)  # for its time only
            return stored is not None and _legacy_matches(stored, password)
        return self._verify(stored, password)

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError, UnicodeEncodeError):
            return False


def _legacy_matches(stored: str, password: str) -> bool:
    salt, _, expected = stored.removeprefix(LEGACY).partition("$")
    if not stored.startswith(LEGACY) or not expected:
        return False
    actual = base64.b64encode(hashlib.sha256((salt + password).encode()).digest()).decode()
    return hmac.compare_digest(actual.encode(), expected.encode())
