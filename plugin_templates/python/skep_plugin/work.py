"""Order, parallelism and confirmation of what was received. No network here."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

log = logging.getLogger("plugin")

Work = Callable[[], Awaitable[None]]


class HandlerFailed(Exception):
    """A callback raised."""


class Lanes:
    """Runs the work of one device in order and that of several devices side by side.

    parallel: how many at a time. waiting: how many are held at most; `put` waits then, and with it the socket:
    no ping is answered any more. A server with `ack` never lets it come to that, it sends 1000 ahead.
    `failed` gets HandlerFailed with the first work that raises, and nothing is begun after that.
    """

    def __init__(self, parallel: int, waiting: int = 2000) -> None:
        self._free = asyncio.Semaphore(parallel)
        self._room = asyncio.Semaphore(waiting)
        self._queues: dict[str, deque[Work]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = True
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def put(self, device_id: str, work: Work) -> None:
        await self._room.acquire()
        queue = self._queues.get(device_id)
        if queue is not None:
            queue.append(work)
            return
        self._queues[device_id] = deque([work])
        task = asyncio.create_task(self._run(device_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, device_id: str) -> None:
        queue = self._queues[device_id]
        while queue:
            work = queue.popleft()
            async with self._free:
                if self._open:
                    await self._do(work)
            self._room.release()
        del self._queues[device_id]

    async def _do(self, work: Work) -> None:
        try:
            await work()
        except Exception as error:
            log.exception("a callback failed")
            self._open = False
            if not self.failed.done():
                self.failed.set_exception(HandlerFailed(f"a callback failed: {error!r}"))

    def close(self) -> None:
        """Begin nothing more."""
        self._open = False

    async def idle(self) -> None:
        """Wait until all is done that is to be."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def cancel(self) -> None:
        """End what is under way still."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.failed.done():
            self.failed.exception()  # Looked at, or asyncio complains that nobody did.


class Place:
    """Where a message stands on its partition."""

    __slots__ = ("done", "offset", "partition")

    def __init__(self, partition: int, offset: int) -> None:
        self.partition, self.offset, self.done = partition, offset, False


class Positions:
    """Which offset of each partition may be confirmed: the last before the first message that is not done."""

    def __init__(self) -> None:
        self._places: dict[int, deque[Place]] = {}

    def received(self, partition: int, offset: int) -> Place:
        places = self._places.setdefault(partition, deque())
        place = Place(partition, offset)
        places.append(place)
        return place

    def done(self, place: Place) -> int | None:
        """The offset through which the partition is handled now, None if that has not moved."""
        place.done = True
        places, last = self._places[place.partition], None
        while places and places[0].done:
            last = places.popleft().offset
        return last
