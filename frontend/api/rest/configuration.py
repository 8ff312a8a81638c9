"""/configuration."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from frontend.api.rest.inputs import CHANGED
from frontend.core import views
from skep import errors, web
from skep.access import Action
from skep.wire.fields import ConfigurationName, ConfigurationValue

MANAGE = Action.MANAGE_CONFIGURATION


class ValueBody(Struct):
    required: ClassVar = ("value",)

    value: ConfigurationValue | None = None


@web.route("GET", "/configuration/{name}", action=MANAGE, bare=(404,))
async def get_configuration(ctx: web.Context, name: ConfigurationName) -> views.ConfigurationView:
    """A value; secrets are not there."""
    try:
        return views.configuration(await ctx.app.configuration.get(name))
    except errors.NotFound:
        raise errors.NotFound("") from None  # the API has no body here


@web.route("PUT", "/configuration/{name}", action=MANAGE, body=ValueBody, errors=CHANGED)
async def put_configuration(ctx: web.Context, name: ConfigurationName, body: ValueBody) -> views.ConfigurationView:
    """Set a value."""
    return views.configuration(await ctx.app.configuration.put(name, body.value))


@web.route("DELETE", "/configuration/{name}", action=MANAGE, status=204, errors=CHANGED)
async def delete_configuration(ctx: web.Context, name: ConfigurationName) -> None:
    """Forget a value."""
    await ctx.app.configuration.delete(name)
