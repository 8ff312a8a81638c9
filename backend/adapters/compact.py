"""Entries as Hazelcast Compact values. Never `bytes`: the client would pickle them (threat 56)."""

from __future__ import annotations

from dataclasses import dataclass

from hazelcast.serialization.api import CompactReader, CompactSerializer, CompactWriter

from backend.core.store import Entry, Held, decode_item, message, updated_at
from skep.wire.messages import Command


@dataclass(slots=True)
class Value:
    """body: the encoded item, one character for each byte."""

    device_id: str
    network_id: int
    device_type_id: int
    name: str
    status: str | None
    timestamp: int
    last_updated: int
    updated: bool
    incarnation: str
    partition: int
    offset: int
    born: int
    body: str

    def encoded(self) -> bytes:
        return self.body.encode("latin-1")

    def held(self) -> Held:
        return Held(decode_item(self.encoded()), self.incarnation, self.born)

    def replaces(self, other: Value) -> bool:
        """Whether this was written later than the other. Offsets of two logs or partitions say nothing."""
        if (self.incarnation, self.partition) != (other.incarnation, other.partition):
            return True
        return self.offset > other.offset


def value(entry: Entry) -> Value:
    item, found = entry.item, message(entry.item)
    command = found if isinstance(found, Command) else None
    return Value(
        device_id=found.device_id,
        network_id=found.network_id,
        device_type_id=found.device_type_id,
        name=found.name,
        status=command.status if command is not None else None,
        timestamp=found.timestamp,
        last_updated=command.last_updated if command is not None else found.timestamp,
        updated=updated_at(item) is not None,
        incarnation=entry.incarnation,
        partition=item.partition,
        offset=item.offset,
        born=entry.born,
        body=entry.body.decode("latin-1"),
    )


class Serializer(CompactSerializer[Value]):
    def get_type_name(self) -> str:
        return "skep.Entry"

    def get_class(self) -> type[Value]:
        return Value

    def write(self, writer: CompactWriter, value: Value) -> None:
        writer.write_string("deviceId", value.device_id)
        writer.write_int64("networkId", value.network_id)
        writer.write_int64("deviceTypeId", value.device_type_id)
        writer.write_string("name", value.name)
        writer.write_string("status", value.status)
        writer.write_int64("timestamp", value.timestamp)
        writer.write_int64("lastUpdated", value.last_updated)
        writer.write_boolean("updated", value.updated)
        writer.write_string("incarnation", value.incarnation)
        writer.write_int32("partition", value.partition)
        writer.write_int64("offset", value.offset)
        writer.write_int64("born", value.born)
        writer.write_string("body", value.body)

    def read(self, reader: CompactReader) -> Value:
        return Value(
            reader.read_string("deviceId") or "",
            reader.read_int64("networkId"),
            reader.read_int64("deviceTypeId"),
            reader.read_string("name") or "",
            reader.read_string("status"),
            reader.read_int64("timestamp"),
            reader.read_int64("lastUpdated"),
            reader.read_boolean("updated"),
            reader.read_string("incarnation") or "",
            reader.read_int32("partition"),
            reader.read_int64("offset"),
            reader.read_int64("born"),
            reader.read_string("body") or "",
        )
