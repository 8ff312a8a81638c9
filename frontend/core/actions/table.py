"""The table of actions, filled by `@action` when the modules are imported.

@action("device/get", GetDevice, Action.GET_DEVICE)
def get(session: Session, request: GetDevice) -> Outcome: ...

A handler gives the fields of the reply (None: none), a `Later` for one that comes with a future, a `Then`, or is a
coroutine for one of these; it raises `SkepError`. ordered: requests behind this one wait while it runs as a coroutine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import msgspec
from msgspec import Raw, Struct

from frontend.core.bodies import Time
from skep import errors
from skep.access import Action
from skep.web import json
from skep.wire import timestamps
from skep.wire.fields import Integer

if TYPE_CHECKING:
    from frontend.core.session import Session


class Request(Struct, rename="camel", tag_field="action", kw_only=True):
    """The fields every action is checked for, whether it uses them or not."""

    request_id: Raw = json.NULL
    device_id: str | None = None
    network_id: Integer | None = None
    device_type_id: Integer | None = None


class Later(NamedTuple):
    """A reply that comes with a future. render: its result to the reply's fields."""

    future: asyncio.Future[bytes]
    render: Callable[[bytes], dict[str, Any] | None]


class Then(NamedTuple):
    """A reply, and what has to follow it."""

    fields: dict[str, Any]
    work: Coroutine[Any, Any, None]


Settled = dict[str, Any] | Later | Then | None
Outcome = Settled | Coroutine[Any, Any, Settled]
Handler = Callable[["Session", Any], Outcome]


class Entry(NamedTuple):
    name: str
    text: bytes
    """The name as JSON."""
    kind: type[Request]
    permissions: tuple[Action, ...]
    """One of them is enough; none: public."""
    handler: Handler
    ordered: bool
    lenient: json.Decoder[Request]
    answers: Mapping[str, Any]
    """Names and types of what a success has besides the envelope."""
    reads: tuple[str, ...]
    """Those of `Request`'s fields that it uses."""


_by_name: dict[str, Entry] = {}
_by_kind: dict[type, Entry] = {}
_decoder: msgspec.json.Decoder[Any] | None = None


def action(
    kind: type[Request],
    *permissions: Action,
    ordered: bool = False,
    reads: tuple[str, ...] = (),
    answers: Mapping[str, Any] = MappingProxyType({}),
) -> Callable[[Callable[[Session, Any], Any]], Callable[[Session, Any], Any]]:
    """Declare the handler of the action that `kind`'s tag names. reads, answers: as in `Entry`. Raises TypeError at
    import for a permission that is none and an action that is there already."""
    name = str(kind.__struct_config__.tag)
    if any(not isinstance(p, Action) or p in (Action.ANY, Action.NONE) for p in permissions):
        raise TypeError(f"{name}: {permissions} are no permissions")
    if name in _by_name:
        raise TypeError(f"{name} is declared twice")

    def declare(handler: Callable[[Session, Any], Any]) -> Callable[[Session, Any], Any]:
        global _decoder
        entry = Entry(name, json.encode(name), kind, permissions, handler, ordered, json.Decoder(kind), answers, reads)
        _by_name[name] = _by_kind[kind] = entry
        _decoder = None
        return handler

    return declare


def decode(text: bytes) -> Request:
    """A request whose fields are as its action wants them. Raises msgspec's errors."""
    global _decoder
    if _decoder is None:
        _decoder = msgspec.json.Decoder(Union[tuple(_by_kind)], strict=False)  # noqa: UP007
    request: Request = _decoder.decode(text)
    return request


def entry_of(request: Request) -> Entry:
    return _by_kind[type(request)]


def entries() -> list[Entry]:
    """By name."""
    return [_by_name[name] for name in sorted(_by_name)]


def names() -> list[str]:
    return sorted(_by_name)


def find(name: str) -> Entry | None:
    return _by_name.get(name)


def permit(entry: Entry, session: Session) -> None:
    """Raises Unauthorized, Forbidden."""
    if entry.permissions:
        caller = session.caller
        if not any(p in caller.actions for p in entry.permissions):
            raise errors.Forbidden


def time(value: Time | None) -> int | None:
    """ms. Raises MalformedJson."""
    try:
        return None if value is None else timestamps.parse(value)
    except ValueError:
        raise errors.MalformedJson from None


def given_id(value: int | None, noun: str) -> int:
    """Raises BadRequest without an id."""
    if value is None:
        raise errors.BadRequest(f"{noun} id is wrong or empty")
    return value


def given_device(request: Request) -> str:
    """Raises BadRequest without a device id."""
    if not request.device_id:
        raise errors.BadRequest("Device id is wrong or empty")
    return request.device_id
