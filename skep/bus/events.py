"""What `Subscription.next` returns, in order."""

from __future__ import annotations

from msgspec import Struct

from skep.wire.proxy import Delivered


class Assigned(Struct, frozen=True):
    """A partition is ours from now on. offset: the next one delivered; end: next offset of the log now, records
    before it may have been handled before. state: what the last member acknowledged with, b"" if nothing."""

    partition: int
    offset: int
    end: int
    incarnation: str
    state: bytes = b""


class Revoked(Struct, frozen=True):
    """Partitions that are ours no longer. Records of them that were handed over are to be dropped."""

    partitions: list[int]


class Records(Struct, frozen=True):
    """Records of one partition, in order, each only once. Short-lived topics: partition 0, incarnation ""."""

    partition: int
    incarnation: str
    records: list[Delivered]


class Gap(Struct, frozen=True):
    """Records are missing: start <= offset < end, or an unknown number where both are -1."""

    partition: int
    start: int = -1
    end: int = -1
    reason: str = ""


Event = Assigned | Revoked | Records | Gap
