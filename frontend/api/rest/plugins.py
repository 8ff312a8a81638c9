"""/token/plugin/create and /token/plugin/authenticate, for clients that know one base URL only; auth answers."""

from __future__ import annotations

import msgspec

from skep import web
from skep.access import Action
from skep.wire import views
from skep.wire.plugin_api import PluginTokenBody, PluginTokenView, TokenQuery


@web.route("POST", "/token/plugin/create", action=Action.MANAGE_PLUGIN, body=PluginTokenBody, status=201)
async def post_plugin_token(ctx: web.Context, body: PluginTokenBody) -> views.TokensView:
    """Tokens for a plugin of the caller's."""
    pair: views.TokensView = await ctx.app.tokens.create_plugin(ctx.token, msgspec.json.encode(body, enc_hook=int))
    return pair


@web.route("GET", "/token/plugin/authenticate", action=None, query=TokenQuery)
async def get_plugin_token(ctx: web.Context, query: TokenQuery) -> PluginTokenView:
    """What a plugin's access token says, if it opens the plugin's stream."""
    view: PluginTokenView = await ctx.app.tokens.authenticate_plugin(query.token)
    return view
