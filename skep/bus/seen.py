"""Which records were handled: the highest seq of each publisher, and how it travels in `Ack.state`."""

from __future__ import annotations

import msgspec
from msgspec import Struct

PUBLISHERS = 64
AGE = 600_000
"""Milliseconds after which an unseen publisher is forgotten; nobody sends a record again for so long."""
STATE = 1024
"""Most bytes of a caller's own state. With the table (at most 21 bytes a publisher) it stays below 3,000."""


class Seen:
    """Highest seq of each publisher in one partition or topic. Publisher 0 is nobody: its records are all new.

    Times are those of the records (ms), so every member forgets the same."""

    __slots__ = ("seqs", "times")

    def __init__(self) -> None:
        self.seqs: dict[int, int] = {}
        self.times: dict[int, int] = {}

    def note(self, publisher: int, seq: int, time: int) -> bool:
        """Remember the record; False if it was seen before."""
        last = self.seqs.get(publisher)
        if last is None:
            if publisher == 0:
                return True
            if len(self.seqs) >= PUBLISHERS:
                self._forget(time)
        elif seq <= last:
            return False
        self.seqs[publisher] = seq
        self.times[publisher] = time
        return True

    def copy(self) -> Seen:
        other = Seen()
        other.seqs = dict(self.seqs)
        other.times = dict(self.times)
        return other

    def _forget(self, now: int) -> None:
        times = self.times
        gone = [p for p, t in times.items() if now - t > AGE] or [min(times, key=times.__getitem__)]
        for publisher in gone:
            del self.seqs[publisher], times[publisher]


class State(Struct, array_like=True):
    """`Ack.state`. owner: publisher number of the run that acknowledged; time: newest of the table (ms); table:
    publisher, seq, age (s) of each, one after the other."""

    version: int
    owner: int
    caller: bytes
    time: int
    table: list[int]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(State).decode


def pack(owner: int, caller: bytes, seen: Seen) -> bytes:
    newest = max(seen.times.values(), default=0)
    table: list[int] = []
    for publisher, seq in seen.seqs.items():
        age = newest - seen.times[publisher]
        if age <= AGE:
            table += (publisher, seq, age // 1000)
    return _encode(State(1, owner, caller, newest, table))


def unpack(data: bytes) -> tuple[int, bytes, Seen]:
    """(owner, caller's state, table); what is empty or not ours gives (0, b"", nothing)."""
    seen = Seen()
    try:
        state = _decode(data)
    except msgspec.MsgspecError:
        return 0, b"", seen
    table = state.table
    for i in range(0, len(table) - 2, 3):
        seen.seqs[table[i]] = table[i + 1]
        seen.times[table[i]] = state.time - table[i + 2] * 1000
    return state.owner, state.caller, seen
