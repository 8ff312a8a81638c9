"""The sessions that take what devices publish, and what each is subscribed to.

One session gets everything, and in order. Several share it (MQTT 5.0, 4.8.2): the broker gives each packet to one of
them, so the bridges share the work, and two packets of one device may overtake each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from mqtt_bridge.core import topics


class Subscription(Struct, frozen=True):
    """Of a session. unwanted: what it may have had before, with other settings."""

    wanted: tuple[str, ...] = topics.INBOUND
    unwanted: tuple[str, ...] = ()
    is_shared: bool = False


def sessions(name: str, count: int, known: Iterable[str]) -> dict[str, Subscription]:
    """By client id. known: those that there ever were. One that there should not be any more gets nothing new; what
    waits in it is for us all the same."""
    plain, shared = topics.INBOUND, topics.shared(name)
    if count == 1:
        found = {name: Subscription(plain, unwanted=shared)}
    else:
        numbers = range(1, count + 1)
        found = {_numbered(name, number): Subscription(shared, plain, is_shared=True) for number in numbers}
    left = re.compile(re.escape(name) + r"-\d+")
    return {n: Subscription((), plain + shared) for n in known if left.fullmatch(n)} | found


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"
