"""notification/get, list, insert, subscribe, unsubscribe."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any

from frontend.core import messages, queries
from frontend.core.actions import subscribing
from frontend.core.actions.table import Later, Outcome, Request, Then, action, given_device, time
from frontend.core.bodies import NotificationBody, Time
from skep import errors
from skep.access import Action
from skep.metadata.rows import Device
from skep.wire import views
from skep.wire.fields import Integer, Order, choice
from skep.wire.messages import NOTIFICATION, List

if TYPE_CHECKING:
    from frontend.core.session import Session


class Get(Request, tag="notification/get"):
    notification_id: Integer | str | None = None


@action(Get, Action.GET_DEVICE_NOTIFICATION, reads=("deviceId",), answers={"notification": views.NotificationView})
async def get(session: Session, request: Get) -> dict[str, Any]:
    device = await session.services.rights.device(session.caller, given_device(request))
    if request.notification_id is None:
        raise errors.BadRequest("Notification id is wrong or empty")
    try:
        id = int(request.notification_id)
    except ValueError:
        raise errors.BadRequest("Notification id should be an integer value.") from None
    item = await session.services.messages.get(NOTIFICATION, device.id, id)
    if item is None:
        raise errors.NotFound("Requested notification not found")
    return {"notification": views.message(item)}


class ListNotifications(Request, tag="notification/list"):
    device_ids: list[str] | None = None
    notification: str | None = None
    names: list[str] | None = None
    start: Time | None = None
    end: Time | None = None
    sort_field: Annotated[str, choice("timestamp", "notification")] | None = None
    sort_order: Order | None = None
    take: Integer | None = None
    skip: Integer | None = None


@action(
    ListNotifications,
    Action.GET_DEVICE_NOTIFICATION,
    reads=("deviceId",),
    answers={"notifications": list[views.NotificationView]},
)
async def list_(session: Session, request: ListNotifications) -> dict[str, Any]:
    caller = session.caller
    wanted = [request.device_id] if request.device_id else request.device_ids or [given_device(request)]
    devices = [(await session.services.rights.device(caller, id)).id for id in dict.fromkeys(wanted)]
    names = [request.notification] if request.notification else request.names
    found = await session.services.messages.whole(_query(request, devices, names))
    return {"notifications": [views.message(item) for item in found]}


def _query(request: ListNotifications, devices: list[str], names: list[str] | None) -> List:
    return queries.listing(
        NOTIFICATION,
        devices,
        names,
        None,
        time(request.start),
        time(request.end),
        request.sort_field,
        request.sort_order,
        20 if request.take is None else request.take,
        request.skip or 0,
    )


class Insert(Request, tag="notification/insert"):
    notification: NotificationBody | None = None
    idempotency_key: str | None = None


@action(
    Insert,
    Action.CREATE_DEVICE_NOTIFICATION,
    ordered=True,
    reads=("deviceId",),
    answers={"notification": views.NotificationCreated},
)
def insert(session: Session, request: Insert) -> Outcome:
    device = session.services.rights.peek(session.caller, given_device(request))
    return _find_first(session, request) if device is None else _insert(session, request, device)


async def _find_first(session: Session, request: Insert) -> Later:
    device = await session.services.rights.messaging(session.caller, given_device(request))
    return _insert(session, request, device)


def _insert(session: Session, request: Insert, device: Device) -> Later:
    if request.notification is None:
        raise errors.BadRequest("Notification is required")
    new = request.notification.read(errors.MalformedJson)
    insert = session.services.messages.insert_notification
    return Later(insert(session.caller, device, new, request.idempotency_key), _created)


def _created(answer: bytes) -> dict[str, Any]:
    return {"notification": views.notification_created(messages.decode_stored(answer))}


class Subscribe(Request, tag="notification/subscribe"):
    network_ids: list[Integer] | None = None
    device_type_ids: list[Integer] | None = None
    names: list[str] | None = None
    timestamp: Time | None = None


@action(Subscribe, Action.GET_DEVICE_NOTIFICATION, reads=("deviceId",), answers={"subscriptionId": int})
def subscribe(session: Session, request: Subscribe) -> Coroutine[Any, Any, Then]:
    return subscribing.subscribe(session, request, NOTIFICATION, 0)


class Unsubscribe(Request, tag="notification/unsubscribe"):
    subscription_id: Integer | None = None


@action(Unsubscribe, Action.GET_DEVICE_NOTIFICATION)
def unsubscribe(session: Session, request: Unsubscribe) -> Coroutine[Any, Any, None] | None:
    return subscribing.unsubscribe(session, "notification", request.subscription_id)
