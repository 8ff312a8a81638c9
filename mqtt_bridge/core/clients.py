"""Who a client of the broker is: CONNECT, and its principal as of now.

A client comes with a login and a password, with a token as its password, or with nothing. Its id is bound to the user
who first came with it: answers go to topics that name it, so nobody else may have it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Protocol

import msgspec

from mqtt_bridge.core import topics
from mqtt_bridge.core.acl import Client
from skep import access, tokens
from skep.access import Principal, User
from skep.errors import Unauthorized
from skep.tokens import Claims, Keys

FAR = 2**52
"""Expiry of what does not expire: a login lasts as long as its session."""
CALL_LIFE = 60_000
"""ms that a token made for one request is good for."""
CACHED = 10_000
CACHE_SECONDS = 60.0

_claims = msgspec.json.Decoder(Claims)


class Bound(Protocol):
    """`skep.metadata.mqtt.MqttClient`."""

    @property
    def user_id(self) -> int: ...
    @property
    def claims(self) -> bytes | None: ...


class Registry(Protocol):
    """Client ids and whose they are. All raise Unavailable."""

    async def get(self, client_id: str, fresh: bool = False) -> Bound | None: ...

    async def bind(self, client_id: str, user_id: int, claims: bytes | None) -> bool:
        """False where it is another user's."""


class Users(Protocol):
    """`skep.metadata.Caches`, as it is used here."""

    async def user(self, id: int, fresh: bool = False) -> User | None: ...


class Logins(Protocol):
    async def login(self, login: str, password: str, address: str) -> str:
        """An access token. Raises Unauthorized, TooManyRequests, Unavailable."""


Narrowed = Callable[[str], Awaitable[bool]]


class Clients:
    """anonymous: whether clients without a password may connect. What a session has subscribed to outlives its
    connection; so who comes with less than what the client id had before gets in when that session is gone."""

    def __init__(self, registry: Registry, users: Users, logins: Logins, keys: Keys, anonymous: bool) -> None:
        self._registry, self._users, self._logins = registry, users, logins
        self._keys, self._anonymous = keys, anonymous
        self._known: OrderedDict[bytes, tuple[float, int]] = OrderedDict()
        self._narrowed: Narrowed | None = None
        self.ending: set[str] = set()
        """Clients who are not let in before their sessions have ended: remove them then."""

    def on_narrowed(self, callback: Narrowed) -> None:
        """Called with a client id before its session goes on with less. Ends the session and returns True; or returns
        False, and the client id is among `ending`."""
        self._narrowed = callback

    async def connect(self, client_id: str, username: str, password: str, address: str) -> bool:
        """Whether it may. Raises TooManyRequests, Unavailable."""
        if not topics.is_client_id(client_id) or client_id in self.ending:
            return False
        if not password:
            return self._anonymous and not username and await self._registry.get(client_id) is None
        try:
            if password.count(".") == 2:
                claims = tokens.decode(password, self._keys, _now())
                principal = await self._principal(claims)
                return await self._bind(client_id, principal, msgspec.json.encode(claims))
            user_id = await self._logged_in(username, password, address)
        except Unauthorized:
            return False
        user = await self._users.user(user_id)
        if user is None or user.status != access.ACTIVE:
            return False
        return await self._registry.bind(client_id, user_id, None)

    async def _bind(self, client_id: str, principal: Principal, claims: bytes) -> bool:
        bound = await self._registry.get(client_id, fresh=True)
        narrows = bound is not None and bound.user_id == principal.user_id and not await self._keeps(principal, bound)
        if not await self._registry.bind(client_id, principal.user_id, claims):
            return False
        if not narrows or self._narrowed is None or await self._narrowed(client_id):
            return True
        self.ending.add(client_id)
        return False

    async def _keeps(self, principal: Principal, bound: Bound) -> bool:
        """Whether it may all that the client id's last token would allow, were it not for its expiry."""
        try:
            claims = msgspec.structs.replace(await self._claims_of(bound), expires=FAR)
            return covers(principal, await self._principal(claims))
        except Unauthorized:
            return True

    async def authenticated(self, client_id: str, token: str) -> bool:
        """A connected client has shown this token. False where the client id is another user's."""
        claims = tokens.decode(token, self._keys, _now())
        return claims.user_id is not None and await self._registry.bind(
            client_id, claims.user_id, msgspec.json.encode(claims)
        )

    async def client(self, client_id: str) -> Client:
        """With its rights as of now; anonymous where they are gone. Raises Unavailable."""
        bound = await self._registry.get(client_id) or await self._registry.get(client_id, fresh=True)
        if bound is None:
            return Client(client_id)
        try:
            return Client(client_id, await self._principal(await self._claims_of(bound)))
        except Unauthorized:
            return Client(client_id)

    async def is_gone(self, client_id: str) -> bool:
        """Whether it was somebody and is nobody any more: user disabled or deleted, token expired."""
        return await self._registry.get(client_id) is not None and (await self.client(client_id)).principal is None

    async def token(self, client_id: str) -> str:
        """An access token with its rights, good for one request; "" for an anonymous client."""
        principal = (await self.client(client_id)).principal
        if principal is None:
            return ""
        until = min(principal.claims.expires, _now() + CALL_LIFE)
        return tokens.encode(msgspec.structs.replace(principal.claims, expires=until), self._keys)

    async def _claims_of(self, bound: Bound) -> Claims:
        if bound.claims is not None:
            return _claims.decode(bound.claims)
        user = await self._users.user(bound.user_id)
        if user is None:
            raise Unauthorized
        return access.login_claims(user, FAR)

    async def _principal(self, claims: Claims) -> Principal:
        if claims.user_id is None:
            raise Unauthorized
        user = await self._users.user(claims.user_id)
        if user is None or user.status != access.ACTIVE:
            user = await self._users.user(claims.user_id, fresh=True)
        return access.principal(claims, user, _now())

    async def _logged_in(self, login: str, password: str, address: str) -> int:
        """The user's id. A password that was right is believed for a while: thousands that come back at once do not
        cost a hash each, and a changed password ends what it let in by the user's change anyway."""
        key = blake2b(f"{len(login)}:{login}:{password}".encode("utf-8", "surrogatepass"), digest_size=32).digest()
        until, user_id = self._known.get(key, (0.0, 0))
        if until > time.monotonic():
            return user_id
        claims = tokens.decode(await self._logins.login(login, password, address), self._keys, _now())
        if claims.user_id is None:
            raise Unauthorized
        self._known[key] = (time.monotonic() + CACHE_SECONDS, claims.user_id)
        self._known.move_to_end(key)
        if len(self._known) > CACHED:
            self._known.popitem(last=False)
        return claims.user_id

    def forget(self, user_ids: list[int]) -> None:
        """These users have changed, perhaps their passwords; none named: any may have."""
        for key in [key for key, (_, user) in self._known.items() if not user_ids or user in user_ids]:
            del self._known[key]


def covers(now: Principal, before: Principal) -> bool:
    """Whether it still may all it could."""
    return (
        before.actions <= now.actions
        and _includes(now.networks, before.networks)
        and _includes(now.device_types, before.device_types)
    )


def _includes(all_: frozenset[int] | None, some: frozenset[int] | None) -> bool:
    return all_ is None or (some is not None and some <= all_)


def _now() -> int:
    return int(time.time() * 1000)
