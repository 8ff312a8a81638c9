"""Which messages are collected for a plugin: what it asked for and its owner may see, as interests. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import TypeVar

import msgspec
from msgspec import Struct

from skep import access
from skep.access import User
from skep.metadata.plugins import PluginState
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE
from skep.wire.plugins import Filter

T = TypeVar("T", int, str)
Interest = tuple[int, int | None, int | None, str | None, str | None]
"""(kind, network, device type, device, name); None: any. As `wire.messages.Interest`."""

KINDS = (COMMAND, UPDATE, NOTIFICATION)
"""In the order of the filter's text."""
ANY = "*"

_NAMES = {COMMAND: "command", UPDATE: "command_update", NOTIFICATION: "notification"}
_decode = msgspec.json.Decoder(Filter).decode
_unpack: msgspec.msgpack.Decoder[list[Interest]] = msgspec.msgpack.Decoder(list[Interest])
_pack = msgspec.msgpack.Encoder().encode


class Extent(Struct, frozen=True):
    """What a plugin may get as of one moment; None: any. An empty set: nothing."""

    kinds: tuple[int, ...]
    networks: frozenset[int] | None
    device_types: frozenset[int] | None
    device_id: str | None
    names: frozenset[str] | None

    def __len__(self) -> int:
        """How many interests it is."""
        sizes = (1 if part is None else len(part) for part in (self.networks, self.device_types, self.names))
        return len(self.kinds) * next(sizes) * next(sizes) * next(sizes)

    def interests(self) -> set[Interest]:
        networks, types, names = _each(self.networks), _each(self.device_types), _each(self.names)
        return {
            (kind, network, device_type, self.device_id, name)
            for kind, network, device_type, name in product(self.kinds, networks, types, names)
        }

    def holds(self, interest: Interest) -> bool:
        """Whether all that the interest matches is within the extent."""
        kind, network, device_type, device_id, name = interest
        return (
            kind in self.kinds
            and (self.networks is None or network in self.networks)
            and (self.device_types is None or device_type in self.device_types)
            and self.device_id in (None, device_id)
            and (self.names is None or name in self.names)
        )


NOTHING = Extent((), frozenset(), frozenset(), None, frozenset())


def extent(state: PluginState) -> Extent:
    """What the plugin asked for, as far as its owner may see it now."""
    owner = state.owner
    if owner is None or owner.status != access.ACTIVE:
        return NOTHING
    return visible(_decode(state.plugin.wanted), owner, state.networks, state.device_types)


def visible(wanted: Filter, owner: User, networks: frozenset[int], device_types: frozenset[int]) -> Extent:
    """networks, device_types: those of the wanted ones that exist."""
    return Extent(
        kinds=KINDS if wanted.kinds is None else tuple(kind for kind in KINDS if kind in wanted.kinds),
        networks=_both(wanted.networks, networks, access.networks_of(owner)),
        device_types=_both(wanted.device_types, device_types, access.device_types_of(owner)),
        device_id=wanted.device_id,
        names=None if wanted.names is None else frozenset(wanted.names),
    )


def collected(extent: Extent, most: int, before: set[Interest]) -> tuple[set[Interest], bool]:
    """The interests of the extent, and whether they are all. Where they would be more than `most`, those of `before`
    stay that are within it: rights that shrink always count."""
    if len(extent) <= most:
        return extent.interests(), True
    return {interest for interest in before if extent.holds(interest)}, False


def covers(wide: set[Interest], narrow: Iterable[Interest]) -> bool:
    """Whether all that matches `narrow` matches `wide` too."""
    return all(any(general in wide for general in _generals(interest)) for interest in narrow)


def text(wanted: Filter, extent: Extent) -> str:
    """The filter in force, as the API shows it: `<types>/<networkIds>/<deviceTypeIds>/<deviceId>/<names>`."""
    kinds = ANY if wanted.kinds is None else ",".join(_NAMES[kind] for kind in extent.kinds)
    networks = _ids(wanted.networks, extent.networks)
    device_types = _ids(wanted.device_types, extent.device_types)
    names = ANY if wanted.names is None else ",".join(wanted.names)
    return "/".join((kinds, networks, device_types, wanted.device_id or ANY, names))


def pack(interests: set[Interest]) -> bytes:
    return _pack(sorted(interests, key=_pack))


def unpack(data: bytes) -> set[Interest]:
    return set(_unpack.decode(data))


def _each(part: frozenset[T] | None) -> Iterable[T | None]:
    return [None] if part is None else part


def _both(wanted: list[int] | None, existing: frozenset[int], own: frozenset[int] | None) -> frozenset[int] | None:
    if wanted is None:
        return own
    named = frozenset(wanted) & existing
    return named if own is None else named & own


def _generals(interest: Interest) -> Iterable[Interest]:
    kind, network, device_type, device_id, name = interest
    return product({kind}, {network, None}, {device_type, None}, {device_id, None}, {name, None})


def _ids(wanted: list[int] | None, inside: frozenset[int] | None) -> str:
    if wanted is None:
        return ANY
    return ",".join(str(id) for id in wanted if inside is None or id in inside)
