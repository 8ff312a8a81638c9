"""Bearer tokens to principals, for REST requests and WebSocket `authenticate` alike."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

from skep import access, tokens
from skep.access import Principal, User
from skep.errors import Unauthorized
from skep.tokens import Claims, Keys

MAX_CACHED = 10_000
"""Verified tokens kept, about 1 KiB each."""


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization` header, None without the header. Raises `Unauthorized` for other schemes."""
    if header is None:
        return None
    if len(header) <= 6 or not header.startswith("Bearer"):
        raise Unauthorized
    return header[6:].strip()


class Plugin(Protocol):
    """`skep.metadata`'s plugin."""

    @property
    def user_id(self) -> int | None: ...


class Authenticator:
    """`await authenticator(token)` gives the user's principal or raises `Unauthorized`. Plugin tokens are refused,
    unless `plugin` is given: then they stand for the plugin's owner, with its `topic` (`Principal.topic`), and who
    serves them says what they may do.

    user: the rights of a user as of now (a cache that the bus keeps fresh). A user that is missing or inactive in
    `user` is looked up with `fresh` before the refusal, where given. plugin: by topic name, likewise. Signatures are
    verified once per token.
    """

    def __init__(
        self,
        keys: Keys,
        user: Callable[[int], Awaitable[User | None]],
        *,
        fresh: Callable[[int], Awaitable[User | None]] | None = None,
        plugin: Callable[[str], Awaitable[Plugin | None]] | None = None,
        compat: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys, self._user, self._fresh, self._compat, self._clock = keys, user, fresh, compat, clock
        self._plugin = plugin
        self._verified: OrderedDict[str, tuple[Claims, Principal | None]] = OrderedDict()

    async def __call__(self, token: str) -> Principal:
        claims, known = self._claims(token)
        now = int(self._clock() * 1000)
        if claims.type != tokens.ACCESS:
            raise Unauthorized
        if claims.expires < now:
            raise Unauthorized(tokens.EXPIRED)
        user_id = await self._user_of(claims)
        user = await self._user(user_id)
        if (user is None or user.status != access.ACTIVE) and self._fresh is not None:
            user = await self._fresh(user_id)
        if known is not None and known.user is user:
            return known
        made = access.principal(claims, user, now, self._compat)
        self._verified[token] = (claims, made)
        self._verified.move_to_end(token)
        if len(self._verified) > MAX_CACHED:
            self._verified.popitem(last=False)
        return made

    async def _user_of(self, claims: Claims) -> int:
        if claims.user_id is not None:
            return claims.user_id
        if claims.topic is None or self._plugin is None:
            raise Unauthorized
        plugin = await self._plugin(claims.topic)
        if plugin is None or plugin.user_id is None:
            raise Unauthorized
        return plugin.user_id

    def _claims(self, token: str) -> tuple[Claims, Principal | None]:
        if (known := self._verified.get(token)) is not None:
            self._verified.move_to_end(token)
            return known
        return tokens.verify(token, self._keys), None
