"""What a subscription or a poll wants, and the interests that bring at least that to this process."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from skep.access import Principal
from skep.wire.messages import Command, Notification

Filter = tuple[int, int | None, int | None, str | None, str | None]
"""(kind, network id, device type id, device id, name); None: any. As `messages.Interest`."""

MAX_NAMES = 16
"""More names than that are one interest in any name, sorted out here."""


class Scope(Struct, frozen=True):
    """`networks`, `device_types`, `names`: None for any. A device wins over networks and types."""

    kind: int
    device_id: str | None = None
    networks: frozenset[int] | None = None
    device_types: frozenset[int] | None = None
    names: frozenset[str] | None = None

    def filters(self) -> list[Filter]:
        """Interests that cover the scope. Of networks and types only the smaller set is given to the backends: a
        cross product would be larger than what it saves."""
        names: Iterable[str | None] = (None,)
        if self.names is not None and len(self.names) <= MAX_NAMES:
            names = sorted(self.names)
        places: list[tuple[int | None, int | None, str | None]] = [(None, None, self.device_id)]
        if self.device_id is None:
            networks, types = self.networks, self.device_types
            if networks is not None and (types is None or len(networks) <= len(types)):
                places = [(network, None, None) for network in sorted(networks)]
            elif types is not None:
                places = [(None, device_type, None) for device_type in sorted(types)]
        return [(self.kind, *place, name) for place in places for name in names]

    def pairs(self) -> list[tuple[int | None, int | None]]:
        """As `messages.List.scopes`: a superset, as `filters`."""
        return [(network, device_type) for _, network, device_type, _, _ in self._unnamed().filters()]

    def holds(self, message: Notification | Command) -> bool:
        """Whether the message is one of those wanted."""
        if self.names is not None and message.name not in self.names:
            return False
        if self.device_id is not None:
            return message.device_id == self.device_id
        return (self.networks is None or message.network_id in self.networks) and (
            self.device_types is None or message.device_type_id in self.device_types
        )

    def _unnamed(self) -> Scope:
        return Scope(self.kind, None, self.networks, self.device_types)


def of(
    principal: Principal,
    kind: int,
    device_id: str | None,
    networks: list[int] | None,
    device_types: list[int] | None,
    names: list[str] | None,
) -> Scope | None:
    """The scope of a request by `principal`, None where nothing is visible. What is not given is what the
    principal sees; an empty list of names is none given."""
    wanted = frozenset(names) if names else None
    if device_id is not None:
        return Scope(kind, device_id, names=wanted)
    within = principal.networks if networks is None else frozenset(networks)
    types = principal.device_types if device_types is None else frozenset(device_types)
    if (within is not None and not within) or (types is not None and not types):
        return None
    return Scope(kind, None, within, types, wanted)
