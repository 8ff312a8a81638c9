"""What a type annotation is made of."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

from msgspec import Meta


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
