"""/device/{deviceId}/command."""

from __future__ import annotations

from typing import Annotated, cast

from msgspec import Struct

from frontend.api.rest.inputs import Idempotency, Page, sees_device, talks_to_device
from frontend.core import messages, queries
from frontend.core.bodies import CommandBody, CommandUpdateBody
from skep import errors, web
from skep.access import Action
from skep.wire import views
from skep.wire.fields import DeviceId, choice
from skep.wire.messages import COMMAND

READ = Action.GET_DEVICE_COMMAND


class ListQuery(Page, rename="camel", kw_only=True):
    command: str | None = None
    status: str | None = None
    sort_field: Annotated[str, choice("timestamp", "status", "command")] = "timestamp"


class GetQuery(Struct, rename="camel"):
    return_updated_commands: bool = False


@web.route("GET", "/device/{deviceId}/command", action=READ, query=ListQuery, guard=sees_device)
async def list_commands(ctx: web.Context, device_id: DeviceId, query: ListQuery) -> list[views.CommandView]:
    """Stored commands of a device."""
    names = [query.command] if query.command else None
    page = query.start, query.end, query.sort_field, query.sort_order, query.take, query.skip
    found = await ctx.app.messages.whole(queries.listing(COMMAND, [device_id], names, query.status, *page))
    return [cast(views.CommandView, views.message(item)) for item in found]


@web.route("GET", "/device/{deviceId}/command/{commandId}", action=READ, query=GetQuery, guard=sees_device)
async def get_command(ctx: web.Context, device_id: DeviceId, command_id: int, query: GetQuery) -> views.CommandView:
    """One stored command; with returnUpdatedCommands only once it is updated."""
    item = await ctx.app.messages.get(COMMAND, device_id, command_id)
    if item is None or (query.return_updated_commands and not item.command.is_updated):
        raise errors.NotFound(f"Command with id = {command_id} not found")
    return cast(views.CommandView, views.message(item))


@web.route(
    "POST",
    "/device/{deviceId}/command",
    action=Action.CREATE_DEVICE_COMMAND,
    headers=Idempotency,
    body=CommandBody,
    status=201,
    guard=talks_to_device,
)
async def post_command(
    ctx: web.Context, device_id: DeviceId, headers: Idempotency, body: CommandBody
) -> views.CommandCreated:
    """Insert a command. With an Idempotency-Key a repetition gives the first one's id."""
    device = await ctx.app.rights.messaging(ctx.caller, device_id)
    answer = await ctx.app.messages.insert_command(ctx.caller, device, body.read(), headers.key)
    return views.command_created(messages.decode_stored(answer), ctx.caller.user_id)


@web.route(
    "PUT",
    "/device/{deviceId}/command/{commandId}",
    action=Action.UPDATE_DEVICE_COMMAND,
    body=CommandUpdateBody,
    status=204,
    guard=talks_to_device,
)
async def put_command(ctx: web.Context, device_id: DeviceId, command_id: int, body: CommandUpdateBody) -> None:
    """Set a command's status and result."""
    device = await ctx.app.rights.messaging(ctx.caller, device_id)
    await ctx.app.messages.update_command(device, command_id, body.read())
