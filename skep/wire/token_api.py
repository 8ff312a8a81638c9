"""Bodies of the token API: of auth, which answers, and of frontends, which ask it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from skep.wire.fields import MAX_INT, NO_NUL, Expiry, Integer

NOT_BLANK = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
_NAME = {"type": ["string", "integer"], "pattern": NO_NUL, "minimum": -MAX_INT - 1, "maximum": MAX_INT}
Names = Annotated[list[Any], Meta(extra_json_schema={"items": _NAME})]
"""Of actions, or their ids; what is unknown is dropped."""
_Id = Annotated[
    str, Meta(extra_json_schema={"pattern": r"^(\*|[0-9]{1,18})$", "maximum": 10**18 - 1}, extra={"least": 0})
]
Ids = Annotated[
    list[_Id],
    Meta(
        extra_json_schema={"anyOf": [{"items": {"const": "*"}, "maxItems": 1}, {"items": {"not": {"const": "*"}}}]},
        description='"*" alone, or ids',
    ),
]


class Credentials(Struct):
    """Body of POST /token."""

    required: ClassVar = ("login", "password")

    login: Annotated[str, Meta(extra_json_schema={"pattern": NOT_BLANK})] | None = None
    password: Annotated[str, Meta(extra_json_schema={"minLength": 1})] | None = None


class RefreshRequest(Struct, rename="camel"):
    """Body of POST /token/refresh."""

    required: ClassVar = ("refreshToken",)

    refresh_token: Annotated[str, Meta(extra_json_schema={"minLength": 1})] | None = None


class CreateBody(Struct, rename="camel", omit_defaults=True):
    """Body of POST /token/create."""

    required: ClassVar = ("userId",)

    user_id: Integer | None = None
    actions: Names | None = None
    network_ids: Ids | None = None
    device_type_ids: Ids | None = None
    expiration: Expiry | None = None
    refresh_expiration: Expiry | None = None
