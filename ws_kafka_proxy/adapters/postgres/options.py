"""What can be set about the PostgreSQL log."""

from __future__ import annotations

from msgspec import Struct


class Options(Struct, frozen=True):
    """Times in seconds.

    partitions: of topics whose catalogue entry says 0. session_timeout: how long a vanished member keeps its
    partitions. deadline: for an answer of PostgreSQL. limit: bytes on disk past which appends are refused, 0 for none.
    leaf: width of one table of records. upkeep: between rounds of retention, compaction and measuring. tombstones:
    how long they stay. queue_records, queue_bytes: appends that may wait. back_off: longest pause between tries to
    connect.
    """

    partitions: int = 8
    session_timeout: float = 2.0
    deadline: float = 10.0
    limit: int = 20 << 30
    leaf: float = 3600.0
    upkeep: float = 10.0
    tombstones: float = 3600.0
    queue_records: int = 200_000
    queue_bytes: int = 128 << 20
    back_off: float = 1.0
