"""Answers `auth.requests`: the frontend's logins, refreshes and new tokens, of REST and WebSocket."""

from __future__ import annotations

from typing import TypeVar

from auth.core.authority import Authority
from auth.core.plugin_tokens import PluginRequest
from auth.core.requests import CreateRequest
from skep import web
from skep.errors import BadRequest, MalformedJson
from skep.wire import messages
from skep.wire.messages import CreatePluginToken, CreateToken, Login, Refresh, Tokens
from skep.wire.plugin_api import PluginTokenView

T = TypeVar("T")

_CREATE = web.Decoder(CreateRequest)
_PLUGIN = web.Decoder(PluginRequest)


class Calls:
    """`answer` for `skep.bus.Serving`."""

    def __init__(self, authority: Authority, authenticate: web.Authenticator) -> None:
        self._authority, self._authenticate = authority, authenticate

    async def answer(self, body: bytes) -> Tokens | PluginTokenView:
        request = messages.decode_auth(body)
        if isinstance(request, Login):
            pair = await self._authority.login(request.login, request.password, request.address)
        elif isinstance(request, Refresh):
            return Tokens(await self._authority.refresh(request.refresh_token), "")
        elif isinstance(request, CreateToken):
            caller = await self._authenticate(request.access_token)
            pair = await self._authority.create(caller, _decoded(_CREATE, request.request))
        elif isinstance(request, CreatePluginToken):
            caller = await self._authenticate(request.access_token)
            pair = await self._authority.plugins.create(caller, _decoded(_PLUGIN, request.request))
        else:
            return await self._authority.plugins.authenticate(request.token)
        return Tokens(pair.access_token, pair.refresh_token)


def _decoded(decoder: web.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except MalformedJson:
        raise BadRequest from None
