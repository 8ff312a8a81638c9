"""Durable topics: partitions come and go, and are resumed after a reconnect without the caller noticing.

What a caller sees of a partition: Assigned, Records ..., Revoked. While it is held, `Held.next` says what came,
`taken` what was handed over, `acked` what is handled. The dedupe table exists twice: `seen` at `next`, to drop
repetitions, and `base` at `acked`, because that is what the next owner has to know.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from math import inf

from skep.bus import seen
from skep.bus.errors import Closed
from skep.bus.events import Assigned, Event, Gap, Records, Revoked
from skep.bus.seen import Seen
from skep.bus.subscription import Host, Leg, Pipe, Subscription
from skep.bus.window import Window, weight
from skep.wire import proxy
from skep.wire.proxy import Code, Delivered, Start


class Held:
    """One partition while it is ours. `confirmed`: assigned on the present connection. `begun`: something was told of
    it; a gap before that is in front of the offset it was assigned with."""

    __slots__ = (
        "acked", "announced", "base", "begun", "confirmed", "first", "incarnation", "log", "next", "queued", "seen",
        "state", "taken",
    )  # fmt: skip

    def __init__(self, frame: proxy.Assigned, state: bytes, table: Seen) -> None:
        self.incarnation = frame.incarnation
        self.first = (frame.offset, frame.state)
        self.next = self.taken = self.acked = frame.offset
        self.state = state
        self.seen = table
        self.base = table.copy()
        self.log: deque[tuple[int, int, int, int]] = deque()
        """(offset, publisher, seq, time) of what came and is not acknowledged."""
        self.queued = 0
        self.announced = self.begun = False
        self.confirmed = True

    def take_in(self, records: list[Delivered], keep_log: bool) -> list[Delivered]:
        """Those that are new here; offsets and table move on."""
        fresh = []
        self.begun = True
        note, log, following = self.seen.note, self.log, self.next
        for record in records:
            if record.offset < following:
                continue
            following = record.offset + 1
            if note(record.publisher, record.seq, record.time):
                fresh.append(record)
                if keep_log:
                    log.append((record.offset, record.publisher, record.seq, record.time))
        self.next = following
        return fresh

    def settle(self) -> int:
        """Bring `base` up to what is acknowledged; the offset to commit. Repetitions behind the last record are
        passed too, since nobody else will acknowledge them."""
        log, base = self.log, self.base
        while log and log[0][0] < self.acked:
            _, publisher, seq, time = log.popleft()
            base.note(publisher, seq, time)
        return self.next if self.idle else self.acked

    @property
    def idle(self) -> bool:
        """Everything that came was handed over and acknowledged."""
        return self.acked == self.taken and not self.queued


class Durable(Subscription):
    def __init__(
        self, host: Host, topic: str, group: str | None, start: Start, records: int, size: int, drain: bool = False
    ) -> None:
        super().__init__(host, topic, records, size)
        self.group = group
        self._drain = drain
        self._start = start
        self._window = Window(records, size)
        self._leg: Leg | None = None
        self._held: dict[int, Held] = {}
        self._dirty: set[int] = set()
        self._changed = asyncio.Event()
        self._returned = -inf
        """When the present connection took over from one that ended; `inf` in between."""

    # -- the caller's side ---------------------------------------------------------------------------------------

    def ack(self, partition: int, offset: int, state: bytes = b"") -> None:
        if len(state) > seen.STATE:
            raise ValueError(f"a state of {len(state)} bytes, at most {seen.STATE}")
        held = self._held.get(partition)
        if held is None or not held.announced or not held.acked <= offset <= held.taken:
            return
        held.acked, held.state = offset, state
        if self.group is not None:
            self._dirty.add(partition)
            self._schedule()

    async def settled(self) -> None:
        self._flush()
        if self._leg is not None:
            await self._leg.pipe.flushed()

    async def owned(self, partitions: Iterable[int]) -> set[int]:
        """Waits through a reconnect, at most `owned_timeout`; partitions whose fate is unknown then are given up
        (Revoked comes)."""
        asked = set(partitions)
        options = self._host.options
        try:
            async with asyncio.timeout(options.owned_timeout):
                while True:
                    await self._decided(asked)
                    leg = self._leg
                    if leg is None or leg.pipe.fresh(options.fresh):
                        break
                    await leg.pipe.probe()
        except TimeoutError:
            self._give_up(asked if self._stale() else {p for p in asked if not self._certain(p)})
        return {p for p in asked if (held := self._held.get(p)) is not None and held.announced}

    async def _decided(self, asked: set[int]) -> None:
        while self._end is None and not all(map(self._certain, asked)):
            self._changed.clear()
            await self._changed.wait()

    def _certain(self, partition: int) -> bool:
        held = self._held.get(partition)
        return held is None or held.confirmed

    def _stale(self) -> bool:
        return self._leg is None or not self._leg.pipe.fresh(self._host.options.fresh)

    def _legs(self) -> list[Leg]:
        return [self._leg] if self._leg is not None else []

    def _handed(self, event: Event) -> None:
        if isinstance(event, Assigned):
            if (held := self._held.get(event.partition)) is not None:
                held.announced = True
        elif isinstance(event, Records) and (held := self._held.get(event.partition)) is not None:
            held.taken = event.records[-1].offset + 1
            held.queued -= 1

    # -- connections ---------------------------------------------------------------------------------------------

    @property
    def attached(self) -> bool:
        return self._leg is not None

    def attach(self, pipe: Pipe) -> None:
        if self._returned == inf:
            self._returned = self._host.loop.time()
        self._leg = leg = self._host.open_leg(self, pipe, self._window)
        records, size = self._window.opened()
        start = self._start
        if self._held:
            start = Start("offsets", {p: held.next for p, held in self._held.items()})
        pipe.send(proxy.Subscribe(leg.sid, leg.sid, self.topic, self.group, start, records, size, self._drain))

    def link_down(self, pipe: Pipe) -> None:
        if self._leg is not None and self._leg.pipe is pipe:
            self._returned = inf
            self._lost(self._leg)

    def closed(self, leg: Leg, failure: proxy.Failure) -> None:
        recent = self._host.loop.time() - self._returned < self._host.options.fence_grace
        if failure.code == Code.FENCED and recent:
            self._host.close_leg(leg)
            self._lost(leg)
            self._host.again(self, leg.pipe)
        else:
            super().closed(leg, failure)

    def _finish(self, end: Closed) -> None:
        self._flush()
        if self.group is not None:
            self._drop_records(set(self._held))  # the next owner gets them
        self._held.clear()
        self._changed.set()
        super()._finish(end)

    def _lost(self, leg: Leg) -> None:
        self._leg = None
        for held in self._held.values():
            held.confirmed = False
        self._changed.set()

    def _took_effect(self, leg: Leg, gap: bool) -> None:
        if self.group is not None or self._held:
            self._effective()
        if self._held:
            self._host.loop.call_later(self._host.options.settle, self._settle, leg)

    def _settle(self, leg: Leg) -> None:
        """What was not assigned again by now is somebody else's."""
        if leg is self._leg:
            self._give_up({p for p, held in self._held.items() if not held.confirmed})

    def _give_up(self, partitions: Iterable[int]) -> None:
        gone = sorted(p for p in partitions if p in self._held)
        if not gone:
            return
        self._drop_records(set(gone))
        for partition in gone:
            del self._held[partition]
            self._dirty.discard(partition)
        self._put(Revoked(gone))
        self._changed.set()
        self._schedule()

    # -- frames --------------------------------------------------------------------------------------------------

    def assigned(self, leg: Leg, frame: proxy.Assigned) -> None:
        owner, state, table = seen.unpack(frame.state)
        held = self._held.get(frame.partition)
        if held is not None and self._resumes(held, frame, owner):
            held.confirmed = True
            self._mark(frame.partition)  # acknowledgements of the old connection may have been lost with it
            self._changed.set()
            return
        if held is not None and self.group is None and held.incarnation != frame.incarnation:
            self._start_over(leg)
            return
        if held is not None:
            self._give_up([frame.partition])
        self._held[frame.partition] = Held(frame, state, table)
        if owner != self._host.publisher:
            self._mark(frame.partition)  # leave our name, so that a later owner knows somebody was here
        self._put(Assigned(frame.partition, frame.offset, frame.end, frame.incarnation, state))
        self._changed.set()
        if leg.subscribed:
            self._effective()

    def _resumes(self, held: Held, frame: proxy.Assigned, owner: int) -> bool:
        """Whether nobody else handled the partition since we lost the connection."""
        if held.incarnation != frame.incarnation:
            return False
        if self.group is None:
            return True
        ours = owner == self._host.publisher or held.first == (frame.offset, frame.state)
        return ours and frame.offset <= held.next

    def _start_over(self, leg: Leg) -> None:
        """Another log stands behind the topic: all of it is new, and what was missing of the old one stays so."""
        for partition in self._held:
            self._host.counters.gaps += 1
            self._put(Gap(partition, reason="the log is a new one"))
        self._held.clear()
        self._start = Start("earliest")
        self._host.close_leg(leg)
        self.attach(leg.pipe)

    def _mark(self, partition: int) -> None:
        if self.group is not None:
            self._dirty.add(partition)
            self._schedule()

    def revoked(self, leg: Leg, frame: proxy.Revoked) -> None:
        self._give_up(frame.partitions)

    def deliver(self, leg: Leg, frame: proxy.Deliver) -> None:
        held = self._held.get(frame.partition)
        fresh = held.take_in(frame.records, self.group is not None) if held is not None else []
        dropped = len(frame.records) - len(fresh)
        if dropped:
            self._host.counters.repeated += dropped
            leg.window.owe(dropped, sum(map(weight, frame.records)) - sum(map(weight, fresh)))
            self._schedule()
        if held is None:
            return
        if fresh:
            held.queued += 1
            self._put_records(leg.window, frame.partition, held.incarnation, fresh)
        elif held.idle:
            self._mark(frame.partition)

    def gap(self, leg: Leg, frame: proxy.Gap) -> None:
        held = self._held.get(frame.partition)
        if held is not None:
            if held.begun and 0 <= frame.end <= held.next:
                return
            held.begun = True
            held.next = max(held.next, frame.end)
        self._host.counters.gaps += 1
        self._put(Gap(frame.partition, frame.start, frame.end, frame.reason))

    def _flush(self) -> None:
        leg = self._leg
        if leg is None:
            return
        dirty, self._dirty = self._dirty, set()
        for partition in dirty:
            held = self._held.get(partition)
            if held is not None and held.confirmed:
                offset = held.settle()
                state = seen.pack(self._host.publisher, held.state, held.base)
                leg.pipe.send(proxy.Ack(leg.sid, partition, offset, state))
        self._give_credit(leg)
