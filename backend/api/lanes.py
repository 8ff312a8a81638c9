"""Records for durable destinations, plugins' streams and `mqtt.out`, in the order of their sources whatever happens.

Whoever reads them drops a source below one it has had as a repetition. So a record that was refused for now must not
be published again behind its successors: of each destination one window is under way, and the next one goes when
everything before it is on the bus. A window is one frame, which the engine takes or refuses as a whole.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable

from backend.core.deliveries import Derived
from skep import bus
from skep.wire.proxy import Code

log = logging.getLogger("backend.publishing")
WINDOW_RECORDS, WINDOW_BYTES = 1_000, 2 << 20
RETRY = (Code.UNAVAILABLE, Code.FULL)
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between tries while the log is away or full."""


class _Waiting:
    """`outcome` is done when the record is confirmed, or refused for good."""

    __slots__ = ("outcome", "record")

    def __init__(self, record: Derived) -> None:
        self.record = record
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Lanes:
    """dropped: called for a record that was refused for good; its destination is gone, or it can't be taken."""

    def __init__(self, link: bus.Bus, dropped: Callable[[str, int, bus.Refused], None]) -> None:
        self._bus = link
        self._dropped = dropped
        self._lanes: dict[str, deque[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, destination: str, records: Iterable[Derived]) -> list[asyncio.Future[None]]:
        """Behind what was put before. How many wait is bounded by the batches that are not acknowledged."""
        entries = [_Waiting(record) for record in records]
        lane = self._lanes.get(destination)
        if lane is not None:
            lane += entries
        elif entries:
            self._lanes[destination] = deque(entries)
            task = asyncio.create_task(self._run(destination))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return [entry.outcome for entry in entries]

    async def _run(self, destination: str) -> None:
        lane = self._lanes[destination]
        while lane:
            await self._through(_window(lane))
        del self._lanes[destination]

    async def _through(self, window: list[_Waiting]) -> None:
        pause = FIRST_PAUSE
        while True:
            # Without a deadline: the bus sends it until it has an answer.
            sent = [(entry, self._send(entry.record)) for entry in window]
            window = [entry for entry, future in sent if not await self._settled(entry, future)]
            if not window:
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, LONGEST_PAUSE)

    def _send(self, record: Derived) -> asyncio.Future[tuple[int, int]]:
        try:
            return self._bus.send(record.topic, record.payload, record.key, None, record.source, None)
        except bus.Refused as error:
            refused: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return refused

    async def _settled(self, entry: _Waiting, future: asyncio.Future[tuple[int, int]]) -> bool:
        """False: it must be sent again."""
        record = entry.record
        try:
            await future
        except bus.Refused as error:
            if error.code in RETRY:
                return False
            self._dropped(record.topic, len(record.payload), error)
        except bus.TimedOut as error:
            log.warning("%s: %s, publishing again", record.topic, error)
            return False
        if not entry.outcome.done():
            entry.outcome.set_result(None)
        return True


def _window(lane: deque[_Waiting]) -> list[_Waiting]:
    window: list[_Waiting] = []
    size = 0
    while lane and len(window) < WINDOW_RECORDS and (not window or size + len(lane[0].record.payload) <= WINDOW_BYTES):
        size += len(lane[0].record.payload)
        window.append(lane.popleft())
    return window
