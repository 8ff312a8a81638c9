"""Long polls (reference 3.4)."""

from __future__ import annotations

from typing import Annotated, cast

from msgspec import Meta, Struct

from frontend.api.rest.inputs import talks_to_device
from frontend.core import scope
from skep import errors, web
from skep.access import Action
from skep.wire import views
from skep.wire.fields import DeviceId, Natural, Time
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE

MAX_WAIT = 60
Seconds = Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": MAX_WAIT})]
BUSY = (errors.TooManyRequests,)


class Wait(Struct, rename="camel", kw_only=True):
    wait_timeout: Seconds = 30

    def seconds(self) -> int:
        """Raises BadRequest."""
        if self.wait_timeout < 0:
            raise errors.BadRequest("Timeout can't be less than 0 seconds.")
        if self.wait_timeout > MAX_WAIT:
            raise errors.BadRequest(f"Timeout can't be more than {MAX_WAIT} seconds.")
        return self.wait_timeout


class Notifications(Wait, rename="camel", kw_only=True):
    names: list[str] | None = None
    timestamp: Time | None = None
    limit: Annotated[Natural, Meta(description="Ignored: an answer holds all that is stored, or what fits")] = 0


class Commands(Wait, rename="camel", kw_only=True):
    names: list[str] | None = None
    timestamp: Time | None = None
    return_updated_commands: bool = False
    limit: Natural = 100


class ManyNotifications(Notifications, rename="camel", kw_only=True):
    device_id: DeviceId | None = None
    network_ids: list[int] | None = None
    device_type_ids: list[int] | None = None


class ManyCommands(Commands, rename="camel", kw_only=True):
    device_id: DeviceId | None = None
    network_ids: list[int] | None = None
    device_type_ids: list[int] | None = None


@web.route(
    "GET", "/device/notification/poll", action=Action.GET_DEVICE_NOTIFICATION, query=ManyNotifications, errors=BUSY
)
async def poll_notifications(ctx: web.Context, query: ManyNotifications) -> list[views.NotificationView]:
    """Notifications of the devices the caller sees."""
    found = await _poll(ctx, query, query.device_id, NOTIFICATION, query.network_ids, query.device_type_ids)
    return cast(list[views.NotificationView], found)


@web.route(
    "GET",
    "/device/{deviceId}/notification/poll",
    action=Action.GET_DEVICE_NOTIFICATION,
    query=Notifications,
    guard=talks_to_device,
    errors=BUSY,
)
async def poll_device_notifications(
    ctx: web.Context, device_id: DeviceId, query: Notifications
) -> list[views.NotificationView]:
    """Notifications of a device."""
    found = await _poll(ctx, query, device_id, NOTIFICATION)
    return cast(list[views.NotificationView], found)


@web.route("GET", "/device/command/poll", action=Action.GET_DEVICE_COMMAND, query=ManyCommands, errors=BUSY)
async def poll_commands(ctx: web.Context, query: ManyCommands) -> list[views.CommandView]:
    """Commands, or updated commands, of the devices the caller sees."""
    kind = UPDATE if query.return_updated_commands else COMMAND
    found = await _poll(ctx, query, query.device_id, kind, query.network_ids, query.device_type_ids)
    return cast(list[views.CommandView], found)


@web.route(
    "GET",
    "/device/{deviceId}/command/poll",
    action=Action.GET_DEVICE_COMMAND,
    query=Commands,
    guard=talks_to_device,
    errors=BUSY,
)
async def poll_device_commands(ctx: web.Context, device_id: DeviceId, query: Commands) -> list[views.CommandView]:
    """Commands, or updated commands, of a device."""
    kind = UPDATE if query.return_updated_commands else COMMAND
    return cast(list[views.CommandView], await _poll(ctx, query, device_id, kind))


@web.route(
    "GET",
    "/device/{deviceId}/command/{commandId}/poll",
    action=Action.GET_DEVICE_COMMAND,
    query=Wait,
    guard=talks_to_device,
    errors=BUSY,
    also={204: None},
)
async def wait_for_command(
    ctx: web.Context, device_id: DeviceId, command_id: int, query: Wait
) -> views.CommandView | web.Response:
    """The command once it is updated; 204 where that takes too long or there is no such command."""
    wait = query.seconds()
    polls = ctx.app.polls
    command = await polls.wait_for_update(ctx.caller, ctx.token, device_id, command_id, wait, ctx.closed)
    return web.Response(b"", 204) if command is None else views.command(command)


async def _poll(
    ctx: web.Context,
    query: Notifications | Commands,
    device_id: str | None,
    kind: int,
    networks: list[int] | None = None,
    device_types: list[int] | None = None,
) -> list[views.NotificationView | views.CommandView]:
    wait = query.seconds()
    if device_id is not None:
        if not device_id:
            raise errors.BadRequest("Device id is wrong or empty")
        await ctx.app.rights.messaging(ctx.caller, device_id)
    await ctx.app.rights.containers(ctx.caller, networks, device_types)
    wanted = scope.of(ctx.caller, kind, device_id, networks or None, device_types or None, query.names)
    if wanted is None:
        return []
    limit = query.limit if isinstance(query, Commands) else 0
    since = None if query.timestamp is None else int(query.timestamp)
    found = await ctx.app.polls.poll(ctx.caller, ctx.token, wanted, since, limit, wait, ctx.closed)
    return [views.message(item) for item in found]
