"""Who sees what, as the reference says it (2.5 to 2.7): token and user together, as of now. Pure."""

from __future__ import annotations

from dataclasses import dataclass

Place = tuple[int, int]
"""(network id, device type id)"""

GET_DEVICE = 3
GET_NOTIFICATION, GET_COMMAND, CREATE_COMMAND, UPDATE_COMMAND, CREATE_NOTIFICATION = 4, 5, 7, 8, 9
CLIENT_ACTIONS = frozenset({2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 16, 17})


@dataclass(eq=False)
class User:
    """`types` None: all device types."""

    id: int
    login: str
    password: str
    admin: bool
    networks: set[int]
    types: set[int] | None = None
    disabled: bool = False


@dataclass(eq=False)
class Token:
    """`networks`, `types`: what the token itself allows, None for all."""

    text: str
    user: User
    networks: frozenset[int] | None = None
    types: frozenset[int] | None = None
    actions: frozenset[int] = CLIENT_ACTIONS

    def seen_networks(self) -> frozenset[int] | None:
        """Ids, None for all."""
        return _both(self.networks, None if self.user.admin else frozenset(self.user.networks))

    def seen_types(self) -> frozenset[int] | None:
        own = self.user.types
        return _both(self.types, None if self.user.admin or own is None else frozenset(own))

    def sees(self, place: Place) -> bool:
        return _holds(self.seen_networks(), place[0]) and _holds(self.seen_types(), place[1])

    @property
    def sees_everything(self) -> bool:
        return self.seen_networks() is None and self.seen_types() is None


def _both(one: frozenset[int] | None, other: frozenset[int] | None) -> frozenset[int] | None:
    if one is None or other is None:
        return one if other is None else other
    return one & other


def _holds(ids: frozenset[int] | None, id: int) -> bool:
    return ids is None or id in ids
