"""What the routes' queries share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from skep import errors, web
from skep.wire.fields import Natural, Order, Time

CHANGED = (errors.Conflict,)
"""Errors of what changes metadata, besides those of its inputs."""


class Page(Struct, rename="camel", kw_only=True):
    """Of the lists of stored messages."""

    start: Time | None = None
    end: Time | None = None
    sort_order: Order | None = None
    take: Natural = 100
    skip: Natural = 0


class Idempotency(Struct, rename={"key": "Idempotency-Key"}):
    """Of an insert: a repetition with the same key gives the first one's id."""

    key: Annotated[str, Meta(pattern="^[!-~]([ -~]{0,254}[!-~])?$")] | None = None


async def sees_device(ctx: web.Context, device_id: str, *rest: object) -> None:
    """Guard: the device of the path exists and the caller sees it."""
    await ctx.app.rights.device(ctx.caller, device_id)


async def talks_to_device(ctx: web.Context, device_id: str, *rest: object) -> None:
    """Guard: `sees_device`, and the device is not blocked."""
    await ctx.app.rights.messaging(ctx.caller, device_id)
