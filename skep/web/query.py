"""Query strings into structs (reference §1.2): camelCase names, the first value of a name, unknown names ignored."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from skep.errors import BadRequest, NotFound
from skep.web.annotations import members
from skep.wire.fields import MAX_INT

_MAX_FIELDS = 200


class Decoder:
    """Decodes query strings into the struct type `kind`: str, int, bool, list of these (comma list), or a class with
    a `parse(text)` that raises ValueError, each also optional. Bounds as msgspec's `Meta`."""

    def __init__(self, kind: type[Struct]) -> None:
        self.kind = kind
        self._fields = {f.encode_name: (f.encode_name, _converter(f.type)) for f in msgspec.structs.fields(kind)}

    def decode(self, query: str) -> Struct:
        """Raises `NotFound` for text where a number is expected, as the reference does, `BadRequest` for numbers out
        of bounds, malformed escapes, or more than 200 parameters."""
        return self.read(_pairs(query))

    def read(self, pairs: Iterable[tuple[str, str]]) -> Struct:
        """As `decode`, of names and values, such as those of headers."""
        values: dict[str, Any] = {}
        for name, text in pairs:
            if name in self._fields and name not in values:
                values[name] = self._fields[name][1](text)
        try:
            return msgspec.convert(values, self.kind)
        except msgspec.ValidationError:
            raise BadRequest from None


def _pairs(query: str) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise BadRequest from None


def _converter(kind: Any) -> Callable[[str], Any]:
    kind = plain(kind)
    if typing.get_origin(kind) is list:
        item = _converter(typing.get_args(kind)[0])
        return lambda text: [item(part.strip()) for part in text.split(",") if part.strip()]
    if kind is str:
        return _text
    if kind is int:
        return _integer
    if kind is bool:
        return lambda text: text.lower() == "true"
    if hasattr(kind, "parse"):
        return functools.partial(_parsed, kind)
    raise TypeError(f"{kind} can't be a query parameter")


def plain(kind: Any) -> Any:
    """The type without None and without `Annotated`."""
    (only,) = (member for member, _ in members(kind) if member is not type(None))
    return only


def _parsed(kind: Any, text: str) -> Any:
    try:
        return kind.parse(text)
    except ValueError:
        raise BadRequest(getattr(kind, "refusal", None)) from None


def _text(text: str) -> str:
    if "\0" in text:
        raise BadRequest
    return text


def _integer(text: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19 or not -MAX_INT - 1 <= int(text) <= MAX_INT:
        raise NotFound
    return int(text)
