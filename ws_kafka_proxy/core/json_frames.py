"""The DeviceHive JSON dialect on the wire: objects with `id`, `t`, `a`, `p` in, the same and `s` out.

docs: DeviceHive WebSocket-Kafka proxy, "Message structure". Absent keys are left out, never null.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

TOPIC, NOTIF, HEALTH, PLUGIN, ACK = "topic", "notif", "health", "plugin", "ack"
MAX_ID = 1024
"""Characters of an `id`, which is echoed."""
MAX_NAME = 64
"""Characters of `t` and `a` that are echoed."""


class Malformed(ValueError):
    """Not a request; the text is the parser's."""


class Request(Struct, frozen=True):
    """One request. `payload` {} where it has none; `id`, `type`, `action` only where they are of the right type."""

    id: str | int | None
    type: str
    action: str | None
    payload: dict[str, Any]
    size: int


class Frame(Struct, omit_defaults=True):
    """A reply, or a push (`t` notif without `id`). `s`: 0 done, 1 failed."""

    id: str | int | UnsetType = UNSET
    t: str | UnsetType = UNSET
    a: str | UnsetType = UNSET
    s: int | UnsetType = UNSET
    p: dict[str, Any] | UnsetType = UNSET
    st: str | UnsetType = UNSET


encode = msgspec.json.Encoder().encode


def parse(data: str | bytes) -> list[Any]:
    """The elements of a frame: one object, or an array of them. Raises Malformed."""
    try:
        decoded = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise Malformed(str(error)) from error
    return decoded if isinstance(decoded, list) else [decoded]


def request(element: Any, size: int) -> Request:
    """Raises Malformed for what is no object."""
    if not isinstance(element, dict):
        raise Malformed("a message must be a JSON object")
    id, type, action, payload = (element.get(key) for key in ("id", "t", "a", "p"))
    named = isinstance(id, str) and len(id) <= MAX_ID
    numbered = isinstance(id, int) and not isinstance(id, bool)
    return Request(
        id if named or numbered else None,
        type[:MAX_NAME] if isinstance(type, str) else str(type)[:MAX_NAME],
        action[:MAX_NAME] if isinstance(action, str) else None,
        payload if isinstance(payload, dict) else {},
        size,
    )


def reply(request: Request, payload: dict[str, Any] | None = None, failed: bool = False) -> Frame:
    return Frame(
        UNSET if request.id is None else request.id,
        request.type,
        UNSET if request.action is None else request.action,
        int(failed),
        UNSET if payload is None else payload,
    )


def failure(request: Request, text: str) -> Frame:
    return reply(request, {"m": text}, failed=True)


def malformed(text: str) -> Frame:
    return Frame(t=ACK, s=1, p={"m": text})


def accepted(request: Request) -> Frame:
    """In ack mode: it is in the buffer."""
    return Frame(UNSET if request.id is None else request.id, ACK, s=0)


def push(topic: str, text: str, place: tuple[int, int] | None = None) -> Frame:
    """place: (partition, offset), for subscribers that acknowledge."""
    payload: dict[str, Any] = {"m": text}
    if place is not None:
        payload["part"], payload["off"] = place
    return Frame(t=NOTIF, s=0, p=payload, st=topic)
