"""Users' accounts at a broker that keeps its clients itself: made of what is stored of them, and of their rights."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from mqtt_bridge.core import roles
from mqtt_bridge.core.clients import FAR
from mqtt_bridge.core.dynsec import PREFIX, Account
from mqtt_bridge.core.roles import Entry
from skep import access, mqtt_passwords
from skep.access import User
from skep.tokens import Keys

log = logging.getLogger("mqtt_bridge")


class Stored(Protocol):
    """`skep.metadata.mqtt_passwords.MqttAccount`."""

    @property
    def user(self) -> User: ...
    @property
    def client_id(self) -> str: ...
    @property
    def salt(self) -> bytes: ...
    @property
    def key(self) -> str: ...
    @property
    def devices(self) -> tuple[str, ...]: ...


_Cause = tuple[User, str, tuple[str, ...]]


class Accounts:
    """keys: those the passwords are made with. session: with what the client ids of bridges begin, which nobody else
    may have. others: as in `roles.entries`."""

    def __init__(self, keys: Keys, session: str, others: tuple[str, ...] = ()) -> None:
        self._keys, self._session, self._others = keys, session, others
        self._entries: dict[int, tuple[_Cause, frozenset[Entry]]] = {}
        self._left_out: dict[int, str] = {}

    def of(self, stored: Iterable[Stored]) -> list[Account]:
        """Without those whose secret is gone: their passwords can't be made any more. Nor with those who would take the
        bridge's sessions over."""
        before, self._entries = self._entries, {}
        told, self._left_out = self._left_out, {}
        found = []
        for each in stored:
            password = mqtt_passwords.password(self._keys, each.key, each.user.id, each.salt)
            if each.client_id.startswith(self._session):
                self._left_out[each.user.id] = "its client id is the bridge's"
            elif password is None:
                self._left_out[each.user.id] = "the secret that its password was made with is gone"
            else:
                role = f"{PREFIX}{each.user.id}"
                found.append(Account(each.user.login, each.client_id, password, role, self._made(each, before)))
        for user_id, reason in self._left_out.items():
            if told.get(user_id) != reason:
                log.warning("user %s gets no account at the broker: %s", user_id, reason)
        return found

    def _made(self, stored: Stored, before: dict[int, tuple[_Cause, frozenset[Entry]]]) -> frozenset[Entry]:
        """Thousands of lines for a user, of which most changes change none."""
        cause = stored.user, stored.client_id, stored.devices
        known = before.get(stored.user.id)
        if known is None or known[0] != cause:
            principal = access.principal(access.login_claims(stored.user, FAR), stored.user, 0)
            if roles.is_cut(principal) or len(stored.devices) >= roles.MAX_DEVICES:
                log.warning("user %s sees more than its MQTT role can say", stored.user.id)
            known = cause, roles.entries(principal, stored.client_id, stored.devices, self._others)
        self._entries[stored.user.id] = known
        return known[1]
