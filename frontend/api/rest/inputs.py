"""What the routes' queries share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from skep import errors, web
from skep.wire import timestamps

Natural = Annotated[int, Meta(ge=0)]


class Time(int):
    """Milliseconds since the epoch."""

    @classmethod
    def parse(cls, text: str) -> Time:
        try:
            return cls(timestamps.parse(text))
        except ValueError:
            raise errors.BadRequest("Unparseable timestamp") from None


class Page(Struct, rename="camel", kw_only=True):
    """Of the lists of stored messages."""

    start: Time | None = None
    end: Time | None = None
    sort_field: str = "timestamp"
    sort_order: str | None = None
    take: Natural = 100
    skip: Natural = 0


async def sees_device(ctx: web.Context, device_id: str, *rest: object) -> None:
    """Guard: the device of the path exists and the caller sees it."""
    await ctx.app.rights.device(ctx.caller, device_id)


async def talks_to_device(ctx: web.Context, device_id: str, *rest: object) -> None:
    """Guard: `sees_device`, and the device is not blocked."""
    await ctx.app.rights.messaging(ctx.caller, device_id)


def idempotency_key(ctx: web.Context) -> str | None:
    key: str | None = ctx.headers.get("Idempotency-Key")
    return key
