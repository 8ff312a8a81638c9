"""Entries as rows of PostgreSQL's binary COPY format (PostgreSQL manual, COPY, "Binary Format")."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from backend.core.store import Entry, lapses, updated_at
from skep.wire.messages import NOTIFICATION, Command

COLUMNS = (
    "kind, id, network_id, device_type_id, ts, part, off, born, expires, device_id, incarnation, name, body, "
    "status, updated_at, lapses"
)
"""The order of `rows`. The rest of a row has defaults."""

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_FIXED = struct.Struct("!h ih iq iq iq iq ii iq iq iq").pack
_LENGTH = struct.Struct("!i").pack
_BIG = struct.Struct("!iq").pack
_NULL = b"\xff\xff\xff\xff"


def rows(entries: Iterable[Entry], expires: int) -> bytes:
    """The whole COPY stream. Raises struct.error or UnicodeError for what no column can hold."""
    parts = [_HEADER]
    add = parts.append
    for entry in entries:
        item = entry.item
        message = item.notification if item.kind == NOTIFICATION else item.command
        assert message is not None
        add(
            _FIXED(
                16, 2, entry.kind, 8, message.id, 8, message.network_id, 8, message.device_type_id,
                8, message.timestamp, 4, item.partition, 8, item.offset, 8, entry.born, 8, expires,
            )
        )  # fmt: skip
        for text in (message.device_id, entry.incarnation, message.name):
            data = text.encode()
            add(_LENGTH(len(data)))
            add(data)
        add(_LENGTH(len(entry.body)))
        add(entry.body)
        _add_status(parts, item.command if item.kind != NOTIFICATION else None)
        for time in (updated_at(item), lapses(item)):
            add(_NULL if time is None else _BIG(8, time))
    add(_TRAILER)
    return b"".join(parts)


def _add_status(parts: list[bytes], command: Command | None) -> None:
    if command is None or command.status is None:
        parts.append(_NULL)
    else:
        status = command.status.encode()
        parts.append(_LENGTH(len(status)))
        parts.append(status)
