"""Tokens, asked of auth over the bus."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from skep import errors
from skep.wire import topics
from skep.wire.messages import AuthenticatePlugin, CreatePluginToken, CreateToken, Login, Refresh
from skep.wire.messages import Tokens as Pair
from skep.wire.plugin_api import PluginTokenView
from skep.wire.views import AccessTokenView, TokensView

TIMEOUT = 5.0
_decoder: msgspec.msgpack.Decoder[Pair] = msgspec.msgpack.Decoder(Pair)
_view_decoder: msgspec.msgpack.Decoder[PluginTokenView] = msgspec.msgpack.Decoder(PluginTokenView)


class Bus(Protocol):
    async def request(self, topic: str, body: Any, *, timeout: float) -> bytes: ...


class Tokens:
    """Errors are auth's, with its codes and texts."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def login(self, login: str | None, password: str | None, address: str) -> TokensView:
        return await self._pair(Login(login or "", password or "", address))

    async def refresh(self, refresh_token: str | None) -> AccessTokenView:
        if not refresh_token:
            raise errors.BadRequest("Missing or invalid payload in request")
        return AccessTokenView((await self._pair(Refresh(refresh_token))).access_token)

    async def create(self, access_token: str, request: bytes) -> TokensView:
        """request: the JSON body of POST /token/create."""
        return await self._pair(CreateToken(access_token, request))

    async def create_plugin(self, access_token: str, request: bytes) -> TokensView:
        """request: the JSON body of POST /token/plugin/create."""
        return await self._pair(CreatePluginToken(access_token, request))

    async def authenticate_plugin(self, token: str | None) -> PluginTokenView:
        answer = await self._bus.request(topics.AUTH_REQUESTS, AuthenticatePlugin(token), timeout=TIMEOUT)
        return _view_decoder.decode(answer)

    async def _pair(self, body: Login | Refresh | CreateToken | CreatePluginToken) -> TokensView:
        pair = _decoder.decode(await self._bus.request(topics.AUTH_REQUESTS, body, timeout=TIMEOUT))
        return TokensView(pair.access_token, pair.refresh_token)
