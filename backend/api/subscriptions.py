"""Feeds the index of interests from `subscriptions`, and clears away those whose owner is gone."""

from __future__ import annotations

import asyncio
import logging
import time

from backend.core.interests import Interests
from skep import bus
from skep.wire import topics

log = logging.getLogger("backend.subscriptions")
SWEEP = 1.0
"""Seconds between looks at the leases, and the step of the clock they are measured by."""
PROBE = 0.2
"""Seconds to wait for an offset before asking for it."""


class Subscriptions:
    """`interests` is as far as `subscriptions` was read; `reached` waits for more.

    Leases are measured from when they were read, by a clock that counts the sweeps. No clock of another machine is
    asked, no step of ours ends a lease, and the clock stands still with a process that is paused or a machine that
    sleeps. What errs, errs for longer, which costs some refused records; ending a living owner's lease would cost its
    subscribers their messages."""

    def __init__(self, link: bus.Bus) -> None:
        self.interests = Interests()
        self._bus = link
        self._moved = asyncio.Event()
        self._incarnation = ""
        self._now = 0
        self._buried: dict[bytes, float] = {}

    async def start(self) -> None:
        """Subscribe; returns before the snapshot is read."""
        self._subscription = await self._bus.subscribe(topics.SUBSCRIPTIONS, start=bus.Start("earliest"))

    async def close(self) -> None:
        await self._subscription.close()

    async def reached(self, offset: int) -> None:
        """Wait until all records before `offset` are in the index.

        The last of them may never come: a repetition, or a tombstone that compaction took. So after a moment a
        record of our own goes behind them."""
        probe: asyncio.Task[None] | None = None
        try:
            while self.interests.position < offset:
                self._moved.clear()
                try:
                    async with asyncio.timeout(PROBE):
                        await self._moved.wait()
                except TimeoutError:
                    if probe is None or probe.done():
                        probe = asyncio.create_task(self._probe())
        finally:
            if probe is not None:
                probe.cancel()

    async def _probe(self) -> None:
        try:
            await self._bus.publish(topics.SUBSCRIPTIONS, None, key=b"probe/" + self._bus.run.encode())
        except bus.BusError as e:
            log.warning("waiting for subscriptions: %s", e)
            await asyncio.sleep(SWEEP)

    async def end(self) -> int:
        """Next offset of the topic; waits for a proxy that knows."""
        while True:
            try:
                described = await self._bus.describe(topics.SUBSCRIPTIONS)
            except bus.BusError as e:
                log.warning("where subscriptions end is not known: %s", e)
                await asyncio.sleep(PROBE)
            else:
                return described.partitions[0][1] if described.partitions else 0

    async def follow(self) -> None:
        """Apply records as they come; until cancelled. Raises bus.Closed."""
        while True:
            for event in await self._subscription.next():
                if isinstance(event, bus.Assigned):
                    self._assigned(event)
                elif isinstance(event, bus.Records):
                    self._apply(event)
                elif isinstance(event, bus.Gap):
                    self.interests.position = max(self.interests.position, event.end)
            self._moved.set()

    def _assigned(self, event: bus.Assigned) -> None:
        if event.incarnation != self._incarnation:
            self.interests.clear()
        self._incarnation = event.incarnation
        if event.offset >= event.end:
            self.interests.position = max(self.interests.position, event.end)

    def _apply(self, event: bus.Records) -> None:
        for record in event.records:
            try:
                self.interests.apply(record.offset, record.key, record.payload, self._now)
            except ValueError as e:
                log.error("passed over: %s", e)

    async def sweep(self) -> None:
        """End leases in time; until cancelled."""
        while True:
            await asyncio.sleep(SWEEP)
            self._now += round(SWEEP * 1000)
            if self.interests.expire(self._now):
                # One whose renewals have yet to be read here, after an absence of ours, is not gone.
                await self.reached(await self.end())
                await self._bury(self.interests.expire(self._now))

    async def _bury(self, keys: list[bytes]) -> None:
        now = time.monotonic()
        self._buried = {k: t for k, t in self._buried.items() if t > now - 60}
        due = [k for k in keys if k not in self._buried]
        try:
            async with asyncio.timeout(5.0):
                for key in due:
                    await self._bus.publish(topics.SUBSCRIPTIONS, None, key=key)
                    self._buried[key] = now
        except (bus.BusError, TimeoutError) as e:
            log.warning("could not clear away %d interests of lost owners: %s", len(due), e)
