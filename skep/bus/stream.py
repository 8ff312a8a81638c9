"""Short-lived topics: held on every listed proxy, acknowledged as soon as they are in the local queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from skep.bus.events import Gap
from skep.bus.seen import Seen
from skep.bus.subscription import Host, Leg, Pipe, Subscription
from skep.bus.window import Window, weight
from skep.wire import proxy, topics
from skep.wire.proxy import Delivered

RECENT = 4096
"""Records of a spread topic that are remembered one by one."""


class Recent:
    """Spread topics: a record whose taker vanished comes out of order to another, so the highest seq says nothing."""

    __slots__ = ("_keys", "_order")

    def __init__(self) -> None:
        self._keys: set[tuple[int, int]] = set()
        self._order: deque[tuple[int, int]] = deque()

    def note(self, publisher: int, seq: int, time: int) -> bool:
        key = (publisher, seq)
        if key in self._keys:
            return False
        self._keys.add(key)
        self._order.append(key)
        if len(self._order) > RECENT:
            self._keys.discard(self._order.popleft())
        return True


class Stream(Subscription):
    """`sink`, where given, gets the records at once instead of the queue.

    A gap is told when the proxy says so, and when we were away from a proxy that was up for longer than the grace
    it gives after its start: then it may have refused records and forgotten about it."""

    def __init__(
        self,
        host: Host,
        topic: str,
        records: int,
        size: int,
        sink: Callable[[list[Delivered]], None] | None = None,
    ) -> None:
        super().__init__(host, topic, records, size)
        self._sink = sink
        self._by_pipe: dict[Pipe, Leg] = {}
        self._windows: dict[Pipe, Window] = {}
        self._seen: Seen | Recent = Recent() if topic in topics.SPREAD else Seen()
        self._since = host.loop.time()
        self._fresh: list[Leg] = []

    def _legs(self) -> list[Leg]:
        return list(self._by_pipe.values())

    def attach(self, pipe: Pipe) -> None:
        window = self._windows.get(pipe)
        if window is None:
            window = self._windows[pipe] = Window(*self._limit)
        leg = self._by_pipe[pipe] = self._host.open_leg(self, pipe, window)
        records, size = window.opened()
        pipe.send(proxy.Subscribe(leg.sid, leg.sid, self.topic, records=records, bytes=size))

    def link_down(self, pipe: Pipe) -> None:
        self._by_pipe.pop(pipe, None)

    def waits_for(self, pipe: Pipe) -> bool:
        """Whether it is not yet in effect on this connection."""
        leg = self._by_pipe.get(pipe)
        return leg is None or not leg.subscribed

    def lacks(self, pipe: Pipe) -> bool:
        """Whether it is not even asked for on this connection."""
        return pipe not in self._by_pipe

    def _lost(self, leg: Leg) -> None:
        self._by_pipe.pop(leg.pipe, None)

    def _took_effect(self, leg: Leg, gap: bool) -> None:
        host, pipe = self._host, leg.pipe
        away = host.loop.time() - max(self._since, pipe.down_since)
        if gap:
            self._tell_gap("the proxy refused records while nobody read")
        elif min(away, pipe.welcome.uptime / 1000) > host.options.grace:
            self._tell_gap(f"away from a proxy for {away:.1f} s")
        if all(leg.subscribed for leg in self._by_pipe.values()):
            self._effective()

    def deliver(self, leg: Leg, frame: proxy.Deliver) -> None:
        if not frame.records:
            return
        leg.next = frame.records[-1].offset + 1
        note = self._seen.note
        records = [r for r in frame.records if note(r.publisher, r.seq, r.time)]
        repeated = len(frame.records) - len(records)
        if repeated:
            self._host.counters.repeated += repeated
            leg.window.owe(repeated, sum(map(weight, frame.records)) - sum(map(weight, records)))
        if self._sink is not None:
            leg.window.owe(len(records), sum(map(weight, records)))
            self._host.counters.received += len(records)
            self._sink(records)
        elif records:
            self._put_records(leg.window, 0, "", records)
        self._fresh.append(leg)
        self._schedule()

    def gap(self, leg: Leg, frame: proxy.Gap) -> None:
        self._tell_gap(frame.reason)

    def _tell_gap(self, reason: str) -> None:
        self._host.counters.gaps += 1
        if self._sink is None:
            self._put(Gap(0, reason=reason))
        self._host.gap(self.topic)

    def _flush(self) -> None:
        for leg in dict.fromkeys(self._fresh):
            leg.pipe.send(proxy.Ack(leg.sid, 0, leg.next))
        self._fresh.clear()
        for leg in self._by_pipe.values():
            self._give_credit(leg)
