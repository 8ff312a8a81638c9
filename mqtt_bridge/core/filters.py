"""What a topic filter of MQTT can match (MQTT 5.0, 4.7 and 4.8.2), as far as it concerns the platform.

A filter is judged by everything that it can match, never by how it begins.
"""

from __future__ import annotations

from typing import NamedTuple

from mqtt_bridge.core.topics import KINDS, RESERVED, RESPONSE, ROOT

ONE, REST = "+", "#"
_SHARE = "$share"
_MAX_ID = 18
"""Digits of a network's or device type's id."""


class Other(NamedTuple):
    """Nothing of the platform."""


class System(NamedTuple):
    """Topics of the broker itself, `$SYS` and the like."""


class Forbidden(NamedTuple):
    """More of `dh/` than any client may see, or what never can be a topic of it."""


class Events(NamedTuple):
    """Messages that go out; None for any."""

    kind: int
    network_id: int | None
    device_type_id: int | None
    device_id: str | None
    name: str | None


class Responses(NamedTuple):
    """Answers to one client's requests of one action."""

    action: str
    client_id: str


Meaning = Other | System | Forbidden | Events | Responses


def meaning(filter_: str) -> Meaning:
    """Of a filter as a client subscribes to it, `$share/<group>/` included."""
    levels = filter_.split("/")
    shared = levels[0] == _SHARE
    if shared:
        if len(levels) < 3 or not levels[1] or {ONE, REST} & set(levels[1]):
            return Forbidden()
        levels = levels[2:]
    if not _is_well_formed(levels):
        return Forbidden()
    first = levels[0]
    if first.startswith("$"):
        return System()
    if first == ROOT:
        return _of_ours(levels[1:], shared)
    if first == REST:
        return Forbidden()
    if first == ONE and len(levels) > 1 and (levels[1] in RESERVED or levels[1] in (ONE, REST)):
        return Forbidden()
    return Other()


def _is_well_formed(levels: list[str]) -> bool:
    for position, level in enumerate(levels):
        if REST in level and (level != REST or position != len(levels) - 1):
            return False
        if ONE in level and level != ONE:
            return False
    return bool("/".join(levels)) and "\0" not in "/".join(levels)


def _of_ours(levels: list[str], shared: bool) -> Meaning:
    """levels: those behind `dh`."""
    if not levels:
        return Other()  # the topic `dh` itself, which nobody publishes to
    word, rest = levels[0], levels[1:]
    if word in KINDS:
        return _events(KINDS[word], rest)
    if word == RESPONSE and not shared:
        return _responses("/".join(rest))
    return Forbidden()


def _events(kind: int, levels: list[str]) -> Meaning:
    if levels and levels[-1] == REST:
        levels = levels[:-1]
    if len(levels) > 4:
        return Forbidden()
    network, device_type, device, name = (None if v == ONE else v for v in [*levels, *[ONE] * (4 - len(levels))])
    if not _is_id(network) or not _is_id(device_type):
        return Forbidden()
    return Events(kind, _id(network), _id(device_type), device, name)


def _is_id(text: str | None) -> bool:
    # One way to write a number only: the bridge publishes `1`, and `01` matches nothing.
    return text is None or (text.isascii() and text.isdigit() and len(text) <= _MAX_ID and str(int(text)) == text)


def _id(text: str | None) -> int | None:
    return None if text is None else int(text)


def _responses(text: str) -> Meaning:
    action, at, client_id = text.partition("@")
    if not at or not action or not client_id or ONE in text or REST in text:
        return Forbidden()
    return Responses(action, client_id)
