"""/user."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from frontend.api.rest.inputs import CHANGED
from frontend.core import views
from frontend.core.users import NewUserBody, UserBody
from skep import errors, web
from skep.access import Action
from skep.wire.fields import Integer, Natural, Order, Pattern, choice
from skep.wire.views import Count

MANAGE = Action.MANAGE_USER
GONE = (errors.NotFound,)


class Filters(Struct, rename="camel", kw_only=True):
    login: str | None = None
    login_pattern: Pattern | None = None
    role: Integer | None = None
    status: Integer | None = None


class ListQuery(Filters, rename="camel", kw_only=True):
    sort_field: Annotated[str, choice("id", "login")] | None = None
    sort_order: Order | None = None
    take: Natural | None = None
    skip: Natural = 0


@web.route("GET", "/user", action=MANAGE, query=ListQuery)
async def list_users(ctx: web.Context, query: ListQuery) -> list[views.UserView]:
    """Users the caller sees."""
    filters = query.login, query.login_pattern, query.role, query.status
    page = query.sort_field, query.sort_order, query.take, query.skip
    return [views.user(row) for row in await ctx.app.users.list(ctx.caller, *filters, *page)]


@web.route("GET", "/user/count", action=MANAGE, query=Filters)
async def count_users(ctx: web.Context, query: Filters) -> Count:
    """How many users the caller sees."""
    filters = query.login, query.login_pattern, query.role, query.status
    return Count(await ctx.app.users.count(ctx.caller, *filters))


@web.route("GET", "/user/current", action=Action.GET_CURRENT_USER, errors=GONE)
async def get_current_user(ctx: web.Context) -> views.UserFull:
    """The caller."""
    return views.user_full(*await ctx.app.users.get(ctx.caller, ctx.caller.user_id))


@web.route(
    "PUT", "/user/current", action=Action.UPDATE_CURRENT_USER, body=UserBody, status=204, errors=(*GONE, *CHANGED)
)
async def put_current_user(ctx: web.Context, body: UserBody) -> None:
    """Change the caller."""
    await ctx.app.users.update(ctx.caller, ctx.caller.user_id, body)


@web.route("POST", "/user/current/mqtt", action=Action.UPDATE_CURRENT_USER, status=201, errors=(*GONE, *CHANGED))
async def post_current_mqtt(ctx: web.Context) -> views.MqttPasswordView:
    """A new MQTT password of the caller, shown this once; it ends the one before."""
    return await _mqtt(ctx, ctx.caller.user_id)


@web.route("DELETE", "/user/current/mqtt", action=Action.UPDATE_CURRENT_USER, status=204, errors=(*GONE, *CHANGED))
async def delete_current_mqtt(ctx: web.Context) -> None:
    """End the caller's MQTT password."""
    await ctx.app.mqtt_passwords.take(ctx.caller, ctx.caller.user_id)


@web.route("GET", "/user/{id}", action=MANAGE)
async def get_user(ctx: web.Context, id: int) -> views.UserFull:
    """One user."""
    return views.user_full(*await ctx.app.users.get(ctx.caller, id))


@web.route("POST", "/user", action=MANAGE, body=NewUserBody, status=201, errors=CHANGED)
async def post_user(ctx: web.Context, body: NewUserBody) -> views.UserCreated:
    """Insert a user, a member of no network."""
    return views.user_created(await ctx.app.users.insert(ctx.caller, body))


@web.route("PUT", "/user/{id}", action=MANAGE, body=UserBody, status=204, errors=CHANGED)
async def put_user(ctx: web.Context, id: int, body: UserBody) -> None:
    """Change what is given."""
    await ctx.app.users.update(ctx.caller, id, body)


@web.route("DELETE", "/user/{id}", action=MANAGE, status=204, errors=CHANGED)
async def delete_user(ctx: web.Context, id: int) -> None:
    """Remove a user; networks and devices stay."""
    await ctx.app.users.delete(ctx.caller, id)


@web.route("POST", "/user/{id}/mqtt", action=MANAGE, status=201, errors=CHANGED)
async def post_mqtt(ctx: web.Context, id: int) -> views.MqttPasswordView:
    """A new MQTT password of a user, shown this once; it ends the one before."""
    return await _mqtt(ctx, id)


@web.route("DELETE", "/user/{id}/mqtt", action=MANAGE, status=204, errors=CHANGED)
async def delete_mqtt(ctx: web.Context, id: int) -> None:
    """End a user's MQTT password."""
    await ctx.app.mqtt_passwords.take(ctx.caller, id)


async def _mqtt(ctx: web.Context, id: int) -> views.MqttPasswordView:
    account, password = await ctx.app.mqtt_passwords.make(ctx.caller, id)
    return views.MqttPasswordView(account.user.login, password, account.client_id)
