"""Entries as Hazelcast Compact values. Never `bytes`: the client would pickle them (threat 56).

Serializing costs the client by the field, so there are those that queries need and `body`, which has it all.
"""

from __future__ import annotations

from dataclasses import dataclass

from hazelcast.serialization.api import CompactReader, CompactSerializer, CompactWriter

from backend.core.store import Entry, Held, decode_item, lapses, message, updated_at
from skep.wire.messages import NEVER, Command


@dataclass(slots=True)
class Value:
    """A notification. body: the incarnation, a line end, the encoded item with one character for each byte."""

    device_id: str
    network_id: int
    device_type_id: int
    name: str
    timestamp: int
    born: int
    body: str

    def encoded(self) -> bytes:
        return self.body.partition("\n")[2].encode("latin-1")

    def held(self) -> Held:
        return Held(decode_item(self.encoded()), self.body.partition("\n")[0], self.born)


@dataclass(slots=True)
class CommandValue(Value):
    status: str | None
    last_updated: int
    updated: bool
    lapses: int


def value(entry: Entry) -> Value:
    item, found = entry.item, message(entry.item)
    common = (
        found.device_id,
        found.network_id,
        found.device_type_id,
        found.name,
        found.timestamp,
        entry.born,
        f"{entry.incarnation}\n{entry.body.decode('latin-1')}",
    )
    if isinstance(found, Command):
        lapse = lapses(item)
        ends = NEVER if lapse is None else lapse
        return CommandValue(*common, found.status, found.last_updated, updated_at(item) is not None, ends)
    return Value(*common)


def replaces(entry: Entry, held: Held) -> bool:
    """Whether the entry was written later than what is stored. Offsets of two logs or partitions say nothing."""
    if (entry.incarnation, entry.item.partition) != (held.incarnation, held.item.partition):
        return True
    return entry.item.offset > held.item.offset


class NotificationSerializer(CompactSerializer[Value]):
    def get_type_name(self) -> str:
        return "skep.Notification"

    def get_class(self) -> type[Value]:
        return Value

    def write(self, writer: CompactWriter, value: Value) -> None:
        _write(writer, value)

    def read(self, reader: CompactReader) -> Value:
        return Value(*_read(reader))


class CommandSerializer(CompactSerializer[CommandValue]):
    def get_type_name(self) -> str:
        return "skep.Command"

    def get_class(self) -> type[CommandValue]:
        return CommandValue

    def write(self, writer: CompactWriter, value: CommandValue) -> None:
        _write(writer, value)
        writer.write_string("status", value.status)
        writer.write_int64("lastUpdated", value.last_updated)
        writer.write_boolean("updated", value.updated)
        writer.write_int64("lapses", value.lapses)

    def read(self, reader: CompactReader) -> CommandValue:
        status, last_updated = reader.read_string("status"), reader.read_int64("lastUpdated")
        return CommandValue(
            *_read(reader), status, last_updated, reader.read_boolean("updated"), reader.read_int64("lapses")
        )


def _write(writer: CompactWriter, value: Value) -> None:
    writer.write_string("deviceId", value.device_id)
    writer.write_int64("networkId", value.network_id)
    writer.write_int64("deviceTypeId", value.device_type_id)
    writer.write_string("name", value.name)
    writer.write_int64("timestamp", value.timestamp)
    writer.write_int64("born", value.born)
    writer.write_string("body", value.body)


def _read(reader: CompactReader) -> tuple[str, int, int, str, int, int, str]:
    return (
        reader.read_string("deviceId") or "",
        reader.read_int64("networkId"),
        reader.read_int64("deviceTypeId"),
        reader.read_string("name") or "",
        reader.read_int64("timestamp"),
        reader.read_int64("born"),
        reader.read_string("body") or "",
    )
