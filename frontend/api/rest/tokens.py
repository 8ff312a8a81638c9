"""/token, /token/refresh, /token/create, for clients that know one base URL only; auth answers."""

from __future__ import annotations

from msgspec import Raw, Struct

from skep import errors, web
from skep.access import Action
from skep.wire import views


class LoginBody(Struct):
    login: str | None = None
    password: str | None = None


class RefreshBody(Struct, rename="camel"):
    refresh_token: str | None = None


@web.route("POST", "/token", action=None, body=LoginBody, status=201)
async def post_token(ctx: web.Context, body: LoginBody) -> views.TokensView:
    """Log in."""
    pair: views.TokensView = await ctx.app.tokens.login(body.login, body.password, ctx.address)
    return pair


@web.route("POST", "/token/refresh", action=None, body=RefreshBody, status=201)
async def post_refresh(ctx: web.Context, body: RefreshBody) -> views.AccessTokenView:
    """A new access token for a refresh token."""
    made: views.AccessTokenView = await ctx.app.tokens.refresh(body.refresh_token)
    return made


@web.route("POST", "/token/create", action=Action.MANAGE_TOKEN, body=Raw, status=201)
async def post_create(ctx: web.Context, body: Raw) -> views.TokensView:
    """Tokens with chosen rights, never more than the caller's."""
    text = bytes(body).strip()
    if not text.startswith(b"{"):
        raise errors.BadRequest
    pair: views.TokensView = await ctx.app.tokens.create(ctx.token, text)
    return pair
