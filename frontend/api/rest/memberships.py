"""/user/{id}/network and /user/{id}/devicetype."""

from __future__ import annotations

from frontend.api.rest.inputs import CHANGED
from frontend.core import views
from skep import web
from skep.access import Action

NETWORK = "/user/{id}/network/{networkId}"
DEVICE_TYPES = "/user/{id}/devicetype"
DEVICE_TYPE = "/user/{id}/devicetype/{deviceTypeId}"
ALL = "/user/{id}/devicetype/all"


@web.route("GET", NETWORK, action=Action.GET_NETWORK)
async def get_network(ctx: web.Context, id: int, network_id: int) -> views.UserNetwork:
    """A network the user is a member of."""
    return views.UserNetwork(views.container(await ctx.app.users.network(ctx.caller, id, network_id)))


@web.route("PUT", NETWORK, action=Action.MANAGE_NETWORK, status=204, errors=CHANGED)
async def put_network(ctx: web.Context, id: int, network_id: int) -> None:
    """Make the user a member."""
    await ctx.app.users.assign_network(ctx.caller, id, network_id, True)


@web.route("DELETE", NETWORK, action=Action.MANAGE_NETWORK, status=204, errors=CHANGED)
async def delete_network(ctx: web.Context, id: int, network_id: int) -> None:
    """End the membership, if there is one."""
    await ctx.app.users.assign_network(ctx.caller, id, network_id, False)


@web.route("GET", DEVICE_TYPES, action=Action.MANAGE_DEVICE_TYPE)
async def list_device_types(ctx: web.Context, id: int) -> list[views.ContainerView]:
    """The user's device types."""
    return [views.container(row) for row in await ctx.app.users.device_types(ctx.caller, id)]


@web.route("PUT", ALL, action=Action.MANAGE_DEVICE_TYPE, status=204, errors=CHANGED)
async def put_all(ctx: web.Context, id: int) -> None:
    """Allow all device types; assignments are forgotten."""
    await ctx.app.users.all_device_types(ctx.caller, id, True)


@web.route("DELETE", ALL, action=Action.MANAGE_DEVICE_TYPE, status=204, errors=CHANGED)
async def delete_all(ctx: web.Context, id: int) -> None:
    """Allow those only that are assigned from now on."""
    await ctx.app.users.all_device_types(ctx.caller, id, False)


@web.route("GET", DEVICE_TYPE, action=Action.GET_DEVICE_TYPE)
async def get_device_type(ctx: web.Context, id: int, device_type_id: int) -> views.UserDeviceType:
    """One of the user's device types."""
    return views.UserDeviceType(views.container(await ctx.app.users.device_type(ctx.caller, id, device_type_id)))


@web.route("PUT", DEVICE_TYPE, action=Action.MANAGE_DEVICE_TYPE, status=204, errors=CHANGED)
async def put_device_type(ctx: web.Context, id: int, device_type_id: int) -> None:
    """Assign a device type."""
    await ctx.app.users.assign_device_type(ctx.caller, id, device_type_id, True)


@web.route("DELETE", DEVICE_TYPE, action=Action.MANAGE_DEVICE_TYPE, status=204, errors=CHANGED)
async def delete_device_type(ctx: web.Context, id: int, device_type_id: int) -> None:
    """Take a device type back."""
    await ctx.app.users.assign_device_type(ctx.caller, id, device_type_id, False)
