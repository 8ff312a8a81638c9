"""/network and /devicetype: the same routes for both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Struct

from frontend.api.rest.inputs import CHANGED
from frontend.core import views
from frontend.core.containers import ContainerBody, Containers, NewContainer
from skep import web
from skep.access import Action
from skep.wire.fields import Natural, Order, Pattern, choice
from skep.wire.views import Count


class Filters(Struct, rename="camel", kw_only=True):
    name: str | None = None
    name_pattern: Pattern | None = None


class ListQuery(Filters, rename="camel", kw_only=True):
    sort_field: Annotated[str, choice("id", "name")] | None = None
    sort_order: Order | None = None
    take: Natural | None = None
    skip: Natural = 0


class DeleteQuery(Struct):
    force: bool = False


def _routes(path: str, read: Action, manage: Action, of: Callable[[Any], Containers[Any]]) -> list[web.Route]:
    @web.route("GET", path, action=read, query=ListQuery)
    async def list_(ctx: web.Context, query: ListQuery) -> list[views.ContainerView]:
        """Those the caller sees."""
        page = query.sort_field, query.sort_order, query.take, query.skip
        found = await of(ctx.app).list(ctx.caller, query.name, query.name_pattern, *page)
        return [views.container(row) for row in found]

    @web.route("GET", f"{path}/count", action=read, query=Filters)
    async def count(ctx: web.Context, query: Filters) -> Count:
        """How many the caller sees."""
        return Count(await of(ctx.app).count(ctx.caller, query.name, query.name_pattern))

    @web.route("GET", f"{path}/{{id}}", action=read)
    async def get(ctx: web.Context, id: int) -> views.ContainerFull:
        """One, with its devices."""
        return views.container_full(*await of(ctx.app).get(ctx.caller, id))

    @web.route("POST", path, action=manage, body=NewContainer, status=201, errors=CHANGED)
    async def post(ctx: web.Context, body: NewContainer) -> views.Created:
        """Insert one. Nobody is a member yet."""
        return views.Created((await of(ctx.app).insert(body)).id)

    @web.route("PUT", f"{path}/{{id}}", action=manage, body=ContainerBody, status=204, errors=CHANGED)
    async def put(ctx: web.Context, id: int, body: ContainerBody) -> None:
        """Change what is given."""
        await of(ctx.app).update(ctx.caller, id, body)

    @web.route("DELETE", f"{path}/{{id}}", action=manage, query=DeleteQuery, status=204, errors=CHANGED)
    async def delete(ctx: web.Context, id: int, query: DeleteQuery) -> None:
        """Remove one; one that has devices only with force, and them too."""
        await of(ctx.app).delete(ctx.caller, id, query.force)

    return web.collect(list_, count, get, post, put, delete)


routes = [
    *_routes("/network", Action.GET_NETWORK, Action.MANAGE_NETWORK, lambda app: app.networks),
    *_routes("/devicetype", Action.GET_DEVICE_TYPE, Action.MANAGE_DEVICE_TYPE, lambda app: app.device_types),
]
