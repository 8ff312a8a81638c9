"""/device/{deviceId}/notification."""

from __future__ import annotations

from typing import Annotated, cast

from frontend.api.rest.inputs import Idempotency, Page, sees_device, talks_to_device
from frontend.core import messages, queries
from frontend.core.bodies import NotificationBody
from skep import errors, web
from skep.access import Action
from skep.wire import views
from skep.wire.fields import DeviceId, choice
from skep.wire.messages import NOTIFICATION

READ = Action.GET_DEVICE_NOTIFICATION


class ListQuery(Page, rename="camel", kw_only=True):
    notification: str | None = None
    sort_field: Annotated[str, choice("timestamp", "notification")] = "timestamp"


@web.route("GET", "/device/{deviceId}/notification", action=READ, query=ListQuery, guard=sees_device)
async def list_notifications(ctx: web.Context, device_id: DeviceId, query: ListQuery) -> list[views.NotificationView]:
    """Stored notifications of a device."""
    names = [query.notification] if query.notification else None
    page = query.start, query.end, query.sort_field, query.sort_order, query.take, query.skip
    found = await ctx.app.messages.whole(queries.listing(NOTIFICATION, [device_id], names, None, *page))
    return [cast(views.NotificationView, views.message(item)) for item in found]


@web.route("GET", "/device/{deviceId}/notification/{id}", action=READ, guard=sees_device)
async def get_notification(ctx: web.Context, device_id: DeviceId, id: int) -> views.NotificationView:
    """One stored notification."""
    item = await ctx.app.messages.get(NOTIFICATION, device_id, id)
    if item is None:
        raise errors.NotFound("Requested notification not found")
    return cast(views.NotificationView, views.message(item))


@web.route(
    "POST",
    "/device/{deviceId}/notification",
    action=Action.CREATE_DEVICE_NOTIFICATION,
    headers=Idempotency,
    body=NotificationBody,
    status=201,
    guard=talks_to_device,
)
async def post_notification(
    ctx: web.Context, device_id: DeviceId, headers: Idempotency, body: NotificationBody
) -> views.NotificationCreated:
    """Insert a notification. With an Idempotency-Key a repetition gives the first one's id."""
    device = await ctx.app.rights.messaging(ctx.caller, device_id)
    answer = await ctx.app.messages.insert_notification(ctx.caller, device, body.read(), headers.key)
    return views.notification_created(messages.decode_stored(answer))
