"""One subscription of the JSON dialect: what becomes of records that were read, until the client has confirmed them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from skep.wire.proxy import Gap, Revoked
from ws_kafka_proxy.core import json_frames as frames
from ws_kafka_proxy.core.engine import Chunk, Reader, ReaderEvent
from ws_kafka_proxy.core.json_frames import NOTIF, Frame

MAX_PARTITIONS = 64
"""Of a plugin's stream; see `core.session`."""


class Batch(NamedTuple):
    """frames: to send. places: partition -> next offset, committed when the frames are handed over. missed: records
    that retention removed. broken: partitions were taken away with pushes that are not confirmed."""

    frames: list[Frame]
    places: dict[int, int]
    missed: int
    broken: bool


class Subscription:
    """group: None for broadcast, of which nothing is committed. acknowledges: the client sends `ack`. `eased` is called
    when it did.

    A push names its partition as a number that is another one after each move to a fresh stream, so that what comes
    late for the old stream confirms nothing of the new one.
    """

    def __init__(self, topic: str, group: str | None, acknowledges: bool) -> None:
        self.topic = topic
        self.group = group
        self.acknowledges = acknowledges
        self.reader: Reader | None = None
        self.eased: Callable[[], None] = lambda: None
        self.unacknowledged = 0
        self.since: int | None = None
        """When the client was heard of last while pushes wait for its `ack`; ms."""
        self._sent: dict[int, deque[tuple[int, int]]] = {}
        """Partition -> (offset told, next offset to commit with it), in order."""
        self._moves = 0

    def moved(self) -> None:
        """Another stream follows: what was pushed and not confirmed is gone."""
        self.reader = None
        self._moves += 1
        self._sent.clear()
        self._recount(None)

    def push(self, events: list[ReaderEvent], now: int) -> Batch:
        """What the reader gave, in order."""
        pushes: list[Frame] = []
        places: dict[int, int] = {}
        missed = 0
        broken = False
        taken = {p: at for at, event in enumerate(events) if isinstance(event, Revoked) for p in event.partitions}
        for at, event in enumerate(events):
            if isinstance(event, Chunk):
                if at > taken.get(event.partition, -1):
                    self._push(event, pushes, places)
            elif isinstance(event, Revoked):
                open_ = [self._sent.pop(partition, None) for partition in event.partitions]
                broken |= any(open_)
            elif isinstance(event, Gap):
                missed += max(0, event.end - event.start)
                if self.acknowledges:
                    # Only to clients of ours: those of DeviceHive end on a push that is no message.
                    gap = {"part": self._told(event.partition), "gap": [event.start, event.end]}
                    pushes.append(Frame(t=NOTIF, s=1, p=gap, st=self.topic))
        self._recount(now if self.since is None else self.since)
        return Batch(pushes, places if self.group is not None else {}, missed, broken)

    def _push(self, chunk: Chunk, pushes: list[Frame], places: dict[int, int]) -> None:
        waits = self.acknowledges and self.group is not None
        for record in chunk.records:
            following = record.offset + 1
            if record.payload is None:
                self._skip(chunk.partition, following, places)
                continue
            place = (self._told(chunk.partition), record.offset) if self.acknowledges else None
            if waits:
                self._sent.setdefault(chunk.partition, deque()).append((record.offset, following))
            else:
                places[chunk.partition] = following
            pushes.append(frames.push(self.topic, record.payload.decode("utf-8", "replace"), place))

    def _skip(self, partition: int, following: int, places: dict[int, int]) -> None:
        """A record nobody is told of: passed with what is before it."""
        sent = self._sent.get(partition)
        if sent:
            sent[-1] = (sent[-1][0], following)
        else:
            places[partition] = following

    def acknowledged(self, told: int, offset: int, now: int) -> tuple[int, int] | None:
        """(partition, next offset) to commit; None where that brings nothing new."""
        partition = told - self._moves * MAX_PARTITIONS
        sent = self._sent.get(partition, deque())
        passed = None
        while sent and sent[0][0] <= offset:
            passed = sent.popleft()[1]
        self._recount(now)
        self.eased()
        return None if passed is None else (partition, passed)

    def _told(self, partition: int) -> int:
        return partition + self._moves * MAX_PARTITIONS

    def _recount(self, since: int | None) -> None:
        self.unacknowledged = sum(map(len, self._sent.values()))
        self.since = since if self.unacknowledged else None
