"""Bodies of the token API: of auth, which answers, and of frontends, which ask it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from skep.wire.fields import Integer, Time

Names = Annotated[list[Any], Meta(extra_json_schema={"items": {"type": ["string", "integer"]}})]
"""Of actions, or their ids; what is unknown is dropped."""
Ids = Annotated[
    list[str],
    Meta(
        extra_json_schema={
            "items": {
                "type": ["string", "integer"],
                "pattern": r"^(\*|[0-9]{1,18})$",
                "minimum": 0,
                "maximum": 10**18 - 1,
            },
            "anyOf": [{"items": {"const": "*"}, "maxItems": 1}, {"items": {"not": {"const": "*"}}}],
        },
        description='"*" alone, or ids',
    ),
]


class Credentials(Struct):
    """Body of POST /token."""

    required: ClassVar = ("login", "password")

    login: str | None = None
    password: str | None = None


class RefreshRequest(Struct, rename="camel"):
    """Body of POST /token/refresh."""

    required: ClassVar = ("refreshToken",)

    refresh_token: str | None = None


class CreateBody(Struct, rename="camel", omit_defaults=True):
    """Body of POST /token/create."""

    required: ClassVar = ("userId",)

    user_id: Integer | None = None
    actions: Names | None = None
    network_ids: Ids | None = None
    device_type_ids: Ids | None = None
    expiration: Time | None = None
    refresh_expiration: Time | None = None
