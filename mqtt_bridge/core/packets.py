"""Packets from the broker, and their ids on the platform.

A packet identifier of MQTT is the broker's own and wraps after 65,535: it names a packet only until that is
acknowledged. So a packet without DUP always gets a fresh id, and one with DUP the id its identifier had last, if what
it carries is the same. That is remembered in PostgreSQL, before anything is done with the packet: a bridge that was
killed finds it again.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from msgspec import Struct

DISTANCE = 1 << 15
"""A memory that is so many packets old belongs to an earlier round of the identifiers."""


class Refused(Exception):
    """The broker does not let us in, or does not take what we want."""


class Lost(Exception):
    """The connection to the broker is gone; whether what was not confirmed has arrived nobody knows."""


class Packet(Struct, frozen=True):
    """A PUBLISH from the broker. id: its packet identifier, 0 with QoS 0."""

    id: int
    topic: str
    payload: bytes
    qos: int = 1
    is_duplicate: bool = False

    @property
    def digest(self) -> int:
        """63 bits of what it carries."""
        digest = hashlib.blake2b(self.topic.encode(), key=b"", digest_size=8)
        digest.update(b"\0" + self.payload)
        return int.from_bytes(digest.digest(), "big") >> 1


class Remembered(Struct, frozen=True):
    """What an identifier was used for last. number: rises with every packet of the session."""

    packet_id: int
    id: int
    digest: int
    number: int


class Memory(Protocol):
    """By session: the client id under which the bridge is known to the broker."""

    async def recall(self, session: str) -> list[Remembered]:
        """All of a session. Raises Unavailable."""

    async def remember(self, session: str, packets: list[Remembered]) -> None:
        """Instead of what was remembered of these identifiers. Raises Unavailable."""


class Numbered(Struct, frozen=True):
    """A packet with its id on the platform. is_repeated: it may have been handled before, under this id."""

    packet: Packet
    id: int
    is_repeated: bool = False
