"""Types of inputs, each with what it accepts said once: it is checked where it is decoded, and OpenAPI shows it.

Bounds are msgspec's `Meta`. A class with a `parse(value)` that raises ValueError describes itself as `json_schema`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from msgspec import Meta

from skep.wire import timestamps

C = TypeVar("C", bound="Choice")

MAX_INT = 2**63 - 1
Integer = Annotated[int, Meta(ge=-MAX_INT - 1, le=MAX_INT)]
Natural = Annotated[int, Meta(ge=0, le=MAX_INT)]
TIME: dict[str, Any] = {
    "type": ["string", "number"],
    "pattern": timestamps.PATTERN,
    "minimum": timestamps.MIN,
    "maximum": timestamps.MAX,
    "description": "ISO 8601 (UTC where no zone is given), an RFC 1123 date, or epoch milliseconds",
}


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


class Choice(str):
    """One of a few names, in any case; the value is the name as it is listed. `choice` makes the types."""

    names: ClassVar[Mapping[str, str]] = {}
    json_schema: ClassVar[dict[str, Any]] = {}

    @classmethod
    def parse(cls: type[C], value: Any) -> C:
        """Raises ValueError."""
        if not isinstance(value, str) or value.lower() not in cls.names:
            raise ValueError("none of the names")
        return cls(cls.names[value.lower()])


def choice(*names: str) -> type[Choice]:
    schema = {"enum": list(names), "description": "In upper or lower case"}
    return type("Choice", (Choice,), {"names": {name.lower(): name for name in names}, "json_schema": schema})


Order = choice("ASC", "DESC")


def members(kind: Any) -> Iterator[tuple[Any, Meta]]:
    """The types of a union, or the one type, each with its `Meta`."""
    meta = Meta()
    if typing.get_origin(kind) is Annotated:
        kind, *notes = typing.get_args(kind)
        meta = next((note for note in notes if isinstance(note, Meta)), meta)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        for member in typing.get_args(kind):
            yield from members(member)
    else:
        yield kind, meta
