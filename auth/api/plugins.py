"""REST of plugins' tokens: `/auth/rest/token/plugin`. `ctx.app` is the service's `App`."""

from __future__ import annotations

from auth.core.plugin_tokens import PluginRequest, PluginTokens
from auth.core.requests import TokenPair
from skep import web
from skep.access import Action
from skep.wire.plugin_api import PluginTokenView, TokenQuery


@web.route("POST", "/token/plugin/create", action=Action.MANAGE_PLUGIN, body=PluginRequest, status=201)
async def create(ctx: web.Context, body: PluginRequest) -> TokenPair:
    """Tokens for a plugin of the caller's."""
    return await _tokens(ctx).create(ctx.caller, body)


@web.route("GET", "/token/plugin/authenticate", action=None, query=TokenQuery)
async def authenticate(ctx: web.Context, query: TokenQuery) -> PluginTokenView:
    """What a plugin's access token says, if it opens the plugin's stream."""
    return await _tokens(ctx).authenticate(query.token)


def _tokens(ctx: web.Context) -> PluginTokens:
    tokens: PluginTokens = ctx.app.authority.plugins
    return tokens
