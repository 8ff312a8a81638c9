"""Password rules and hashes: argon2id, one at a time per call, tens of milliseconds of CPU each."""

from __future__ import annotations

import argon2

from skep import errors

BAD_PASSWORD = "Password can contain only from 6 to 128 symbols!"  # noqa: S105 - a text
HASHER = argon2.PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)


def check(password: str) -> None:
    """Raises BadRequest."""
    if not 6 <= len(password) <= 128:
        raise errors.BadRequest(BAD_PASSWORD)


def hashed(password: str) -> str:
    """About 60 ms and 64 MiB: call it from a thread, not many at once."""
    return HASHER.hash(password)
