"""Tokens in use by open sockets and polls, with the principal each stands for as of now.

One `Identity` for all that show the same token. It follows the user: told of a change at once, and looked at
again every `REFRESH` seconds, so that a lost change is noticed too, and when the token has expired.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from skep.access import Principal
from skep.errors import SkepError, Unauthorized

REFRESH = 30.0
MAX_AGE = 60.0
"""Seconds for which rights that can't be read again are believed."""
RETRY = 1.0

Authenticate = Callable[[str], Awaitable[Principal]]
OnEnd = Callable[[bool], None]
"""on_end(revoked): the token is of no use (True), or its rights can't be read any more (False)."""
OnChange = Callable[[], None]
"""The user's rights are others."""


def _nothing() -> None: ...


class Identity:
    """`principal` is None once the token is revoked or has expired; its holders are told."""

    __slots__ = ("_holders", "checked", "principal", "token", "user_id")

    def __init__(self, token: str, principal: Principal) -> None:
        self.token = token
        self.principal: Principal | None = principal
        self.user_id = principal.user_id
        self.checked = time.monotonic()
        self._holders: dict[object, tuple[OnEnd, OnChange]] = {}

    def hold(self, holder: object, on_end: OnEnd, on_change: OnChange = _nothing) -> None:
        self._holders[holder] = on_end, on_change

    def drop(self, holder: object) -> bool:
        """True: nobody holds it now."""
        self._holders.pop(holder, None)
        return not self._holders

    def become(self, principal: Principal) -> None:
        """Rights as of now."""
        before, self.principal = self.principal, principal
        if before is None or before.user != principal.user:
            for _, tell in list(self._holders.values()):
                tell()

    def end(self, revoked: bool) -> None:
        self.principal = None
        for tell, _ in list(self._holders.values()):
            tell(revoked)


class Identities:
    def __init__(self, authenticate: Authenticate) -> None:
        self._authenticate = authenticate
        self._held: dict[str, Identity] = {}
        self._by_user: dict[int, set[Identity]] = {}
        self._task: asyncio.Task[None] | None = None
        self._again: dict[Identity, None] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held)

    async def enter(self, token: str, holder: object, on_end: OnEnd, on_change: OnChange = _nothing) -> Identity:
        """The identity of a token, held until `leave`. Raises Unauthorized, Unavailable."""
        principal = await self._authenticate(token)
        identity = self._held.get(token)
        if identity is None or identity.principal is None:
            identity = self._held[token] = Identity(token, principal)
            self._by_user.setdefault(identity.user_id, set()).add(identity)
        identity.hold(holder, on_end, on_change)
        return identity

    def leave(self, identity: Identity, holder: object) -> None:
        if identity.drop(holder):
            self._forget(identity)

    def changed(self, entity: str, ids: list[str]) -> None:
        """Listener to changes of metadata: what is said of users may mean an open socket."""
        if entity == "user":
            users = [int(i) for i in ids if i.isdigit()] if ids else list(self._by_user)
            for user in users:
                self._again.update(dict.fromkeys(self._by_user.get(user, ())))
            self._wake.set()

    async def follow(self) -> None:
        """Keep the principals up to date; until cancelled."""
        looked = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY):
                    await self._wake.wait()
            self._wake.clear()
            if time.monotonic() - looked >= RETRY:
                looked = time.monotonic()
                self._add_old()
            due, self._again = list(self._again), {}
            # Together: the cache reads what it does not have in one query for all of them.
            await asyncio.gather(*(self._refresh(identity) for identity in due))

    def _add_old(self) -> None:
        old, now = time.monotonic() - REFRESH, time.time() * 1000
        self._again.update(
            dict.fromkeys(
                i for i in self._held.values() if i.checked < old or (i.principal and i.principal.expires < now)
            )
        )

    async def _refresh(self, identity: Identity) -> None:
        began = time.monotonic()
        try:
            principal = await self._authenticate(identity.token)
        except Unauthorized:
            self._end(identity, revoked=True)
        except SkepError:
            if began - identity.checked > MAX_AGE:
                self._end(identity, revoked=False)
            else:
                self._again[identity] = None
        else:
            identity.checked = began
            identity.become(principal)

    def _end(self, identity: Identity, revoked: bool) -> None:
        self._forget(identity)
        identity.end(revoked)

    def _forget(self, identity: Identity) -> None:
        if self._held.get(identity.token) is identity:
            del self._held[identity.token]
        of_user = self._by_user.get(identity.user_id)
        if of_user is not None:
            of_user.discard(identity)
            if not of_user:
                del self._by_user[identity.user_id]
        self._again.pop(identity, None)
