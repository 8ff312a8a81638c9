"""command/get, list, insert, update, subscribe, unsubscribe."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from frontend.core import messages, queries
from frontend.core.actions import subscribing
from frontend.core.actions.table import Later, Outcome, Request, Then, action, given_device, time
from frontend.core.bodies import CommandBody, CommandUpdateBody, Time
from skep import errors
from skep.access import Action
from skep.metadata.rows import Device
from skep.wire import views
from skep.wire.fields import Integer, Order, choice
from skep.wire.messages import COMMAND, UPDATE

if TYPE_CHECKING:
    from frontend.core.session import Session


def _given_id(id: int | None) -> int:
    if id is None:
        raise errors.BadRequest("Command id is wrong or empty")
    return id


class Get(Request, tag="command/get"):
    command_id: Integer | None = None


@action(Get, Action.GET_DEVICE_COMMAND, reads=("deviceId",), answers={"command": views.CommandView})
async def get(session: Session, request: Get) -> dict[str, Any]:
    device = await session.services.rights.device(session.caller, given_device(request))
    id = _given_id(request.command_id)
    item = await session.services.messages.get(COMMAND, device.id, id)
    if item is None:
        raise errors.NotFound(f"Command with id = {id} not found")
    return {"command": views.message(item)}


class ListCommands(Request, tag="command/list"):
    command: str | None = None
    status: str | None = None
    start: Time | None = None
    end: Time | None = None
    sort_field: Annotated[str, choice("timestamp", "status", "command")] | None = None
    sort_order: Order | None = None
    take: Integer | None = None
    skip: Integer | None = None


@action(ListCommands, Action.GET_DEVICE_COMMAND, reads=("deviceId",), answers={"commands": list[views.CommandView]})
async def list_(session: Session, request: ListCommands) -> dict[str, Any]:
    device = await session.services.rights.device(session.caller, given_device(request))
    query = queries.listing(
        COMMAND,
        [device.id],
        [request.command] if request.command else None,
        request.status,
        time(request.start),
        time(request.end),
        request.sort_field,
        request.sort_order,
        20 if request.take is None else request.take,
        request.skip or 0,
    )
    found = await session.services.messages.whole(query)
    return {"commands": [views.message(item) for item in found]}


class Insert(Request, tag="command/insert"):
    command: CommandBody | None = None
    idempotency_key: str | None = None


@action(
    Insert, Action.CREATE_DEVICE_COMMAND, ordered=True, reads=("deviceId",), answers={"command": views.CommandCreated}
)
def insert(session: Session, request: Insert) -> Outcome:
    device = session.services.rights.peek(session.caller, given_device(request))
    return _find_first(session, request) if device is None else _insert(session, request, device)


async def _find_first(session: Session, request: Insert) -> Later:
    device = await session.services.rights.messaging(session.caller, given_device(request))
    return _insert(session, request, device)


def _insert(session: Session, request: Insert, device: Device) -> Later:
    if request.command is None:
        raise errors.BadRequest("Command is required")
    new, caller = request.command.read(errors.MalformedJson), session.caller
    answer = session.services.messages.insert_command(caller, device, new, request.idempotency_key)
    return Later(answer, partial(_created, caller.user_id))


def _created(user_id: int, answer: bytes) -> dict[str, Any]:
    return {"command": views.command_created(messages.decode_stored(answer), user_id)}


class Update(Request, tag="command/update"):
    command_id: Integer | None = None
    command: CommandUpdateBody | None = None


@action(Update, Action.UPDATE_DEVICE_COMMAND, ordered=True, reads=("deviceId",))
def update(session: Session, request: Update) -> Outcome:
    device = session.services.rights.peek(session.caller, given_device(request))
    return _find_then_update(session, request) if device is None else _update(session, request, device)


async def _find_then_update(session: Session, request: Update) -> Later:
    device = await session.services.rights.messaging(session.caller, given_device(request))
    return _update(session, request, device)


def _update(session: Session, request: Update, device: Device) -> Later:
    id = _given_id(request.command_id)
    if request.command is None:
        raise errors.BadRequest("Command is required")
    answer = session.services.messages.update_command(device, id, request.command.read())
    return Later(answer, lambda _: None)


class Subscribe(Request, tag="command/subscribe"):
    network_ids: list[Integer] | None = None
    device_type_ids: list[Integer] | None = None
    names: list[str] | None = None
    timestamp: Time | None = None
    return_updated_commands: bool | None = None
    limit: Annotated[int, Meta(ge=0, le=2**31)] | None = None


@action(Subscribe, Action.GET_DEVICE_COMMAND, reads=("deviceId",), answers={"subscriptionId": int})
def subscribe(session: Session, request: Subscribe) -> Coroutine[Any, Any, Then]:
    kind = UPDATE if request.return_updated_commands else COMMAND
    return subscribing.subscribe(session, request, kind, 20 if request.limit is None else request.limit)


class Unsubscribe(Request, tag="command/unsubscribe"):
    subscription_id: Integer | None = None


@action(Unsubscribe, Action.GET_DEVICE_COMMAND)
def unsubscribe(session: Session, request: Unsubscribe) -> Coroutine[Any, Any, None] | None:
    return subscribing.unsubscribe(session, "command", request.subscription_id)
