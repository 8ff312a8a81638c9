"""What durable and short-lived subscriptions share: the caller's queue, its credit, the way to an end."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from skep.bus.counters import Counters
from skep.bus.errors import Closed, Refused
from skep.bus.events import Assigned, Event, Gap, Records, Revoked
from skep.bus.options import Options
from skep.bus.window import Window
from skep.wire import proxy
from skep.wire.proxy import Code, Delivered

log = logging.getLogger("skep.bus")


class Pipe(Protocol):
    """A connection to a proxy, as subscriptions see it."""

    up: bool
    down_since: float

    @property
    def welcome(self) -> proxy.Welcome: ...

    def send(self, frame: proxy.ClientFrame) -> None: ...

    def fresh(self, seconds: float) -> bool: ...

    async def flushed(self) -> None: ...

    async def probe(self) -> None: ...


class Leg:
    """A subscription on one connection, under its number there."""

    __slots__ = ("next", "pipe", "sid", "subscribed", "window")

    def __init__(self, pipe: Pipe, sid: int, window: Window) -> None:
        self.pipe = pipe
        self.sid = sid
        self.window = window
        self.subscribed = False
        self.next = 0
        """Short-lived: next offset to acknowledge."""


class Host(Protocol):
    """What subscriptions need of the bus client."""

    loop: asyncio.AbstractEventLoop
    options: Options
    counters: Counters
    publisher: int

    def open_leg(self, subscription: Subscription, pipe: Pipe, window: Window) -> Leg: ...

    def close_leg(self, leg: Leg) -> None:
        """Forget it; on a live connection unsubscribe."""

    def again(self, subscription: Subscription, pipe: Pipe) -> None:
        """The engine is away: attach once more, a little later."""

    def in_effect(self, pipe: Pipe) -> None:
        """A subscription has come into effect, or to its end, on this connection."""

    def gap(self, topic: str) -> None: ...

    async def leave(self, legs: Iterable[Leg]) -> None:
        """Unsubscribe and wait for the answers, within a deadline."""

    def forget(self, subscription: Subscription) -> None: ...


class Subscription:
    """One caller takes from it: `next`, `ack`, `owned`, `close`. It survives connections and proxies."""

    def __init__(self, host: Host, topic: str, records: int, size: int) -> None:
        self.topic = topic
        self._host = host
        self._limit = (records, size)
        self._queue: deque[tuple[Event, Window | None, int]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._end: Closed | None = None
        self._scheduled = False
        self.ready: asyncio.Future[None] = host.loop.create_future()
        """Done when first in effect; Refused when the proxy says no."""

    # -- the caller's side ---------------------------------------------------------------------------------------

    async def next(self) -> list[Event]:
        """Everything that waits, in order; waits for a first event. Cancelling loses nothing.

        Raises Closed when the subscription has ended and all events before that were taken."""
        while not self._queue:
            if self._end is not None:
                raise self._end
            self._waiter = self._host.loop.create_future()
            await self._waiter
        events = []
        for event, window, size in self._queue:
            events.append(event)
            if isinstance(event, Records) and window is not None:
                window.release(len(event.records), size)
            self._handed(event)
        self._queue.clear()
        self._schedule()
        return events

    def ack(self, partition: int, offset: int, state: bytes = b"") -> None:
        """Everything before `offset` is handled; of the calls of a loop turn the last one of a partition counts.

        state: at most 1,024 bytes, given to the next owner with Assigned; raises ValueError above. Without effect
        for partitions that are not ours, broadcasts and short-lived topics."""

    async def settled(self) -> None:
        """Returns when the acknowledgements so far have left this process, or there is no connection: a proxy that
        comes back gets them from us. So they outlive us, unless the proxy ends with us."""

    async def owned(self, partitions: Iterable[int]) -> set[int]:
        """Those that are still ours, as the proxy said within the last second; otherwise it is asked."""
        return set(partitions)

    async def close(self) -> None:
        """Unsubscribe; a group member leaves its group, and what it has not acknowledged by now goes to others.
        `next` then raises Closed."""
        self._host.forget(self)
        self._finish(Closed(0, "closed by its owner"))
        await self._host.leave(self._legs())

    # -- for the kinds of subscription -----------------------------------------------------------------------------

    def _legs(self) -> list[Leg]:
        raise NotImplementedError

    def _handed(self, event: Event) -> None:
        """The caller takes this event."""

    def _flush(self) -> None:
        """Send what this loop turn brought together."""

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._host.loop.call_soon(self._run_flush)

    def _run_flush(self) -> None:
        self._scheduled = False
        self._flush()

    def _give_credit(self, leg: Leg) -> None:
        due = leg.window.due() if leg.pipe.up else None
        if due is not None:
            leg.pipe.send(proxy.Credit(leg.sid, *due))

    def _put(self, event: Event, window: Window | None = None, size: int = 0) -> None:
        self._queue.append((event, window, size))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _put_records(self, window: Window, partition: int, incarnation: str, records: list[Delivered]) -> None:
        size = sum(len(r.payload or b"") + len(r.key or b"") for r in records)
        window.hold(len(records), size)
        self._host.counters.received += len(records)
        self._put(Records(partition, incarnation, records), window, size)

    def _drop_records(self, partitions: set[int]) -> None:
        """Take records of these partitions out of the queue again."""
        kept: list[tuple[Event, Window | None, int]] = []
        for item in self._queue:
            event, window, size = item
            if isinstance(event, Records) and event.partition in partitions:
                assert window is not None
                window.release(len(event.records), size)
            else:
                kept.append(item)
        self._queue = deque(kept)

    def _finish(self, end: Closed) -> None:
        if self._end is None:
            self._end = end
            if not self.ready.done():
                self.ready.set_exception(Refused(end.code, end.reason))
                self.ready.exception()  # it may be that nobody waits for it
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    def _effective(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    # -- frames ----------------------------------------------------------------------------------------------------

    def attach(self, pipe: Pipe) -> None:
        raise NotImplementedError

    def link_down(self, pipe: Pipe) -> None:
        raise NotImplementedError

    def subscribed(self, leg: Leg, frame: proxy.Subscribed) -> None:
        failure = frame.failure
        if failure is None:
            leg.subscribed = True
            self._took_effect(leg, frame.gap)
            self._host.in_effect(leg.pipe)
            return
        self._host.close_leg(leg)
        self._lost(leg)
        if failure.code == Code.UNAVAILABLE:
            self._host.again(self, leg.pipe)
        else:
            self.closed(leg, failure)

    def closed(self, leg: Leg, failure: proxy.Failure) -> None:
        log.error("%s: subscription ended: %s", self.topic, failure.reason)
        self._host.close_leg(leg)
        self._lost(leg)
        self._host.forget(self)
        self._finish(Closed(failure.code, failure.reason))
        self._host.in_effect(leg.pipe)

    def _took_effect(self, leg: Leg, gap: bool) -> None:
        raise NotImplementedError

    def _lost(self, leg: Leg) -> None:
        raise NotImplementedError

    def assigned(self, leg: Leg, frame: proxy.Assigned) -> None: ...

    def revoked(self, leg: Leg, frame: proxy.Revoked) -> None: ...

    def deliver(self, leg: Leg, frame: proxy.Deliver) -> None:
        raise NotImplementedError

    def gap(self, leg: Leg, frame: proxy.Gap) -> None:
        raise NotImplementedError


__all__ = ["Assigned", "Gap", "Host", "Leg", "Pipe", "Records", "Revoked", "Subscription"]
