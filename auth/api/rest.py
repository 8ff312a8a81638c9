"""REST: `/auth/rest`. `ctx.app` is the service's `App`."""

from __future__ import annotations

from auth.core.authority import Authority
from auth.core.requests import AccessToken, CreateRequest, TokenPair
from skep import errors, web
from skep.access import Action
from skep.wire.token_api import Credentials, RefreshRequest

CHANGED = (errors.Conflict,)
MISSING = (errors.NotFound,)


@web.route("POST", "/token", action=None, body=Credentials, status=201, errors=(*CHANGED, errors.TooManyRequests))
async def login(ctx: web.Context, body: Credentials) -> TokenPair:
    """Access and refresh token for a login and password."""
    return await _authority(ctx).login(body.login, body.password, ctx.address)


@web.route("POST", "/token/refresh", action=None, body=RefreshRequest, status=201, errors=CHANGED, bare=(401,))
async def refresh(ctx: web.Context, body: RefreshRequest) -> AccessToken:
    """A new access token for a refresh token."""
    return AccessToken(await _authority(ctx).refresh(body.refresh_token))


@web.route("POST", "/token/create", action=Action.MANAGE_TOKEN, body=CreateRequest, status=201, errors=MISSING)
async def create(ctx: web.Context, body: CreateRequest) -> TokenPair:
    """Tokens with chosen rights, never wider than the caller's."""
    return await _authority(ctx).create(ctx.caller, body)


def _authority(ctx: web.Context) -> Authority:
    authority: Authority = ctx.app.authority
    return authority
