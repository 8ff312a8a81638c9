"""Issues and checks the tokens of plugins (reference: proxy-plugins-mqtt.md 3.7)."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from auth.core.ports import Plugin, Plugins, Users
from auth.core.requests import TokenPair, _actions
from auth.settings import Settings
from skep import access, tokens
from skep.access import Action, Principal
from skep.errors import BadRequest, Forbidden, Unauthorized
from skep.tokens import ACCESS, REFRESH, Claims, Keys
from skep.wire import timestamps
from skep.wire.plugin_api import PluginTokenBody, PluginTokenView
from skep.wire.plugins import Filter

NO_TOPIC = "No permisions or invalid topic name"
MISSING = "Plugin is not found"
DISABLED = "Plugin is disabled"
EMPTY = "Token is empty"
INVALID = "Token is not valid"
EXPIRED = "Token has expired"

_decode_filter = msgspec.json.Decoder(Filter).decode


class PluginRequest(PluginTokenBody):
    """Body of POST /token/plugin/create."""

    @property
    def actions(self) -> list[int]:
        """Raises `BadRequest`."""
        return [int(Action.MANAGE_PLUGIN)] if self.a is None else _actions(self.a) or []


class PluginTokens:
    """All methods raise `SkepError`. `clock` gives seconds since the epoch."""

    def __init__(
        self, settings: Settings, keys: Keys, users: Users, plugins: Plugins, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._keys, self._users, self._plugins, self._clock = settings, keys, users, plugins, clock

    async def create(self, caller: Principal, request: PluginRequest) -> TokenPair:
        """Tokens for a plugin of the caller's own."""
        if caller.topic is not None:
            raise Unauthorized
        caller.require(Action.MANAGE_PLUGIN)
        topic = request.tpc or ""
        plugin = await self._plugins.by_topic(topic)
        if plugin is None or (plugin.user_id != caller.user_id and not caller.is_admin):
            # Whether there is one of somebody else's is not a client's business.
            raise Forbidden(NO_TOPIC)
        if plugin.user_id != caller.user_id:
            raise Forbidden(f"User with id {plugin.user_id} is not a plugin creator")
        actions, now = request.actions, int(self._clock() * 1000)
        if not self._settings.compat:
            actions = access.narrowed_actions(caller, actions)
            _check_reach(caller, plugin)
        # A plain integer: what was decoded is of a class of its own, which JSON has no place for.
        asked = None if request.e is None else int(request.e)
        longest = now + self._settings.refresh_life * 1000
        expires = now + self._settings.access_life * 1000 if asked is None else asked
        refresh_expires = longest if asked is None else asked
        if expires <= 0:
            raise BadRequest
        if not caller.is_unlimited and refresh_expires > longest:
            raise Forbidden
        claims = Claims(None, actions, None, None, expires, ACCESS, topic)
        refresh = replace(claims, expires=refresh_expires, type=REFRESH)
        return TokenPair(tokens.encode(claims, self._keys), tokens.encode(refresh, self._keys))

    async def refresh(self, claims: Claims) -> str:
        """A new access token for the claims of a valid refresh token."""
        await self._check(claims)
        expires = int(self._clock() * 1000) + self._settings.access_life * 1000
        return tokens.encode(replace(claims, expires=expires, type=ACCESS), self._keys)

    async def authenticate(self, token: str | None) -> PluginTokenView:
        """What an access token says that opens its plugin's stream."""
        if not token:
            raise Unauthorized(EMPTY)
        try:
            claims = tokens.verify(token, self._keys)
        except Unauthorized:
            raise Unauthorized(INVALID) from None
        if claims.topic is None:
            raise Unauthorized(INVALID)
        if claims.type != ACCESS:
            raise Unauthorized(tokens.INVALID_TYPE)
        if claims.expires < int(self._clock() * 1000):
            raise Unauthorized(EXPIRED)
        await self._check(claims)
        return PluginTokenView(claims.actions, timestamps.format(claims.expires), claims.type, claims.topic)

    async def _check(self, claims: Claims) -> None:
        """The plugin is there and enabled, its owner active."""
        plugin = await self._plugins.by_topic(claims.topic or "")
        if plugin is None:
            raise Unauthorized(MISSING)
        owner = await self._users.rights(plugin.user_id) if plugin.user_id is not None else None
        if owner is None or owner.status != access.ACTIVE:
            raise Unauthorized("")
        if not plugin.enabled:
            raise Unauthorized(DISABLED)


def _check_reach(caller: Principal, plugin: Plugin) -> None:
    """A narrowed token makes no token that shows more than itself. Raises Forbidden."""
    wanted = _decode_filter(plugin.wanted)
    for asked, seen, own in (
        (wanted.networks, caller.networks, access.networks_of(caller.user)),
        (wanted.device_types, caller.device_types, access.device_types_of(caller.user)),
    ):
        named = own if asked is None else frozenset(asked) & (frozenset(asked) if own is None else own)
        if seen is not None and (named is None or not named <= seen):
            raise Forbidden
