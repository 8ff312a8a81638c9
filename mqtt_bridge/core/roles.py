"""A user's rights as a list, for a broker that judges by itself: Mosquitto with its dynamic-security plugin.

Everything that is not listed is denied, so an entry neither denies nor has a priority. The list says what `acl.py`
says, but: topics outside of `dh/` are allowed below chosen first levels only; groups share events of whole places, not
of one device; whoever is limited by nothing may insert for any device id, and the bridge passes over what is missing or
blocked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

from mqtt_bridge.core.acl import READING
from mqtt_bridge.core.requests import ACTIONS
from mqtt_bridge.core.topics import INSERT, KINDS, REQUEST, RESPONSE, ROOT, response
from skep.access import Action, Principal

SEND, RECEIVE = "publishClientSend", "publishClientReceive"
LITERAL, PATTERN = "subscribeLiteral", "subscribePattern"
"""A filter as it is written; filters that match no more than another one does."""
MAX_PLACES = 500
"""Pairs of networks and device types of one user; what is beyond is left out."""
MAX_DEVICES = 500
SHARED = "$share/+"


class Entry(NamedTuple):
    """An ACL of the plugin."""

    kind: str
    topic: str
    allow: bool = True
    priority: int = 0


def entries(principal: Principal, client_id: str, devices: Iterable[str], others: Iterable[str]) -> frozenset[Entry]:
    """devices: ids of those that a limited user sees and that may send. others: first levels, not `dh`, that are the
    broker's own business."""
    return frozenset(
        entry
        for found in (
            _requests(client_id),
            _inserts(principal, devices),
            _events(principal, devices),
            _system(principal),
            _others(others),
        )
        for entry in found
    )


def is_cut(principal: Principal) -> bool:
    """Whether some of its places are left out."""
    return _count(principal) > MAX_PLACES


def _requests(client_id: str) -> Iterator[Entry]:
    yield Entry(SEND, f"{ROOT}/{REQUEST}/{client_id}")
    # Of answers a client gets what it may subscribe to, and that is its own.
    yield Entry(RECEIVE, f"{ROOT}/{RESPONSE}/#")
    for action in ACTIONS:
        yield Entry(LITERAL, response(action, client_id))


def _inserts(principal: Principal, devices: Iterable[str]) -> Iterator[Entry]:
    if principal.can(Action.CREATE_DEVICE_NOTIFICATION):
        for device in ["+"] if principal.sees_everything else devices:
            yield Entry(SEND, f"{ROOT}/{INSERT}/notification/{device}/+")


def _events(principal: Principal, devices: Iterable[str]) -> Iterator[Entry]:
    words = [word for word, kind in KINDS.items() if principal.can(READING[kind])]
    for word, place in product(words, _places(principal)):
        events = f"{ROOT}/{word}/{place}"
        yield Entry(PATTERN, events)
        yield Entry(PATTERN, f"{SHARED}/{events}")
        yield Entry(RECEIVE, events)
    for word, device in product(words, [] if principal.sees_everything else devices):
        # What it receives is judged by the places.
        yield Entry(PATTERN, f"{ROOT}/{word}/+/+/{device}/#")


def _places(principal: Principal) -> list[str]:
    """Networks and device types of which everything is visible, as the end of a filter."""
    if principal.sees_everything:
        return ["#"]
    networks = ["+"] if principal.networks is None else [str(id) for id in sorted(principal.networks)]
    if principal.device_types is None:
        return [f"{network}/#" for network in networks[:MAX_PLACES]]
    found = product(networks, sorted(principal.device_types))
    return [f"{network}/{device_type}/#" for (network, device_type), _ in zip(found, range(MAX_PLACES), strict=False)]


def _count(principal: Principal) -> int:
    networks, types = principal.networks, principal.device_types
    return (1 if networks is None else len(networks)) * (1 if types is None else len(types))


def _system(principal: Principal) -> Iterator[Entry]:
    if principal.is_admin:
        yield Entry(PATTERN, "$SYS/#")
        yield Entry(RECEIVE, "$SYS/#")


def _others(others: Iterable[str]) -> Iterator[Entry]:
    for level in others:
        for kind in (SEND, RECEIVE, PATTERN):
            yield Entry(kind, f"{level}/#")
        yield Entry(PATTERN, f"{SHARED}/{level}/#")
