"""Calls to the backends: inserts and updates through `requests`, reads through `queries`.

Each gives a future at once, so that the order of calls is the order on the bus. They raise `Failed` with the API's
status and text, and Unavailable when there is no answer in time.
"""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from frontend.core.replay import id_of
from skep import errors
from skep.access import Principal
from skep.metadata.rows import Device
from skep.wire import topics
from skep.wire.messages import (
    COMMAND,
    NOTIFICATION,
    UPDATE,
    Command,
    Found,
    Get,
    InsertCommand,
    InsertNotification,
    Item,
    List,
    Notification,
    Stored,
    UpdateCommand,
)

DEADLINE = 5.0
AGAIN = 1.0
"""Seconds after which a read is asked a second time."""
WHOLE = 16 << 20
"""Bytes after which a list is cut: no process is to hold more for one answer."""
MAX_KEY = 256
"""Longest idempotency key, characters."""

_stored: msgspec.msgpack.Decoder[Stored] = msgspec.msgpack.Decoder(Stored)
_found: msgspec.msgpack.Decoder[Found] = msgspec.msgpack.Decoder(Found)
decode_stored = _stored.decode

Acknowledged = Callable[[int, Device], None]


class Bus(Protocol):
    """`skep.bus.Bus`, as it is used here."""

    def call(
        self, topic: str, body: Any, key: bytes | None = None, *, timeout: float, again: float | None = None
    ) -> asyncio.Future[bytes]: ...


class NewNotification(msgspec.Struct):
    name: str
    parameters: bytes | None = None
    timestamp: int = 0
    """ms; 0: the backend's."""


class NewCommand(msgspec.Struct):
    name: str
    parameters: bytes | None = None
    timestamp: int = 0
    lifetime: int | None = None
    status: str | None = None
    result: bytes | None = None


class CommandChanges(msgspec.Struct):
    """None with `set_…` clears the field."""

    set_status: bool = False
    status: str | None = None
    set_result: bool = False
    result: bytes | None = None


class Messages:
    """acknowledged(kind, device): called when the answer to a write is there, before the writer gets it."""

    def __init__(
        self, bus: Bus, acknowledged: Acknowledged = lambda kind, device: None, deadline: float = DEADLINE
    ) -> None:
        self._bus = bus
        self._acknowledged = acknowledged
        self.reads = 0
        self._deadline = deadline

    def insert_notification(
        self, caller: Principal, device: Device, new: NewNotification, idempotency_key: str | None = None
    ) -> asyncio.Future[bytes]:
        """MessagePack of `Stored`."""
        id, repeatable = _id(NOTIFICATION, caller, device.id, idempotency_key)
        place = device.id, device.network_id, device.device_type_id
        notification = Notification(id, new.name, *place, new.timestamp, new.parameters)
        return self._request(NOTIFICATION, device, InsertNotification(notification, repeatable))

    def insert_command(
        self, caller: Principal, device: Device, new: NewCommand, idempotency_key: str | None = None
    ) -> asyncio.Future[bytes]:
        """MessagePack of `Stored`."""
        id, repeatable = _id(COMMAND, caller, device.id, idempotency_key)
        command = Command(
            id=id,
            name=new.name,
            device_id=device.id,
            network_id=device.network_id,
            device_type_id=device.device_type_id,
            timestamp=new.timestamp,
            last_updated=new.timestamp,
            user_id=caller.user_id,
            parameters=new.parameters,
            lifetime=new.lifetime,
            status=new.status,
            result=new.result,
        )
        return self._request(COMMAND, device, InsertCommand(command, repeatable))

    def update_command(self, device: Device, command_id: int, changes: CommandChanges) -> asyncio.Future[bytes]:
        """An empty body. Fails with 404 for a command that is not there."""
        c = changes
        update = UpdateCommand(device.id, command_id, c.set_status, c.status, c.set_result, c.result)
        return self._request(UPDATE, device, update)

    async def get(self, kind: int, device_id: str, id: int) -> Item | None:
        found = await self._query(Get(kind, device_id, id))
        return found.items[0] if found.items else None

    async def list(self, query: List) -> Found:
        return await self._query(query)

    async def whole(self, query: List) -> builtins.list[Item]:
        """The list in as many answers as it takes, up to about `WHOLE` bytes. What comes between two of them may
        show an item in both: it is given once."""
        items: dict[tuple[str, int], Item] = {}
        skip, size, found = query.skip, 0, Found([], True)
        while found.more and size < WHOLE:
            take = None if query.take is None else query.take + query.skip - skip
            found = await self.list(msgspec.structs.replace(query, skip=skip, take=take))
            items |= {id_of(item): item for item in found.items}
            skip += len(found.items)
            size += sum(map(_size, found.items))
            if not found.items or (query.take is not None and skip >= query.skip + query.take):
                break
        return builtins.list(items.values())

    def _request(self, kind: int, device: Device, body: Any) -> asyncio.Future[bytes]:
        answer = self._bus.call(topics.REQUESTS, body, device.id.encode(), timeout=self._deadline)
        answer.add_done_callback(lambda _: self._acknowledged(kind, device))
        return answer

    async def _query(self, query: Get | List) -> Found:
        self.reads += 1
        answer: Awaitable[bytes] = self._bus.call(topics.QUERIES, query, timeout=self._deadline, again=AGAIN)
        return _found.decode(await answer)


def _size(item: Item) -> int:
    message = item.notification or item.command
    result = item.command.result if item.command is not None else None
    return len((message.parameters if message is not None else None) or b"") + len(result or b"")


def _id(kind: int, caller: Principal, device_id: str, key: str | None) -> tuple[int, bool]:
    """(id of 53 bits, whether the same id may come again)."""
    if key is None:
        return secrets.randbits(53) or 1, False
    if not 0 < len(key) <= MAX_KEY:
        raise errors.BadRequest
    digest = hashlib.sha256(f"{kind}\0{caller.user_id}\0{device_id}\0{key}".encode(errors="replace")).digest()
    return int.from_bytes(digest[:8], "big") >> 11 or 1, True
