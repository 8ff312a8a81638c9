"""Publishing: what is unconfirmed is kept and sent again, in order, with the same seq. No socket in here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Protocol

from skep.bus.counters import Counters
from skep.bus.deadlines import Deadlines
from skep.bus.errors import Refused, TimedOut
from skep.bus.options import Options
from skep.wire import proxy, topics

Position = tuple[int, int]
_OVERHEAD = 64
"""Bytes on the wire of a record's envelope, rounded up; topic, key and payload come on top."""


class Pipe(Protocol):
    """A connection to a proxy, as the publisher sees it."""

    @property
    def welcome(self) -> proxy.Welcome: ...

    def send(self, frame: proxy.ClientFrame) -> None: ...


class Entry:
    """An unconfirmed record. `future` hears the confirmation (`confirms`) or only of a failure (calls, whose
    result is the reply). A record whose future is done, or that has none, is not sent again."""

    __slots__ = ("confirms", "future", "record", "sent", "size")

    def __init__(self, record: proxy.Record, size: int, future: asyncio.Future[Any] | None, confirms: bool) -> None:
        self.record = record
        self.size = size
        self.future = future
        self.confirms = confirms
        self.sent = False

    @property
    def wanted(self) -> bool:
        return self.future is not None and not self.future.done()

    def fail(self, error: Exception) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_exception(error)


class Publisher:
    """`before_flush` is called first in every flush, for those who collect records up to the end of a loop turn."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: Options,
        counters: Counters,
        before_flush: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._options = options
        self._counters = counters
        self._before_flush = before_flush
        self._pipe: Pipe | None = None
        self._seq = 0
        self._frame_id = 0
        self._scheduled = False
        self._fresh: list[Entry] = []
        self._pending: dict[int, Entry] = {}
        self._frames: dict[int, list[Entry]] = {}
        self._backlog: deque[tuple[Entry, float]] = deque()
        self._deadlines: Deadlines[int] = Deadlines(loop, self._expire)
        self.bytes = 0

    @property
    def unconfirmed(self) -> int:
        return len(self._pending)

    # -- taking records ------------------------------------------------------------------------------------------

    def entry(
        self,
        topic: str,
        payload: bytes | None,
        key: bytes | None,
        partition: int | None,
        source: proxy.Source | None,
        future: asyncio.Future[Any] | None,
        confirms: bool = True,
    ) -> Entry:
        """Raises Refused(TOO_LARGE)."""
        body = len(payload) if payload else 0
        if body > proxy.MAX_BODY:
            raise Refused(proxy.Code.TOO_LARGE, f"{body} bytes for {topic}, at most {proxy.MAX_BODY}")
        size = _OVERHEAD + len(topic) + body + (len(key) if key else 0)
        return Entry(proxy.Record(topic, key, payload, 0, partition, source), size, future, confirms)

    def accept(self, entry: Entry, deadline: float) -> None:
        """Take the record for this loop turn's frames. Raises Refused(FULL) past the bound."""
        if self._backlog or not self._fits(entry):
            raise Refused(proxy.Code.FULL, f"{len(self._pending)} records, {self.bytes} bytes are unconfirmed")
        self._admit(entry, deadline)

    def queue(self, entry: Entry, deadline: float) -> None:
        """Take the record now or, past the bound, when there is room; in order of calls. deadline: `inf` for none."""
        if self._backlog or not self._fits(entry):
            self._backlog.append((entry, deadline))
            if deadline < inf:
                self._loop.call_at(deadline, entry.fail, TimedOut(f"no room for {entry.record.topic}"))
        else:
            self._admit(entry, deadline)

    def schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def _fits(self, entry: Entry) -> bool:
        options = self._options
        return len(self._pending) < options.unconfirmed_records and (
            self.bytes + entry.size <= options.unconfirmed_bytes or not self._pending
        )

    def _admit(self, entry: Entry, deadline: float) -> None:
        self._seq += 1
        entry.record.seq = self._seq
        self._pending[self._seq] = entry
        self.bytes += entry.size
        self._counters.published += 1
        if deadline < inf:
            self._deadlines.add(deadline, self._seq)
        self._fresh.append(entry)
        self.schedule()

    def _remove(self, entry: Entry) -> None:
        if self._pending.pop(entry.record.seq, None) is not None:
            self.bytes -= entry.size

    def _refill(self) -> None:
        while self._backlog:
            entry, deadline = self._backlog[0]
            if not entry.wanted:
                self._backlog.popleft()
            elif self._fits(entry):
                self._backlog.popleft()
                self._admit(entry, deadline)
            else:
                return

    # -- sending -------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send this loop turn's records; without a connection they wait among the unconfirmed."""
        self._scheduled = False
        self._before_flush()
        fresh, self._fresh = self._fresh, []
        if self._pipe is not None and fresh:
            self._transmit(self._pipe, fresh)

    def attach(self, pipe: Pipe) -> None:
        """A connection is there: send all that is unconfirmed and still wanted, in order."""
        self._pipe = pipe
        self._frames.clear()
        self._fresh.clear()
        self._purge()
        self._counters.resent += sum(e.sent for e in self._pending.values())
        self._transmit(pipe, self._pending.values())
        self._refill()

    def detach(self) -> None:
        self._pipe = None
        self._frames.clear()
        self._purge()
        self._refill()

    def _purge(self) -> None:
        for entry in [e for e in self._pending.values() if not e.wanted]:
            self._remove(entry)

    def _transmit(self, pipe: Pipe, entries: Iterable[Entry]) -> None:
        """Durable topics share a frame, each short-lived topic has its own: a slow one holds up only itself. So have
        derived records: those of one topic are taken or refused as a whole, and keep their order."""
        lanes: dict[str, list[Entry]] = {}
        for entry in entries:
            topic = entry.record.topic
            lane = topic if entry.record.source is not None or topics.is_short_lived(topic) else ""
            if lane in lanes:
                lanes[lane].append(entry)
            else:
                lanes[lane] = [entry]
        for batch in lanes.values():
            self._send(pipe, batch)

    def _send(self, pipe: Pipe, entries: list[Entry]) -> None:
        welcome = pipe.welcome
        most, room = min(welcome.max_batch, proxy.MAX_BATCH), min(welcome.max_frame, proxy.MAX_FRAME) - 1024
        start = size = 0
        for i, entry in enumerate(entries):
            entry.sent = True
            if i > start and (size + entry.size > room or i - start >= most):
                self._send_frame(pipe, entries[start:i])
                start, size = i, 0
            size += entry.size
        self._send_frame(pipe, entries[start:])

    def _send_frame(self, pipe: Pipe, entries: list[Entry]) -> None:
        self._frame_id += 1
        self._frames[self._frame_id] = entries
        pipe.send(proxy.Publish(self._frame_id, [entry.record for entry in entries]))

    # -- ends ----------------------------------------------------------------------------------------------------

    def published(self, frame: proxy.Published) -> None:
        entries = self._frames.pop(frame.id, None)
        if entries is None:
            return
        failures = frame.failures
        for i, (entry, position) in enumerate(zip(entries, frame.positions, strict=True)):
            self._remove(entry)
            if failures and i in failures:
                self._counters.refused += 1
                entry.fail(Refused(failures[i].code, failures[i].reason))
                continue
            self._counters.confirmed += 1
            future = entry.future
            if entry.confirms and future is not None and not future.done():
                future.set_result(tuple(position))
        self._refill()

    def _expire(self, seqs: list[int]) -> None:
        """What was never sent is forgotten; what was sent stays until the proxy answers or the connection ends."""
        for seq in seqs:
            entry = self._pending.get(seq)
            if entry is None:
                continue
            if entry.wanted:
                self._counters.timed_out += 1
                entry.fail(TimedOut(f"no confirmation from {entry.record.topic}"))
            if not entry.sent or self._pipe is None:
                self._remove(entry)
        self._refill()

    def close(self) -> None:
        """Whatever is unconfirmed ends as TimedOut."""
        self._deadlines.close()
        for entry in [*self._pending.values(), *(e for e, _ in self._backlog)]:
            entry.fail(TimedOut("the bus client was closed"))
        self._pending.clear()
        self._backlog.clear()
        self._fresh.clear()
        self.bytes = 0
