"""configuration/get, put, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frontend.core import views
from frontend.core.actions.table import Request, action
from skep import errors
from skep.access import Action
from skep.wire.fields import ConfigurationValue

if TYPE_CHECKING:
    from frontend.core.session import Session

MANAGE = Action.MANAGE_CONFIGURATION


class Get(Request, tag="configuration/get"):
    name: str | None = None


@action(Get, MANAGE, answers={"configuration": views.ConfigurationView})
async def get(session: Session, request: Get) -> dict[str, Any]:
    found = await session.services.configuration.get(_name(request.name))
    return {"configuration": views.configuration(found)}


class Put(Request, tag="configuration/put"):
    name: str | None = None
    value: ConfigurationValue | None = None


@action(Put, MANAGE, ordered=True, answers={"configuration": views.ConfigurationView})
async def put(session: Session, request: Put) -> dict[str, Any]:
    made = await session.services.configuration.put(_name(request.name), request.value)
    return {"configuration": views.configuration(made)}


class Delete(Request, tag="configuration/delete"):
    name: str | None = None


@action(Delete, MANAGE, ordered=True)
async def delete(session: Session, request: Delete) -> None:
    await session.services.configuration.delete(_name(request.name))


def _name(name: str | None) -> str:
    if not name:
        raise errors.BadRequest("Configuration name is wrong or empty")
    return name
