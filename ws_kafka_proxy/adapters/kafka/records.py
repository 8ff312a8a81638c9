"""Bus records as Kafka records, and back.

What the bus adds to a record (publisher, seq, source) travels in one header, so that key and value stay what the
publisher gave: a foreign Kafka reader sees plain payloads, and a tombstone is a Kafka tombstone.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from aiokafka.record.memory_records import MemoryRecords

from skep.wire.proxy import Delivered, Record, Source

HEADER = "skep"
_NUMBERS = Struct(">QQ")
_SOURCE = Struct(">iq")
OVERHEAD = 80
"""About what a record takes besides key and payload, bytes."""

Headers = list[tuple[str, bytes]]


def headers(publisher: int, record: Record) -> Headers:
    value = _NUMBERS.pack(publisher, record.seq)
    source = record.source
    if source is not None:
        value += _SOURCE.pack(source.partition, source.offset) + source.incarnation.encode()
    return [(HEADER, value)]


def parse(data: bytes, start: int) -> tuple[list[Delivered], int]:
    """The records of a fetch response from offset `start` on, and the offset to fetch next."""
    delivered: list[Delivered] = []
    position = start
    batches = MemoryRecords(data)
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.is_control_batch:
            delivered.extend(_delivered(r) for r in batch if r.offset >= start)
        position = max(position, batch.next_offset)
    return delivered, position


def _delivered(record: Any) -> Delivered:
    publisher, seq, source = _numbers(record)
    return Delivered(record.offset, record.timestamp, publisher, seq, record.key, record.value, source)


def _numbers(record: Any) -> tuple[int, int, Source | None]:
    for name, value in record.headers:
        if name == HEADER and len(value) >= _NUMBERS.size:
            publisher, seq = _NUMBERS.unpack_from(value)
            if len(value) == _NUMBERS.size:
                return publisher, seq, None
            partition, offset = _SOURCE.unpack_from(value, _NUMBERS.size)
            return publisher, seq, Source(value[_NUMBERS.size + _SOURCE.size :].decode(), partition, offset)
    # Written past the bus, by another program: numbered by its offset, it is nobody's repetition.
    return 0, record.offset + 1, None
