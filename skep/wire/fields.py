"""Fields of the API with their bounds, said once: OpenAPI shows them, `check` and its like hold to them.

They are checked after the caller's rights, in the API's order, so decoding a body does not look at them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta, Raw

from skep import errors
from skep.wire import timestamps

EXAMPLE = "2026-11-21T08:07:00.123"
BAD_NAME = "Field cannot be empty. The length of name should be from 1 to 128 symbols."
BAD_DESCRIPTION = "The length of description should not be more than 128 symbols."
BAD_DEVICE_NAME = "name field should be from 1 to 128 symbols."
BAD_LOGIN = "Field cannot be empty. The length of login should be from 3 to 128 symbols."
BAD_LOGIN_SYMBOLS = "Login can only contain letters, digits and the symbols @ . _ -"
BAD_PASSWORD = "Password can contain only from 6 to 128 symbols!"  # noqa: S105 - a text
BAD_ROLE = "User role is invalid or empty"


def _text(least: int | None = None, refusal: str | None = None, **schema: Any) -> Meta:
    """schema: `minLength`, `maxLength`, `pattern`. refusal: what the API says about other lengths. least: the smallest
    integer that is as good as its digits; None: every number and boolean is as good as its text."""
    return Meta(extra_json_schema=schema, extra={"least": least, "refusal": refusal})


def choice(*names: str) -> Meta:
    """Of a text that is one of these, in any case; whatever takes it checks that."""
    return Meta(extra_json_schema={"enum": list(names)}, description="In upper or lower case")


MAX_INT = 2**63 - 1
NO_NUL = "^[^\\u0000]*$"
"""The decoders refuse text with this one character: PostgreSQL has every other."""
TIME: dict[str, Any] = {
    "type": ["string", "number"],
    "pattern": timestamps.PATTERN,
    "minimum": timestamps.MIN,
    "maximum": timestamps.MAX,
    "description": "ISO 8601 (UTC where no zone is given), an RFC 1123 date, or epoch milliseconds",
}

Integer = Annotated[int, Meta(ge=-MAX_INT - 1, le=MAX_INT)]
Natural = Annotated[int, Meta(ge=0, le=MAX_INT)]
JsonObject = Annotated[Raw, Meta(extra_json_schema={"type": ["object", "null"]})]
"""JSON text that stays as it is; `skep.web.json_object` checks what comes in."""
Timestamp = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}$", examples=[EXAMPLE])]
"""As the API writes it: UTC, without a zone."""
Name = Annotated[str, _text(refusal=BAD_NAME, minLength=1, maxLength=128)]
"""Of a network or a device type."""
Description = Annotated[str, _text(refusal=BAD_DESCRIPTION, maxLength=128)]
DeviceName = Annotated[str, _text(refusal=BAD_DEVICE_NAME, minLength=1, maxLength=128)]
MessageName = Annotated[str, _text(minLength=1)]
"""Of a notification or a command."""
Password = Annotated[str, _text(100_000, BAD_PASSWORD, minLength=6, maxLength=128)]
NewPassword = Annotated[str, _text(100_000, pattern=r"^([\s\S]{6,128})?$", examples=["a new password"])]
"""Of a change, where an empty one is none given."""
Login = Annotated[
    str, _text(100, pattern="^[ \\t\\r\\n]*[a-zA-Z0-9_@.-]{3,128}[ \\t\\r\\n]*$", examples=["somebody@example"])
]
"""As `users.check_login` has it, which says whether length or symbols are wrong."""
Pattern = Annotated[str, _text(maxLength=128, pattern=r"^([^\\\u0000]|\\[^\u0000])*$")]
"""SQL LIKE: % for any text, _ for any character, a backslash before one that is meant as it is."""
Order = Annotated[str, choice("ASC", "DESC")]
Role = Annotated[int, Meta(extra_json_schema={"enum": [0, 1]}, description="0 admin, 1 client")]
Status = Annotated[int, Meta(extra_json_schema={"enum": [0, 1, 2]}, description="0 active, 1 locked out, 2 disabled")]
ConfigurationName = Annotated[str, _text(minLength=1, maxLength=32)]
ConfigurationValue = Annotated[str, _text(minLength=1, maxLength=128)]
DeviceId = Annotated[str, _text(pattern="^[a-zA-Z0-9-]{1,48}$")]
"""As `devices.valid` has it; what is no such id is no device."""


class Time(int):
    """Milliseconds since the epoch, read from any form that `timestamps.parse` knows."""

    json_schema: ClassVar[dict[str, Any]] = TIME
    refusal: ClassVar[str] = "Unparseable timestamp"

    @classmethod
    def parse(cls, value: Any) -> Time:
        """Raises ValueError."""
        if not isinstance(value, (str, int, float)):
            raise ValueError("no timestamp")
        return cls(timestamps.parse(value))


class Expiry(Time):
    """When a token ends: after the epoch."""

    json_schema: ClassVar[dict[str, Any]] = TIME | {"pattern": timestamps.LATER, "minimum": 1}


def check(kind: Any, value: str) -> str:
    """The value, if it is as long as its type wants it. Raises BadRequest."""
    meta: Meta = kind.__metadata__[0]
    schema = meta.extra_json_schema or {}
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        raise errors.BadRequest((meta.extra or {})["refusal"])
    return value
