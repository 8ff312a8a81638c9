"""The port to a message store. Adapters: `adapters/postgres.py`, `adapters/hazelcast.py`.

Messages are kept under (kind, device id, id), where kind is NOTIFICATION or COMMAND, for the time to live counted
from the last write. What is read is at most that old and the newest written.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec import Struct

from skep.errors import Unavailable
from skep.wire import proxy
from skep.wire.messages import COMMAND, NEVER, NOTIFICATION, UPDATE, Command, Item, List, Notification

Key = tuple[str, int]
"""(device id, message id)."""


LARGEST = proxy.MAX_BODY - 8192
"""Most bytes of an encoded item: in an event or an answer, with what belongs around it, it still fits one record."""


class Away(Unavailable):
    """Service is not available, try again"""

    # The engine did not answer: it may have written or not. Safe to do again.


class Full(Unavailable):
    """Message store is full, try again"""

    # At the size limit: nothing of the batch was written.


class Rejected(Exception):
    """The engine can't hold one of these entries, however often it is asked. Nothing was written."""


class Entry(Struct):
    """A message to write.

    item: with the record of `requests` that writes it; incarnation: of that log. born: offset of the record that
    wrote the message first, the order of arrival. body: the encoded item, kind NOTIFICATION or COMMAND. maybe: it
    may have been written before.
    """

    item: Item
    incarnation: str
    born: int
    body: bytes
    maybe: bool = False

    @property
    def kind(self) -> int:
        return NOTIFICATION if self.item.kind == NOTIFICATION else COMMAND

    @property
    def message(self) -> Notification | Command:
        return message(self.item)


class Held(Struct):
    """A message as stored; fields as in `Entry`."""

    item: Item
    incarnation: str
    born: int


class Page(Struct):
    """Encoded items in the order asked for, their kind the query's; more: cut at the limit of bytes; loose: the engine
    shows a batch while it is being written, in any order."""

    items: list[bytes]
    more: bool = False
    loose: bool = False


class Store(Protocol):
    """Every call ends within the adapter's deadline. Cancelling a call may leave it done or not."""

    async def start(self) -> None:
        """Connect and prepare. Raises Away."""

    async def stop(self) -> None: ...

    async def put(self, entries: list[Entry]) -> None:
        """Write the batch in one call; of one key at most once in a batch. Raises Away, Full, Rejected.

        An entry replaces what is stored unless that was written by the same or a later record of the same
        partition and incarnation. Adapters that can check this only by reading first do so where `maybe` is set.
        """

    async def get(self, kind: int, keys: list[Key]) -> dict[Key, Held]:
        """Those that are stored. Raises Away."""

    async def list(self, query: List, limit: int) -> Page:
        """Answer the query with at most `limit` bytes of bodies, but one item where there is one. Raises Away.

        Bodies are as they were written; `status` of the query, and sorting by it, go by `Command.status_at`."""

    async def healthy(self) -> bool:
        """Whether the engine answers, within a second."""


def message(item: Item) -> Notification | Command:
    """The message inside. Raises ValueError for an item without one."""
    found = item.notification if item.kind == NOTIFICATION else item.command
    if found is None:
        raise ValueError("an item without its message")
    return found


def lapses(item: Item) -> int | None:
    """When a command that nobody has updated is to be shown as expired, ms; None: never."""
    command = item.command
    return None if command is None or command.is_updated or command.lapses() == NEVER else command.lapses()


def updated_at(item: Item) -> int | None:
    """`last_updated` of a command that was updated, else None."""
    command = item.command
    return command.last_updated if command is not None and command.is_updated else None


_encode = msgspec.msgpack.Encoder().encode
decode_item = msgspec.msgpack.Decoder(Item).decode


def encode_item(item: Item) -> bytes:
    return _encode(item)


_WIDTH = {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}


def retagged(body: bytes, kind: int) -> bytes:
    """The encoded item with another kind, without decoding it: kind is the third field, a byte."""
    at = 1
    for _ in range(2):
        at += _WIDTH.get(body[at], 1)
    return body if body[at] == kind else body[:at] + bytes((kind,)) + body[at + 1 :]


def as_of(body: bytes, kind: int, now: int) -> bytes:
    """An encoded item as it is shown at `now` (ms): a command may have expired since it was stored."""
    if kind != COMMAND:
        return body
    item = decode_item(body)
    command = item.command
    if command is None or command.status_at(now) == command.status:
        return body
    shown = msgspec.structs.replace(command, status=command.status_at(now))
    return encode_item(msgspec.structs.replace(item, command=shown))


def table(kind: int) -> int:
    """The kind under which messages of this kind are stored: updated commands are commands."""
    return COMMAND if kind == UPDATE else kind
