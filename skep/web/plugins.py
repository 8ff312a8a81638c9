"""/plugin: of plugin_manager, which answers, and of frontends, which ask it. `ctx.app.plugins` is a `Plugins`."""

from __future__ import annotations

from typing import Protocol

from skep.access import Action, Principal
from skep.errors import Conflict, NotFound
from skep.web.context import Context
from skep.web.routes import route
from skep.wire.plugin_api import (
    FilterQuery,
    ListQuery,
    PluginRegistered,
    PluginView,
    Registration,
    Selection,
    TopicQuery,
    UpdateQuery,
)
from skep.wire.views import Count

CHANGED = (NotFound, Conflict)


class Plugins(Protocol):
    """token: the caller's own. All raise `SkepError`."""

    async def list(self, caller: Principal, token: str, query: ListQuery) -> list[PluginView]: ...
    async def count(self, caller: Principal, token: str, query: Selection) -> int: ...
    async def register(
        self, caller: Principal, token: str, query: FilterQuery, body: Registration
    ) -> PluginRegistered: ...
    async def update(self, caller: Principal, token: str, query: UpdateQuery) -> None: ...
    async def delete(self, caller: Principal, token: str, topic_name: str | None) -> None: ...


@route("GET", "/plugin", action=Action.MANAGE_PLUGIN, query=ListQuery)
async def get_plugins(ctx: Context, query: ListQuery) -> list[PluginView]:
    """The caller's plugins; an administrator's: all."""
    return await _plugins(ctx).list(ctx.caller, ctx.token, query)


@route("GET", "/plugin/count", action=Action.MANAGE_PLUGIN, query=Selection)
async def get_plugin_count(ctx: Context, query: Selection) -> Count:
    """How many the caller sees."""
    return Count(await _plugins(ctx).count(ctx.caller, ctx.token, query))


@route("POST", "/plugin", action=Action.MANAGE_PLUGIN, query=FilterQuery, body=Registration, status=201, errors=CHANGED)
async def post_plugin(ctx: Context, query: FilterQuery, body: Registration) -> PluginRegistered:
    """Register a plugin. What matches is collected for it when this is answered."""
    return await _plugins(ctx).register(ctx.caller, ctx.token, query, body)


@route("PUT", "/plugin", action=Action.MANAGE_PLUGIN, query=UpdateQuery, status=204, errors=CHANGED)
async def put_plugin(ctx: Context, query: UpdateQuery) -> None:
    """Change a plugin; any field of the filter replaces the whole filter. Status INACTIVE disables it."""
    await _plugins(ctx).update(ctx.caller, ctx.token, query)


@route("DELETE", "/plugin", action=Action.MANAGE_PLUGIN, query=TopicQuery, status=204, errors=CHANGED)
async def delete_plugin(ctx: Context, query: TopicQuery) -> None:
    """Delete a plugin, with all that waits for it."""
    await _plugins(ctx).delete(ctx.caller, ctx.token, query.topic_name)


def _plugins(ctx: Context) -> Plugins:
    plugins: Plugins = ctx.app.plugins
    return plugins
