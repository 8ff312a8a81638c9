"""plugin/*: names and fields of the query as in REST, lists as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Raw, Struct

from frontend.core.actions.table import Request, action
from skep import errors
from skep.access import Action
from skep.web import json
from skep.wire.fields import Natural, Order, Pattern, choice
from skep.wire.plugin_api import (
    FilterQuery,
    ListQuery,
    PluginRegistered,
    PluginView,
    Registration,
    Selection,
    UpdateQuery,
)

if TYPE_CHECKING:
    from frontend.core.session import Session

MISSING = "Plugin is not found"
NO_BODY = "Plugin is required"


class Count(Request, tag="plugin/count"):
    name: str | None = None
    name_pattern: Pattern | None = None
    topic_name: str | None = None
    status: int | None = None
    user_id: int | None = None


@action(Count, Action.MANAGE_PLUGIN, answers={"count": int})
async def count(session: Session, request: Count) -> dict[str, Any]:
    selection = Selection(**_same(request, Selection))
    return {"count": await session.services.plugins.count(session.caller, session.token, selection)}


class List(Count, tag="plugin/list"):
    sort_field: Annotated[str, choice("id", "name")] | None = None
    sort_order: Order | None = None
    take: Natural | None = None
    skip: Natural | None = None


@action(List, Action.MANAGE_PLUGIN, answers={"plugins": list[PluginView]})
async def list_(session: Session, request: List) -> dict[str, Any]:
    take = 20 if request.take is None else request.take
    query = ListQuery(**_same(request, ListQuery) | {"take": take, "skip": request.skip or 0})
    return {"plugins": await session.services.plugins.list(session.caller, session.token, query)}


class Get(Request, tag="plugin/get"):
    topic_name: str | None = None


@action(Get, Action.MANAGE_PLUGIN, answers={"plugin": PluginView})
async def get(session: Session, request: Get) -> dict[str, Any]:
    query = ListQuery(topic_name=request.topic_name or "")
    found = await session.services.plugins.list(session.caller, session.token, query)
    if not found:
        raise errors.NotFound(MISSING)
    return {"plugin": found[0]}


class _Filtered(Request):
    network_ids: list[Natural] | None = None
    device_type_ids: list[Natural] | None = None
    names: list[str] | None = None
    return_commands: bool | None = None
    return_updated_commands: bool | None = None
    return_notifications: bool | None = None
    retention: int | None = None


class Insert(_Filtered, tag="plugin/insert"):
    plugin: Registration | None = None


@action(Insert, Action.MANAGE_PLUGIN, ordered=True, answers={"plugin": PluginRegistered})
async def insert(session: Session, request: Insert) -> dict[str, Any]:
    if request.plugin is None:
        raise errors.BadRequest(NO_BODY)
    query = FilterQuery(**_same(request, FilterQuery))
    made = await session.services.plugins.register(session.caller, session.token, query, request.plugin)
    return {"plugin": made}


class _Changes(Struct):
    status: str | None = None
    name: str | None = None
    description: str | None = None
    parameters: Raw = json.NULL


class Update(_Filtered, tag="plugin/update"):
    topic_name: str | None = None
    plugin: _Changes | None = None


@action(Update, Action.MANAGE_PLUGIN, ordered=True)
async def update(session: Session, request: Update) -> None:
    body = request.plugin or _Changes()
    given = {name: getattr(body, name) for name in ("status", "name", "description")}
    if body.parameters != json.NULL:
        given["parameters"] = bytes(body.parameters).decode()
    filter_ = _same(request, FilterQuery)
    query = UpdateQuery(**filter_, **given, topic_name=request.topic_name)
    await session.services.plugins.update(session.caller, session.token, query)


class Delete(Request, tag="plugin/delete"):
    topic_name: str | None = None


@action(Delete, Action.MANAGE_PLUGIN, ordered=True)
async def delete(session: Session, request: Delete) -> None:
    await session.services.plugins.delete(session.caller, session.token, request.topic_name)


def _same(request: Request, kind: type[Struct]) -> dict[str, Any]:
    """The fields that the request and `kind` both have."""
    names = {field.name for field in msgspec.structs.fields(kind)}
    return {name: getattr(request, name) for name in request.__struct_fields__ if name in names}
