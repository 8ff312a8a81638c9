"""/device."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from frontend.api.rest.inputs import CHANGED
from frontend.core.devices import DeviceBody
from skep import web
from skep.access import Action
from skep.wire import views
from skep.wire.fields import DeviceId, Integer, Natural, Order, Pattern, choice


class Filters(Struct, rename="camel", kw_only=True):
    name: str | None = None
    name_pattern: Pattern | None = None
    network_id: Integer | None = None
    network_name: str | None = None


class ListQuery(Filters, rename="camel", kw_only=True):
    sort_field: Annotated[str, choice("name", "status", "network", "deviceType")] | None = None
    sort_order: Order | None = None
    take: Natural | None = None
    skip: Natural = 0


@web.route("GET", "/device", action=Action.GET_DEVICE, query=ListQuery)
async def list_devices(ctx: web.Context, query: ListQuery) -> list[views.DeviceView]:
    """Devices the caller sees."""
    found = await ctx.app.devices.list(
        ctx.caller,
        query.name,
        query.name_pattern,
        query.network_id,
        query.network_name,
        query.sort_field,
        query.sort_order,
        query.take,
        query.skip,
    )
    return [views.device(device) for device in found]


@web.route("GET", "/device/count", action=Action.GET_DEVICE, query=Filters)
async def count_devices(ctx: web.Context, query: Filters) -> views.Count:
    """How many devices the caller sees."""
    filters = query.name, query.name_pattern, query.network_id, query.network_name
    return views.Count(await ctx.app.devices.count(ctx.caller, *filters))


@web.route("GET", "/device/{deviceId}", action=Action.GET_DEVICE)
async def get_device(ctx: web.Context, device_id: DeviceId) -> views.DeviceView:
    """One device."""
    return views.device(await ctx.app.rights.device(ctx.caller, device_id))


@web.route("PUT", "/device/{deviceId}", action=Action.REGISTER_DEVICE, body=DeviceBody, status=204, errors=CHANGED)
async def put_device(ctx: web.Context, device_id: DeviceId, body: DeviceBody) -> None:
    """Register a device, or change it."""
    await ctx.app.devices.save(ctx.caller, device_id, body)


@web.route("DELETE", "/device/{deviceId}", action=Action.REGISTER_DEVICE, status=204, errors=CHANGED)
async def delete_device(ctx: web.Context, device_id: DeviceId) -> None:
    """Remove a device. Its stored messages expire by themselves."""
    await ctx.app.devices.delete(ctx.caller, device_id)
