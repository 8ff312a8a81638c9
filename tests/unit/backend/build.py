"""Records of `requests` for the backend's unit tests."""

import itertools
from typing import Any

from msgspec import Raw

from skep.wire import messages
from skep.wire.messages import Call, Command, InsertCommand, InsertNotification, Interest, Notification, UpdateCommand
from skep.wire.proxy import Delivered

NOW = 1_800_000_000_000
ASKER = "replies.frontend-1.a"
LATER = NOW + 5_000

_ids = itertools.count(1)


def record(request: Any, offset: int, time: int = NOW, deadline: int = LATER, reply_to: str = ASKER) -> Delivered:
    call = Call(offset.to_bytes(16, "big"), reply_to, deadline, Raw(messages.encode(request)))
    return Delivered(offset, time, 1, offset, b"d", messages.encode(call))


def notification(id: int | None = None, device: str = "d", name: str = "n", timestamp: int = 0) -> Notification:
    return Notification(next(_ids) if id is None else id, name, device, 1, 2, timestamp, b"{}")


def command(id: int | None = None, device: str = "d", name: str = "c", timestamp: int = 0) -> Command:
    return Command(next(_ids) if id is None else id, name, device, 1, 2, timestamp, 0, 7, b"{}")


def insert(made: Notification | Command, repeatable: bool = False) -> InsertNotification | InsertCommand:
    if isinstance(made, Notification):
        return InsertNotification(made, repeatable)
    return InsertCommand(made, repeatable)


def update(made: Command, status: str = "done") -> UpdateCommand:
    return UpdateCommand(made.device_id, made.id, True, status)


def interest(destination: str = "events.a", kind: int = messages.NOTIFICATION, owner: str = "", **fields: Any) -> bytes:
    return messages.encode(Interest(destination, owner, kind, **fields))
