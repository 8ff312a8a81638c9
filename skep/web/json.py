"""JSON bodies: guarded, then decoded into structs as leniently as the API asks (reference §1.4).

Guards: nesting up to `MAX_DEPTH`, integers up to 299 digits (64 bits where they are read), well-formed Unicode, no NUL
in text. Leniency: numbers where strings are expected and the other way round; unknown fields ignored. WebSocket
handlers decode their messages with this, too.
"""

from __future__ import annotations

import itertools
import re
import typing
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from skep.errors import BadRequest, MalformedJson
from skep.web.annotations import members
from skep.wire.fields import MAX_INT

MAX_DEPTH = 64
NULL = Raw(b"null")

T = TypeVar("T")

_LONG = re.compile(rb"(?<![0-9.])[0-9]{300}")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_REST = bytes(set(range(256)) - set(b"[]{}"))
_CHUNK = 4096
_DIGITS = b"-0123456789"
_SCALARS = _DIGITS + b"tf"
_BOOLEANS = (b"true", b"false")

encode = msgspec.json.Encoder().encode
"""Any value of msgspec's types to JSON bytes. `Raw` parts go out as they are."""


def guard(data: bytes) -> None:
    """Raises `MalformedJson` for what no decoder should be given. Costs microseconds for an ordinary body."""
    try:
        data.decode()
    except UnicodeDecodeError:
        raise MalformedJson from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _too_deep(_without_strings(data)):
        raise MalformedJson
    if _LONG.search(data) and _LONG.search(_without_strings(data)):
        raise MalformedJson
    if b"\\u" in data:  # half a surrogate pair inside a part that stays `Raw`
        _decode(_ANY, data)


def _without_strings(data: bytes) -> bytes:
    # Once escapes are gone every second part between quotes is a string. Nothing in here loops in Python over each
    # character or string: whoever sends a megabyte of them must not stop the process for long.
    return b"".join(data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])


def _too_deep(data: bytes) -> bool:
    steps = memoryview(data.translate(_STEPS, _REST)).cast("b")
    depth = 0
    for start in range(0, len(steps), _CHUNK):
        depths = list(itertools.accumulate(steps[start : start + _CHUNK], initial=depth))
        if max(depths) > MAX_DEPTH:
            return True
        depth = depths[-1]
    return False


class Decoder(Generic[T]):
    """Decodes JSON text into the struct type `kind`. Make one for each type, at import."""

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind, strict=False, dec_hook=hook)

    def decode(self, data: bytes) -> T:
        """Raises `MalformedJson`: not JSON, too deep, or a value that can't be what its field must be."""
        guard(data)
        try:
            value = self._decoder.decode(data)
        except msgspec.ValidationError:
            # Rare: a number or boolean where text is expected. Quote such values and decode once more.
            value = _decode(self._decoder, encode(_texts(Raw(data), self.kind)))
        except (msgspec.DecodeError, RecursionError, ValueError):
            raise MalformedJson from None
        _check_integers(value)
        if has_nul(data, value):
            raise MalformedJson
        return value


def json_object(raw: Raw | bytes) -> bytes | None:
    """A field that must be a JSON object or null (`parameters`, `data`, `result`), as its text. Declare the field
    as `Raw = NULL`. Raises `BadRequest` with the API's text, which says 'parameters' whatever the field."""
    text = bytes(raw).strip()
    if text == b"null":
        return None
    if not text.startswith(b"{"):
        raise BadRequest("'parameters' must be JSON Object!")
    return text


def hook(kind: type, value: Any) -> Any:
    """For msgspec's decoders: classes with a `parse(value)`."""
    parse = getattr(kind, "parse", None)
    if parse is None:
        raise NotImplementedError(f"no conversion to {kind}")
    return parse(value)


def _decode(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise MalformedJson from None


_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_MAP: msgspec.json.Decoder[dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw])
_LIST: msgspec.json.Decoder[list[Raw]] = msgspec.json.Decoder(list[Raw])


def _texts(raw: Raw, kind: Any) -> Any:
    """`raw` with numbers and booleans as what `kind` wants. Of a union the first fitting member counts."""
    data = bytes(raw)
    kinds = list(members(kind))
    if data not in _BOOLEANS and any(member in (int, float) for member, _ in kinds):
        return Raw(_whole(data))  # a number is as good as text there
    for member, meta in kinds:
        if data[:1] in _SCALARS and data and (read := _read_as(member, data, meta)) is not None:
            return Raw(read)
        if typing.get_origin(member) is list and data.startswith(b"["):
            (item,) = typing.get_args(member)
            return [_texts(part, item) for part in _decode(_LIST, data)]
        if isinstance(member, type) and issubclass(member, Struct) and data.lstrip().startswith(b"{"):
            types_ = {f.encode_name: f.type for f in msgspec.structs.fields(member)}
            return {
                name: _texts(part, types_[name]) if name in types_ else part
                for name, part in _decode(_MAP, data).items()
            }
    return raw


def _whole(data: bytes) -> bytes:
    """5.0 is 5: msgspec takes it so by itself, but not beyond 53 bits."""
    if data[:1] in _DIGITS and not data[1:].isdigit():
        number = float(data)
        if number.is_integer() and -MAX_INT - 1 <= number <= MAX_INT:
            return b"%d" % int(number)
    return data


def _read_as(kind: Any, scalar: bytes, meta: Meta) -> bytes | None:
    """A number or boolean as JSON of what it counts as where text or a boolean is wanted; None: it does not. Numbers
    have 64 bits; 5.0 is 5 where only digits would do, and 1.0 is 1."""
    if kind is bool and scalar not in _BOOLEANS:
        return {0.0: b"false", 1.0: b"true"}.get(float(scalar))
    if kind is not str:
        return None
    digits_only = meta.extra is not None and meta.extra.get("least") is not None
    if scalar in _BOOLEANS:
        return None if digits_only else b'"%b"' % scalar
    number = int(scalar) if scalar[1:].isdigit() else float(scalar)
    if not -MAX_INT <= number <= MAX_INT:
        return None
    if not digits_only:
        return b'"%b"' % scalar
    return b'"%d"' % number if 0 <= number == int(number) else None


def has_nul(data: bytes, value: Any) -> bool:
    """Whether a text of the value decoded from `data` has a NUL: PostgreSQL holds every character but that one. What is
    kept as its JSON text (`parameters`, `data`, ...) may have it, for there it stays an escape."""
    return b"\\u0000" in data and _holds_nul(value)


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, Struct):
        return any(_holds_nul(getattr(value, name)) for name in value.__struct_fields__)
    return isinstance(value, list) and any(map(_holds_nul, value))


def _check_integers(value: Any) -> None:
    if type(value) is int:
        if not -MAX_INT - 1 <= value <= MAX_INT:
            raise MalformedJson
    elif isinstance(value, Struct):
        for name in value.__struct_fields__:
            _check_integers(getattr(value, name))
    elif type(value) is list:
        for item in value:
            _check_integers(item)
