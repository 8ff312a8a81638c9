"""What the core needs from outside."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from skep import access


class Account(Protocol):
    """A user as stored (`skep.metadata.rows.User`)."""

    @property
    def id(self) -> int: ...
    @property
    def password_hash(self) -> str: ...
    @property
    def status(self) -> int: ...


class Users(Protocol):
    """`skep.metadata`'s users."""

    async def by_login(self, login: str) -> Account | None: ...
    async def rights(self, id: int) -> access.User | None: ...
    async def rehash(self, id: int, old: str, new: str) -> None: ...
    async def login_failed(self, id: int) -> int: ...
    async def login_succeeded(self, id: int) -> int | None: ...


class Plugin(Protocol):
    """A plugin as stored (`skep.metadata.rows.Plugin`). wanted: JSON of `skep.wire.plugins.Filter`."""

    @property
    def user_id(self) -> int | None: ...
    @property
    def wanted(self) -> bytes: ...
    @property
    def enabled(self) -> bool: ...


class Plugins(Protocol):
    """`skep.metadata`'s plugins."""

    async def by_topic(self, topic_name: str) -> Plugin | None: ...


class Passwords(Protocol):
    """Checks passwords, a few at a time."""

    def turn(self) -> AbstractAsyncContextManager[None]:
        """A place among those being checked. Raises `Unavailable` when too many wait or the wait is too long."""

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether the password belongs to the hash. Takes the same time for every hash, None included."""

    def is_outdated(self, stored: str) -> bool:
        """Whether a better hash should replace this one, of a known password."""

    async def hashed(self, password: str) -> str: ...
