"""device/get, device/list, device/count, device/save, device/delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from frontend.core.actions.table import Request, action, given_device
from frontend.core.devices import DeviceBody
from skep import errors
from skep.access import Action
from skep.wire import views
from skep.wire.fields import Natural, Order, Pattern, choice

if TYPE_CHECKING:
    from frontend.core.session import Session


class Get(Request, tag="device/get"):
    pass


@action(Get, Action.GET_DEVICE, reads=("deviceId",), answers={"device": views.DeviceView})
async def get(session: Session, request: Get) -> dict[str, Any]:
    device = await session.services.rights.device(session.caller, given_device(request))
    return {"device": views.device(device)}


class ListDevices(Request, tag="device/list"):
    name: str | None = None
    name_pattern: Pattern | None = None
    network_name: str | None = None
    sort_field: Annotated[str, choice("name", "status", "network", "deviceType")] | None = None
    sort_order: Order | None = None
    take: Natural | None = None
    skip: Natural | None = None


@action(ListDevices, Action.GET_DEVICE, reads=("networkId",), answers={"devices": list[views.DeviceView]})
async def list_(session: Session, request: ListDevices) -> dict[str, Any]:
    found = await session.services.devices.list(
        session.caller,
        request.name,
        request.name_pattern,
        request.network_id,
        request.network_name,
        request.sort_field,
        request.sort_order,
        20 if request.take is None else request.take,
        request.skip or 0,
    )
    return {"devices": [views.device(device) for device in found]}


class Count(Request, tag="device/count"):
    name: str | None = None
    name_pattern: Pattern | None = None
    network_name: str | None = None


@action(Count, Action.GET_DEVICE, reads=("networkId",), answers={"count": int})
async def count(session: Session, request: Count) -> dict[str, Any]:
    filters = request.name, request.name_pattern, request.network_id, request.network_name
    return {"count": await session.services.devices.count(session.caller, *filters)}


class Save(Request, tag="device/save"):
    device: DeviceBody | None = None


@action(Save, Action.REGISTER_DEVICE, ordered=True, reads=("deviceId",))
async def save(session: Session, request: Save) -> None:
    id = given_device(request)
    if request.device is None:
        raise errors.BadRequest("Device is required")
    await session.services.devices.save(session.caller, id, request.device)


class Delete(Request, tag="device/delete"):
    pass


@action(Delete, Action.REGISTER_DEVICE, ordered=True, reads=("deviceId",))
async def delete(session: Session, request: Delete) -> None:
    await session.services.devices.delete(session.caller, given_device(request))
