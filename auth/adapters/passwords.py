"""Password hashes in a bounded pool of threads: argon2id, and DeviceHive's salted SHA-256 read once.

A hash taken over from DeviceHive is stored as `sha256$<salt>$<hash>`: hash = base64(SHA-256(salt + password)).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

import argon2

from skep.metadata import passwords

ARGON2 = "$argon2id$"
LEGACY = "sha256$"


class Argon2Passwords(passwords.Pool):
    def __init__(
        self,
        threads: int,
        hasher: argon2.PasswordHasher = passwords.HASHER,
        wait_seconds: float = passwords.WAIT_SECONDS,
    ) -> None:
        super().__init__(threads, hasher, wait_seconds)
        self._nobody = hasher.hash(os.urandom(16))

    async def matches(self, stored: str | None, password: str) -> bool:
        return await self._run(self._matches, stored, password)

    def is_outdated(self, stored: str) -> bool:
        return not stored.startswith(ARGON2) or self._hasher.check_needs_rehash(stored)

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
