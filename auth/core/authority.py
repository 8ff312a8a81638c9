"""Issues tokens: for a login and password, for a refresh token, for the holder of another token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from auth.core.failures import Failures
from auth.core.plugin_tokens import PluginTokens
from auth.core.ports import Account, Passwords, Plugins, Users
from auth.core.requests import CreateRequest, TokenPair
from auth.settings import Settings
from skep import access, logs, tokens
from skep.access import Principal
from skep.errors import BadRequest, Forbidden, NotFound, SkepError, Unauthorized
from skep.tokens import ACCESS, REFRESH, Claims, Keys

MAX_PASSWORD = 128
MAX_LOGIN = 128
MAX_NOTES = 1_000
NO_CREDENTIALS = "Invalid or empty authorization request parameters"
BAD_CREDENTIALS = "Invalid credentials"
INACTIVE = "User is locked or disabled"
REFRESH_EXPIRED = "Token has expired"

log = logs.get("auth")


class Authority:
    """The rules of the token API. All methods raise `SkepError`. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        users: Users,
        passwords: Passwords,
        plugins: Plugins,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.plugins = PluginTokens(settings, keys, users, plugins, clock)
        self._settings, self._keys, self._users, self._passwords, self._clock = settings, keys, users, passwords, clock
        self._failures = Failures(settings.login_failures, settings.address_failures)
        self._notes: set[asyncio.Task[Any]] = set()

    async def login(self, login: str | None, password: str | None, address: str) -> TokenPair:
        """A wrong password and an unknown login get the same answer after the same work."""
        login = (login or "").strip()
        if not login or not password:
            raise BadRequest(NO_CREDENTIALS)
        account = await self._checked(login[: MAX_LOGIN + 1], password, address)
        if account.status != access.ACTIVE:
            raise Unauthorized(INACTIVE)
        await self._improve(account, password)
        await self._users.login_succeeded(account.id)
        user = await self._users.rights(account.id)
        if user is None:
            raise Unauthorized(BAD_CREDENTIALS)
        now = self._now()
        return self._pair(access.login_claims(user, now + self._access_life), now + self._refresh_life)

    async def _checked(self, login: str, password: str, address: str) -> Account:
        """The account whose password this is. Checks the limit again once it is its turn: of many tries at a time
        only as many are looked at as there are threads beyond the limit."""
        self._failures.check(login, address, self._clock())
        account = await self._users.by_login(login)
        async with self._passwords.turn():
            self._failures.check(login, address, self._clock())
            stored = account.password_hash if account is not None else None
            right = await self._passwords.matches(stored, password[: MAX_PASSWORD + 1])
            if right and account is not None and len(password) <= MAX_PASSWORD:
                self._failures.succeeded(login, address)
                return account
            self._failures.failed(login, address, self._clock())
        if account is not None:
            # Not awaited: its time would tell that the login exists.
            self._note(self._users.login_failed(account.id))
        raise Unauthorized(BAD_CREDENTIALS)

    async def _improve(self, account: Account, password: str) -> None:
        if self._passwords.is_outdated(account.password_hash):
            async with self._passwords.turn():
                better = await self._passwords.hashed(password)
            await self._users.rehash(account.id, account.password_hash, better)

    async def refresh(self, token: str | None) -> str:
        """A new access token with the rights of the refresh token. An empty text goes with most refusals, as in the
        reference: the clients look at the status."""
        if not token:
            raise BadRequest(NO_CREDENTIALS)
        try:
            claims = tokens.verify(token, self._keys)
        except Unauthorized:
            raise Unauthorized("") from None
        if claims.type != REFRESH:
            raise Unauthorized(tokens.INVALID_TYPE)
        now = self._now()
        if claims.expires < now:
            raise Unauthorized(REFRESH_EXPIRED)
        if claims.topic is not None:
            return await self.plugins.refresh(claims)
        user = await self._users.rights(claims.user_id) if claims.user_id is not None else None
        if user is None or user.status != access.ACTIVE:
            raise Unauthorized("")
        await self._users.login_succeeded(user.id)
        return self._token(claims, ACCESS, now + self._access_life)

    async def create(self, caller: Principal, request: CreateRequest) -> TokenPair:
        """Tokens for the caller, or by an administrator for anybody; never wider than the caller's own.
        With SKEP_COMPAT_TOKENS whatever is asked for."""
        caller.require(access.Action.MANAGE_TOKEN)
        target, compat = request.target, self._settings.compat
        if not compat and not caller.is_admin and target != caller.user_id:
            raise Forbidden  # whether the user exists is not the caller's business
        now = self._now()
        expires = _first(request.expiration, now + self._access_life)
        refresh_expires = _first(request.refresh_expiration, request.expiration, now + self._refresh_life)
        if any(time <= 0 for time in (expires, refresh_expires)):
            raise BadRequest
        if not compat and not caller.is_unlimited and max(expires, refresh_expires) > now + self._refresh_life:
            raise Forbidden
        wanted = request.wanted(expires)
        user = await self._users.rights(target)
        if user is None:
            raise NotFound(f"User with id = {target} not found")
        if user.status != access.ACTIVE:
            raise Forbidden(INACTIVE)
        claims = access.as_asked(user, wanted) if compat else access.narrowed(caller, user, wanted)
        return self._pair(claims, refresh_expires)

    async def close(self) -> None:
        """Waits for what is still being noted."""
        if self._notes:
            await asyncio.wait(list(self._notes), timeout=1)

    def _note(self, work: Coroutine[Any, Any, object]) -> None:
        if len(self._notes) >= MAX_NOTES:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(_noted(work))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    def _pair(self, claims: Claims, refresh_expires: int) -> TokenPair:
        return TokenPair(self._token(claims, ACCESS, claims.expires), self._token(claims, REFRESH, refresh_expires))

    def _token(self, claims: Claims, kind: int, expires: int) -> str:
        made = Claims(claims.user_id, claims.actions, claims.networks, claims.device_types, expires, kind)
        return tokens.encode(made, self._keys)

    def _now(self) -> int:
        return int(self._clock() * 1000)

    @property
    def _access_life(self) -> int:
        return self._settings.access_life * 1000

    @property
    def _refresh_life(self) -> int:
        return self._settings.refresh_life * 1000


def _first(*times: int | None) -> int:
    return next(int(time) for time in times if time is not None)


async def _noted(work: Coroutine[Any, Any, object]) -> None:
    try:
        await work
    except SkepError as error:
        log.warning("a failed login was not noted: %s", error)
