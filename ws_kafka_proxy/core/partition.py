"""Where a record goes: the same on every engine, so that a topic can be moved without breaking order per key."""

from __future__ import annotations

from zlib import crc32

from skep.wire import topics
from skep.wire.proxy import MAX_BODY, Code, Failure, Record


def of_key(key: bytes, count: int) -> int:
    return crc32(key) % count


def place(record: Record, count: int, turn: int) -> int | Failure:
    """The partition of a record for a topic with `count` partitions, or why the record can't be taken.

    `turn` is any number; it decides for records without key and partition, all of one batch alike.
    """
    durable = topics.DURABLE.get(record.topic)
    compacted = durable is not None and durable.compacted
    if compacted and record.key is None:
        return Failure(Code.BAD, "a record of a compacted topic needs a key")
    if record.payload is None and not compacted:
        return Failure(Code.BAD, "a record without payload needs a compacted topic")
    if record.payload is not None and len(record.payload) > MAX_BODY:
        return Failure(Code.TOO_LARGE, f"a payload has at most {MAX_BODY} bytes")
    if record.partition is not None:
        if 0 <= record.partition < count:
            return record.partition
        return Failure(Code.BAD, f"{record.topic} has no partition {record.partition}")
    if record.key is not None:
        return of_key(record.key, count)
    return turn % count
