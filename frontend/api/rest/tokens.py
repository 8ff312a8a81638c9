"""/token, /token/refresh, /token/create, for clients that know one base URL only; auth answers."""

from __future__ import annotations

import msgspec

from frontend.api.rest.inputs import CHANGED
from skep import errors, web
from skep.access import Action
from skep.wire import views
from skep.wire.token_api import CreateBody, Credentials, RefreshRequest


@web.route("POST", "/token", action=None, body=Credentials, status=201, errors=(*CHANGED, errors.TooManyRequests))
async def post_token(ctx: web.Context, body: Credentials) -> views.TokensView:
    """Log in."""
    pair: views.TokensView = await ctx.app.tokens.login(body.login, body.password, ctx.address)
    return pair


@web.route("POST", "/token/refresh", action=None, body=RefreshRequest, status=201, errors=CHANGED, bare=(401,))
async def post_refresh(ctx: web.Context, body: RefreshRequest) -> views.AccessTokenView:
    """A new access token for a refresh token."""
    made: views.AccessTokenView = await ctx.app.tokens.refresh(body.refresh_token)
    return made


@web.route("POST", "/token/create", action=Action.MANAGE_TOKEN, body=CreateBody, status=201, errors=(errors.NotFound,))
async def post_create(ctx: web.Context, body: CreateBody) -> views.TokensView:
    """Tokens with chosen rights, never more than the caller's."""
    pair: views.TokensView = await ctx.app.tokens.create(ctx.token, msgspec.json.encode(body, enc_hook=int))
    return pair
