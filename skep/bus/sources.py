"""Repeated sources: a backend that takes a partition over publishes again what was made of its last records."""

from __future__ import annotations

import msgspec

from skep.wire.proxy import Source

MAX_KNOWN = 32
"""Source partitions remembered; of more the one heard of least recently goes."""

Marks = dict[tuple[str, int], int]


class Sources:
    """Of one partition of a derived topic. Sources of one partition rise, so what is not above the highest is a
    repetition."""

    def __init__(self, state: bytes = b"") -> None:
        self._seen: Marks = _load(state)
        self._settled: Marks = dict(self._seen)
        self._open: list[tuple[int, Source]] = []

    def fresh(self, offset: int, source: Source | None) -> bool:
        """Whether the record at `offset` is new; it counts as seen from now on."""
        if source is None:
            return True
        if source.offset <= self._seen.get((source.incarnation, source.partition), -1):
            return False
        _note(self._seen, source)
        self._open.append((offset, source))
        return True

    def state(self, offset: int) -> bytes:
        """What the next owner must know who begins at `offset`."""
        while self._open and self._open[0][0] < offset:
            _note(self._settled, self._open.pop(0)[1])
        return msgspec.msgpack.encode([(*key, place) for key, place in self._settled.items()])


def _note(marks: Marks, source: Source) -> None:
    key = (source.incarnation, source.partition)
    marks.pop(key, None)
    marks[key] = source.offset
    if len(marks) > MAX_KNOWN:
        del marks[next(iter(marks))]


def _load(state: bytes) -> Marks:
    if not state:
        return {}
    try:
        rows = msgspec.msgpack.decode(state, type=list[tuple[str, int, int]])
    except msgspec.DecodeError:
        return {}
    return {(incarnation, partition): offset for incarnation, partition, offset in rows}
