"""What the backend counts, for its log."""

from __future__ import annotations

from msgspec import Struct


class Counters(Struct):
    """handled: records of `requests` that were stored or answered. dropped: records for destinations that are
    gone. refused: while the store was full. late: queries past their deadline."""

    handled: int = 0
    batches: int = 0
    repeated: int = 0
    expired: int = 0
    dead_letters: int = 0
    dropped: int = 0
    refused: int = 0
    queries: int = 0
    late: int = 0
