import asyncio
import base64
import hashlib

import argon2
import pytest

from auth.adapters.passwords import Argon2Passwords
from skep.errors import Unavailable
from skep.metadata import passwords

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
BETTER = argon2.PasswordHasher(time_cost=2, memory_cost=8, parallelism=1)
SALT = "abcdefghijklmnopqrstuvwx"
LEGACY = "sha256$" + SALT + "$" + base64.b64encode(hashlib.sha256((SALT + "secret").encode()).digest()).decode()


class Counting(argon2.PasswordHasher):
    """Counts what costs time."""

    verified = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:
        self.verified += 1
        return super().verify(hash, password)


@pytest.mark.parametrize("stored", [CHEAP.hash("secret"), LEGACY], ids=["argon2id", "sha256"])
async def test_matches(stored: str) -> None:
    made = Argon2Passwords(1, CHEAP)
    assert await made.matches(stored, "secret")
    for wrong in ("Secret", "", "secret ", "\ud800", "\0"):
        if wrong != "\ud800" or not stored.startswith("sha256"):
            assert not await made.matches(stored, wrong)
    made.close()


@pytest.mark.parametrize(
    "stored", [None, "", "sha256$", "sha256$x", "sha256$x$", "md5$x$y", "$argon2id$broken", "plain"]
)
async def test_no_password_matches_a_broken_hash(stored: str | None) -> None:
    made = Argon2Passwords(1, CHEAP)
    for password in ("", "x", "plain"):
        assert not await made.matches(stored, password)
    made.close()


async def test_every_check_costs_one_argon2() -> None:
    hasher = Counting(time_cost=1, memory_cost=8, parallelism=1)
    made = Argon2Passwords(1, hasher)
    for stored in (None, LEGACY, CHEAP.hash("x")):
        before = hasher.verified
        await made.matches(stored, "secret")
        assert hasher.verified == before + 1
    made.close()


async def test_outdated() -> None:
    made = Argon2Passwords(1, BETTER)
    assert made.is_outdated(LEGACY)
    assert made.is_outdated(CHEAP.hash("x"))
    assert not made.is_outdated(await made.hashed("x"))
    made.close()


async def test_turns_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MAX_WAITING", 1)
    made = Argon2Passwords(1, CHEAP, wait_seconds=0.01)
    async with made.turn():
        with pytest.raises(Unavailable):  # waited too long
            await _take(made)
        waiting = asyncio.ensure_future(_take(made))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):  # too many wait
            await _take(made)
        with pytest.raises(Unavailable):
            await waiting
    await _take(made)
    made.close()


async def _take(made: Argon2Passwords) -> None:
    async with made.turn():
        pass
