"""Answers `plugin.requests`: plugins' API by way of frontends, and plugin proxies."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from plugin_manager.core.manager import Manager
from skep import web
from skep.access import Action, Principal
from skep.errors import Unauthorized
from skep.web import json
from skep.wire import plugins
from skep.wire.plugin_api import FilterQuery, ListQuery, Registration, Selection, UpdateQuery
from skep.wire.plugins import Attend, Attendance, CountPlugins, ListPlugins, PluginRequest, RegisterPlugin, UpdatePlugin
from skep.wire.views import Count

_LIST, _COUNT = json.Decoder(ListQuery), json.Decoder(Selection)
_FILTER, _BODY, _UPDATE = json.Decoder(FilterQuery), json.Decoder(Registration), json.Decoder(UpdateQuery)


class Calls:
    """`answer` for `skep.bus.Serving`."""

    def __init__(self, manager: Manager, authenticate: web.Authenticator) -> None:
        self._manager, self._authenticate = manager, authenticate

    async def answer(self, body: bytes) -> Attendance | bytes:
        request = plugins.decode(body)
        if isinstance(request, Attend):
            return await self._manager.attend(request)
        caller = await self._authenticate(request.access_token)
        caller.require(Action.MANAGE_PLUGIN)
        return json.encode(await self._answer(caller, request))

    async def _answer(self, caller: Principal, request: PluginRequest) -> list[Any] | Struct | None:
        manager = self._manager
        if isinstance(request, Attend):
            raise Unauthorized
        token = request.access_token
        if isinstance(request, ListPlugins):
            return list(await manager.list(caller, token, _LIST.decode(request.query)))
        if isinstance(request, CountPlugins):
            return Count(await manager.count(caller, token, _COUNT.decode(request.query)))
        if isinstance(request, RegisterPlugin):
            query, body = _FILTER.decode(request.query), _BODY.decode(request.body)
            return await manager.register(caller, token, query, body)
        if isinstance(request, UpdatePlugin):
            await manager.update(caller, token, _UPDATE.decode(request.query))
            return None
        await manager.delete(caller, token, request.topic_name)
        return None
