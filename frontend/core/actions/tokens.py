"""authenticate, token, token/refresh, token/create."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Raw

from frontend.core.actions.table import Request, action
from skep import errors
from skep.access import Action
from skep.tokens import EXPIRED
from skep.web import json

if TYPE_CHECKING:
    from frontend.core.session import Session


class Authenticate(Request, tag="authenticate"):
    token: str | None = None


@action(Authenticate, ordered=True)
async def authenticate(session: Session, request: Authenticate) -> None:
    if not request.token:
        raise errors.Unauthorized
    try:
        await session.authenticate(request.token)
    except errors.Unauthorized as error:
        raise errors.Unauthorized(EXPIRED if error.text == EXPIRED else "Invalid credentials") from None


class Token(Request, tag="token"):
    login: str | None = None
    password: str | None = None


@action(Token, answers={"accessToken": str, "refreshToken": str})
async def token(session: Session, request: Token) -> dict[str, Any]:
    pair = await session.services.tokens.login(request.login, request.password, session.address)
    return {"accessToken": pair.access_token, "refreshToken": pair.refresh_token}


class Refresh(Request, tag="token/refresh"):
    refresh_token: str | None = None


@action(Refresh, answers={"accessToken": str})
async def refresh(session: Session, request: Refresh) -> dict[str, Any]:
    made = await session.services.tokens.refresh(request.refresh_token)
    return {"accessToken": made.access_token}


class Create(Request, tag="token/create"):
    payload: Raw = json.NULL


@action(Create, Action.MANAGE_TOKEN, answers={"accessToken": str, "refreshToken": str})
async def create(session: Session, request: Create) -> dict[str, Any]:
    body = bytes(request.payload).strip()
    if not body.startswith(b"{"):
        raise errors.BadRequest("Missing or invalid payload in request")
    pair = await session.services.tokens.create(session.token, body)
    return {"accessToken": pair.access_token, "refreshToken": pair.refresh_token}
