"""What a socket of the JSON dialect may do: allow-lists."""

from __future__ import annotations

import re
from typing import Protocol

from skep import tokens
from skep.errors import Unauthorized
from skep.wire import topics
from ws_kafka_proxy.core.json_frames import ACK, HEALTH, NOTIF, PLUGIN, TOPIC, Request

SUFFIX = re.compile(r"[A-Za-z0-9_-]{1,64}")
SLOT = re.compile(r"-[0-9]*")
"""Suffixes of the groups that sockets without a group of their own have."""
NOT_AUTHORIZED = "Plugin not authorized"
NO_PERMISSIONS = "Plugin has no permissions for this operation"
NOT_ENABLED = "Plugin API not enabled"
EXPIRED = "Token expired"
AUTHENTICATE_WITHIN = 60_000
"""Milliseconds a plugin's socket may stay without authenticating."""


class Refused(Exception):
    """The text is the client's."""


class Role(Protocol):
    def check(self, request: Request) -> None:
        """Whether requests of this kind are allowed at all. Raises Refused."""

    def may_read(self, topic: str) -> bool: ...

    def may_write(self, topic: str) -> bool: ...

    def may_create(self, topic: str) -> bool: ...

    def group(self, topic: str, suffix: str | None) -> str | None:
        """Of a subscription with this group of the client's, or with none; None: everything, and no position is kept.
        Raises Refused for a bad name."""

    def overdue(self, now: int) -> str | None:
        """Why the socket must be closed; None: it may stay. now: ms."""


class Tool:
    """Whoever shows a service token in the handshake; durable topics within the service's rights."""

    def __init__(self, service: str, instance: str) -> None:
        self._rights = topics.RIGHTS.get(service, topics.Rights())
        self._instance = instance

    def check(self, request: Request) -> None:
        if request.type == PLUGIN:
            raise Refused(NOT_ENABLED)

    def may_read(self, topic: str) -> bool:
        return self._may(self._rights.subscribe, topic)

    def may_write(self, topic: str) -> bool:
        return self._may(self._rights.publish, topic)

    def may_create(self, topic: str) -> bool:
        return self._may(self._rights.create, topic)

    def group(self, topic: str, suffix: str | None) -> str | None:
        if suffix is None:
            return None
        # Not one of the services': a tool that names "backend" must not take the backends' partitions.
        return f"json-{_checked(suffix)}"

    def overdue(self, now: int) -> str | None:
        return None

    def _may(self, patterns: tuple[str, ...], topic: str) -> bool:
        named = topics.NAME.fullmatch(topic) is not None
        return named and topics.is_durable(topic) and topics.allowed(patterns, topic, self._instance)


class Plugin:
    """A plugin: authenticate, health, and its own topic to subscribe to and acknowledge. Nothing else, ever."""

    _ALLOWED = frozenset({(TOPIC, "subscribe"), (TOPIC, "unsubscribe"), (ACK, None)})

    def __init__(self, keys: tokens.Keys, now: int) -> None:
        self._keys = keys
        self._connected = now
        self.claims: tokens.Claims | None = None

    def verify(self, token: str, now: int) -> tokens.Claims:
        """A plugin's access token that is good now; `claims` is set by whoever lets the socket in. Raises Refused."""
        if not token:
            raise Refused("Token is empty")
        try:
            claims = tokens.verify(token, self._keys)
        except Unauthorized as error:
            raise Refused("Token is not valid") from error
        if claims.topic is None or not _is_plugin_topic(claims.topic):
            raise Refused("Token is not valid")
        if claims.type != tokens.ACCESS:
            raise Refused("Invalid token type")
        if claims.expires < now:
            raise Refused("Token has expired")
        return claims

    def check(self, request: Request) -> None:
        kind = (request.type, request.action)
        if kind == (PLUGIN, "authenticate") or request.type == HEALTH:
            return
        if self.claims is None:
            raise Refused(NOT_AUTHORIZED)
        if kind not in self._ALLOWED and request.type in (TOPIC, NOTIF, ACK):
            raise Refused(NO_PERMISSIONS)
        if kind[0] == TOPIC and request.payload.get("t") != [self.claims.topic]:
            raise Refused(NO_PERMISSIONS)

    def may_read(self, topic: str) -> bool:
        return self.claims is not None and topic == self.claims.topic

    def may_write(self, topic: str) -> bool:
        return False

    def may_create(self, topic: str) -> bool:
        return False

    def group(self, topic: str, suffix: str | None) -> str | None:
        """The client's own name, "" where it gives none: which group of the bus that is comes with the seat."""
        if suffix is None:
            return ""
        if SLOT.fullmatch(suffix):
            raise Refused("A subscription group is more than - and a number")
        return _checked(suffix)

    def overdue(self, now: int) -> str | None:
        if self.claims is None:
            return NOT_AUTHORIZED if now > self._connected + AUTHENTICATE_WITHIN else None
        return EXPIRED if self.claims.expires < now else None


def _checked(suffix: str) -> str:
    if not SUFFIX.fullmatch(suffix):
        raise Refused("A subscription group has 1 to 64 letters, digits, _ or -")
    return suffix


def _is_plugin_topic(topic: str) -> bool:
    return topic.startswith("plugin_topic_") and topics.NAME.fullmatch(topic) is not None
