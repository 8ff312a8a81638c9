"""The interests of this process: counted filters on `subscriptions`, under a lease.

A new filter is in effect once its record is confirmed and every partition of `requests` has passed a marker behind
it; what is new in one loop turn shares one round of markers. A filter whose last user has left lingers.

The owner's name changes when the lease could not be renewed in time: the backends may have dropped what the old
owner had, and a tombstone of theirs on its way must not hit what is published anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from frontend.core.scope import Filter
from skep import errors
from skep.bus.markers import Markers
from skep.wire import messages, topics

log = logging.getLogger("frontend.interests")

LINGER = 8.0
LEASE = 60.0
TIMEOUT = 5.0
"""Seconds for a subscribe to be in effect."""
RETRY = 1.0


class Bus(Protocol):
    """`skep.bus.Bus`, as it is used here."""

    run: str

    def send(self, topic: str, payload: bytes | None, key: bytes | None = None) -> asyncio.Future[tuple[int, int]]: ...
    async def request(self, topic: str, body: Any, *, partition: int, timeout: float) -> bytes: ...
    async def describe(self, topic: str) -> Any: ...


class _Interest:
    __slots__ = ("effect", "linger", "passed", "users")

    def __init__(self, effect: asyncio.Future[None]) -> None:
        self.users = 0
        self.passed: dict[int, int] = {}
        self.effect = effect
        self.linger: asyncio.TimerHandle | None = None


class Claim:
    """Filters in use by one user. effect: None where all were in effect, else a future, which raises Unavailable.

    It holds the interests themselves: one that failed or was lost, and is held anew by others, is no business of this
    user any more."""

    __slots__ = ("effect", "held")

    def __init__(self, held: dict[Filter, _Interest], effect: asyncio.Future[Any] | None) -> None:
        self.held = held
        self.effect = effect

    def passed(self, partition: int) -> int | None:
        """Offset of the last of the markers that put these interests into effect: what is behind it comes live."""
        return max((held.passed.get(partition, -1) for held in self.held.values()), default=None)


class Interests:
    """on_lost: called when messages may have been missed, because the lease was; every subscriber has to resume.

    linger, lease: seconds."""

    def __init__(
        self,
        bus: Bus,
        on_lost: Callable[[], None],
        linger: float = LINGER,
        lease: float = LEASE,
        timeout: float = TIMEOUT,
    ) -> None:
        self._bus = bus
        self._on_lost = on_lost
        self._linger, self._lease, self._timeout = linger, lease, timeout
        self._epoch = 0
        self._held: dict[Filter, _Interest] = {}
        self._new: list[Filter] = []
        self._rounds: set[asyncio.Task[None]] = set()
        self._markers = Markers(bus)
        self._renewed: float | None = None
        self._leased = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def owner(self) -> str:
        return f"{self._bus.run}~{self._epoch}" if self._epoch else self._bus.run

    # -- users ----------------------------------------------------------------------------------------------------

    def acquire(self, filters: Iterable[Filter]) -> Claim:
        """Use these filters; `release` the claim in any case, once."""
        claimed: dict[Filter, _Interest] = {}
        waiting = []
        for filter_ in filters:
            held = self._held.get(filter_)
            if held is None:
                held = self._held[filter_] = self._publish(filter_)
            claimed[filter_] = held
            held.users += 1
            if held.linger is not None:
                held.linger.cancel()
                held.linger = None
            if not _is_in_effect(held):
                waiting.append(held.effect)
        # Shielded: one subscriber's going away must not cancel what others wait for.
        return Claim(claimed, asyncio.gather(*map(asyncio.shield, waiting)) if waiting else None)

    def release(self, claim: Claim) -> None:
        loop = asyncio.get_running_loop()
        for filter_, held in claim.held.items():
            if self._held.get(filter_) is not held:  # its publication failed, or the lease was lost
                continue
            held.users -= 1
            if held.users <= 0 and held.linger is None:
                held.linger = loop.call_later(self._linger, self._leave, filter_)

    def _leave(self, filter_: Filter) -> None:
        held = self._held[filter_]
        held.linger = None
        if not held.effect.done():
            return  # still on its way: the end of its round comes back here
        del self._held[filter_]
        self._send(self._key(filter_), None)

    # -- new ones -------------------------------------------------------------------------------------------------

    def _publish(self, filter_: Filter) -> _Interest:
        loop = asyncio.get_running_loop()
        if not self._new:
            loop.call_soon(self._begin_round)
        self._new.append(filter_)
        effect: asyncio.Future[None] = loop.create_future()
        effect.add_done_callback(_seen)
        return _Interest(effect)

    def _begin_round(self) -> None:
        new, self._new = self._new, []
        if not new:  # the lease was lost in between, and with it what was to be published
            return
        task = asyncio.get_running_loop().create_task(self._round(new, self._epoch))
        self._rounds.add(task)
        task.add_done_callback(self._rounds.discard)

    async def _round(self, filters: list[Filter], epoch: int) -> None:
        """Put the filters into effect, or forget them all."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._leased.wait()
                passed = await self._take_effect(filters) if epoch == self._epoch else {}
        except (TimeoutError, errors.SkepError) as error:
            log.warning("interests are not in effect: %s", error or "no answer in time")
            self._failed(filters, epoch)
            return
        for filter_ in filters:
            held = self._held.get(filter_) if epoch == self._epoch else None
            if held is None:
                continue
            held.passed = passed
            held.effect.set_result(None)
            if held.users <= 0 and held.linger is None:
                self._leave(filter_)

    async def _take_effect(self, filters: list[Filter]) -> dict[int, int]:
        """The markers' offsets by partition."""
        records = [(self._key(f), self._record(f)) for f in filters]
        sent = [self._bus.send(topics.SUBSCRIPTIONS, payload, key) for key, payload in records]
        positions = await asyncio.gather(*sent)
        return await self._markers.pass_all(max(offset for _, offset in positions) + 1, self._timeout)

    async def passed(self) -> dict[int, int]:
        """Offsets below which everything is stored as of now, by partition. Raises `SkepError`."""
        return await self._markers.pass_all(0, self._timeout)

    def _failed(self, filters: list[Filter], epoch: int) -> None:
        if epoch != self._epoch:
            return
        for filter_ in filters:
            held = self._held.pop(filter_)
            if held.linger is not None:
                held.linger.cancel()
            # It may be on the bus all the same, and must not stay there when nobody wants it.
            self._send(self._key(filter_), None)
            held.effect.set_exception(errors.Unavailable())

    def _key(self, filter_: Filter) -> bytes:
        return f"{self.owner}/".encode() + _pack(filter_)

    def _record(self, filter_: Filter) -> bytes:
        return messages.encode(messages.Interest(topics.events(self._bus.run), self.owner, *filter_))

    def _send(self, key: bytes, payload: bytes | None) -> None:
        """Without waiting; what does not get through is cleared away with the lease."""
        with contextlib.suppress(errors.SkepError):
            self._bus.send(topics.SUBSCRIPTIONS, payload, key).add_done_callback(_seen)

    # -- the lease ------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Take the lease and renew it every third of its duration; until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            if await self._renew():
                late = self._renewed is not None and loop.time() - self._renewed > self._lease
                self._renewed = began
                if late:  # it had run out when this renewal came: what was missed in between is unknown
                    self._lose()
                    continue
                self._leased.set()
                await asyncio.sleep(self._lease / 3)
                continue
            if self._renewed is not None and loop.time() - self._renewed > self._lease * 0.9:
                self._lose()
            await asyncio.sleep(RETRY)

    async def _renew(self) -> bool:
        lease = messages.Lease(self.owner, int(self._lease * 1000))
        try:
            async with asyncio.timeout(self._timeout):
                await self._bus.send(topics.SUBSCRIPTIONS, messages.encode(lease), self._lease_key())
        except (TimeoutError, errors.SkepError) as error:
            log.warning("the lease is not renewed: %s", error or "no answer in time")
            return False
        return True

    def _lose(self) -> None:
        log.error("the lease of %s ran out: subscribers have to resume", self.owner)
        self._send(self._lease_key(), None)
        lost, self._held, self._new = self._held, {}, []
        self._epoch += 1
        self._renewed = None
        self._leased.clear()
        for held in lost.values():
            if held.linger is not None:
                held.linger.cancel()
            if not held.effect.done():
                held.effect.set_exception(errors.Unavailable())
        self._on_lost()

    def _lease_key(self) -> bytes:
        return f"lease/{self.owner}".encode()

    async def close(self) -> None:
        """An orderly stop: tombstones for all, so that nothing is sent here any more."""
        for task in list(self._rounds):
            task.cancel()
        await asyncio.gather(*self._rounds, return_exceptions=True)
        for filter_, held in self._held.items():
            if held.linger is not None:
                held.linger.cancel()
            if not held.effect.done():
                held.effect.cancel()
            self._send(self._key(filter_), None)
        self._held.clear()
        self._send(self._lease_key(), None)


def _pack(filter_: Filter) -> bytes:
    return messages.encode(filter_)


def _is_in_effect(held: _Interest) -> bool:
    return held.effect.done() and not held.effect.cancelled() and held.effect.exception() is None


def _seen(future: asyncio.Future[Any]) -> None:
    """Whoever waits is told; where nobody does, nobody misses it."""
    if not future.cancelled():
        future.exception()
