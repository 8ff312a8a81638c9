"""Tables of the PostgreSQL log, and a record's row as binary COPY wants it.

`records` is range-partitioned by `expiry` (append time + the topic's retention, ms), so dropping the tables that
expired removes exactly what is old, for topics of any retention. Compacted topics never expire: `records_kept`.
"""

from __future__ import annotations

import struct

import msgspec

from skep.wire.proxy import Record, Source

LOCK = 0x5CE9_B005
"""Advisory lock of the one writer."""
NEVER = 1 << 62
"""`expiry` of records of compacted topics."""

DDL = f"""
CREATE SCHEMA IF NOT EXISTS skep_bus;
CREATE TABLE IF NOT EXISTS skep_bus.writer (
    id int PRIMARY KEY CHECK (id = 1), epoch bigint NOT NULL, boot text NOT NULL);
CREATE TABLE IF NOT EXISTS skep_bus.topics (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE,
    incarnation uuid NOT NULL DEFAULT gen_random_uuid(),
    partitions int NOT NULL, retention bigint NOT NULL, compacted boolean NOT NULL);
CREATE TABLE IF NOT EXISTS skep_bus.floors (
    topic int REFERENCES skep_bus.topics ON DELETE CASCADE, part int, first bigint NOT NULL,
    PRIMARY KEY (topic, part));
CREATE TABLE IF NOT EXISTS skep_bus.positions (
    topic int REFERENCES skep_bus.topics ON DELETE CASCADE, name text, part int,
    off bigint NOT NULL, state bytea NOT NULL, member text NOT NULL,
    PRIMARY KEY (topic, name, part));
CREATE TABLE IF NOT EXISTS skep_bus.records (
    topic int NOT NULL, part int NOT NULL, off bigint NOT NULL, expiry bigint NOT NULL, time bigint NOT NULL,
    publisher bigint NOT NULL, seq bigint NOT NULL, key bytea, payload bytea, source bytea)
    PARTITION BY RANGE (expiry);
ALTER TABLE skep_bus.records ALTER payload SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS skep_bus.records_kept PARTITION OF skep_bus.records FOR VALUES FROM ({NEVER}) TO (MAXVALUE);
CREATE UNIQUE INDEX IF NOT EXISTS records_kept_off ON skep_bus.records_kept (topic, part, off);
CREATE INDEX IF NOT EXISTS records_kept_key ON skep_bus.records_kept (topic, part, key, off);
"""

COPY = b"COPY skep_bus.records FROM STDIN (FORMAT BINARY)"
COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TAIL = b"\xff\xff"

_FIXED = struct.Struct(">h i i i i i q i q i q i q i q")
_LENGTH = struct.Struct(">i").pack
_NULL = _LENGTH(-1)
_encode_source = msgspec.msgpack.Encoder().encode
decode_source = msgspec.msgpack.Decoder(Source).decode


def row(topic: int, part: int, off: int, expiry: int, time: int, publisher: int, record: Record) -> bytes:
    """One record's row: a count of fields, then each with its length."""
    key, payload, source = record.key, record.payload, record.source
    fixed = _FIXED.pack(
        10, 4, topic, 4, part, 8, off, 8, expiry, 8, time, 8, publisher, 8, record.seq
    )  # fmt: skip
    return b"".join(
        (
            fixed,
            _NULL if key is None else _LENGTH(len(key)) + key,
            _NULL if payload is None else _LENGTH(len(payload)) + payload,
            _NULL if source is None else _bytes(_encode_source(source)),
        )
    )


def _bytes(value: bytes) -> bytes:
    return _LENGTH(len(value)) + value


def leaf_name(low: int, high: int) -> str:
    return f"records_{low}_{high}"


def leaf_bounds(name: str) -> tuple[int, int] | None:
    """Reads `leaf_name`; None for another table."""
    parts = name.split("_")
    if len(parts) != 3 or not parts[1].isdecimal() or not parts[2].isdecimal():
        return None
    return int(parts[1]), int(parts[2])


def new_leaf(expiry: int, interval: int, leaves: list[tuple[int, int]]) -> tuple[int, int]:
    """Bounds of a table for `expiry`, beside those that exist (perhaps of another interval)."""
    low = expiry - expiry % interval
    high = low + interval
    for other_low, other_high in leaves:
        if other_high <= expiry:
            low = max(low, other_high)
        elif other_low > expiry:
            high = min(high, other_low)
    return low, high


def leaf_ddl(low: int, high: int) -> str:
    name = leaf_name(low, high)
    return (
        f"CREATE TABLE IF NOT EXISTS skep_bus.{name} PARTITION OF skep_bus.records FOR VALUES FROM ({low}) TO ({high});"
        f"CREATE UNIQUE INDEX IF NOT EXISTS {name}_off ON skep_bus.{name} (topic, part, off)"
    )
