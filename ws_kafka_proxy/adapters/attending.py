"""Tells plugin_manager which sockets are here, and hears what they may have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec

from skep import bus, logs
from skep.wire import plugins, topics
from ws_kafka_proxy.core.attendance import LEASE, Attendance

log = logs.get("bus.plugins")

INTERVAL = LEASE / 3000
"""Seconds between two tellings."""
PAUSE = 0.02
"""Seconds in which changes come together in one telling."""
TIMEOUT = 5.0
"""For an answer, seconds."""
MOST_WAITING = 8
"""Tellings without answer, past which changes wait for the next interval."""

OVERTAKEN = 409
"""The answer to a telling behind a newer one."""

_decode = msgspec.msgpack.Decoder(plugins.Attendance).decode


class Attending:
    """`attendance`: the sockets; what changes there is told at once. clock: ms."""

    def __init__(self, link: bus.Bus, clock: Callable[[], int]) -> None:
        self._bus = link
        self._clock = clock
        self._woken = asyncio.Event()
        self._waiting: set[asyncio.Future[bytes]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._answers = True
        self.attendance = Attendance(link.run, self._woken.set)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._tell_on()), asyncio.create_task(self._follow())]

    async def stop(self) -> None:
        """Tell that nobody is here any more, within a second."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            with suppress(bus.BusError):
                await self._bus.request(topics.PLUGIN_REQUESTS, self.attendance.ask(), timeout=1.0)

    async def _tell_on(self) -> None:
        told = False
        while True:
            if self.attendance or told:
                told = bool(self.attendance)
                self._tell()
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._woken.wait()
                    await asyncio.sleep(PAUSE if len(self._waiting) < MOST_WAITING else INTERVAL)
            self._woken.clear()

    def _tell(self) -> None:
        attend = self.attendance.ask()
        try:
            answer = self._bus.call(topics.PLUGIN_REQUESTS, attend, timeout=TIMEOUT)
        except bus.Refused as error:
            self._report(error)
            return
        self._waiting.add(answer)
        answer.add_done_callback(partial(self._told, attend.number))

    def _told(self, number: int, answer: asyncio.Future[bytes]) -> None:
        self._waiting.discard(answer)
        error = asyncio.CancelledError() if answer.cancelled() else answer.exception()
        if isinstance(error, bus.Failed) and error.code == OVERTAKEN:
            return
        if error is not None:
            self._report(error)
            return
        try:
            seats = _decode(answer.result()).seats
        except msgspec.MsgspecError as failure:
            self._report(failure)
            return
        self._report(None)
        self.attendance.answered(number, seats, self._clock())

    def _report(self, error: BaseException | None) -> None:
        """Say when the manager goes and comes."""
        if error is not None and self._answers:
            log.warning("plugin_manager does not answer: %s", error)
        elif error is None and not self._answers:
            log.warning("plugin_manager answers again")
        self._answers = error is None

    async def _follow(self) -> None:
        """A change of a plugin that is here is asked about at once."""
        while True:
            try:
                changes = await self._bus.subscribe(topics.METADATA_CHANGES)
                while True:
                    for event in await changes.next():
                        if isinstance(event, bus.Gap) or (isinstance(event, bus.Records) and self._concerns(event)):
                            self._woken.set()
            except bus.BusError as error:
                log.warning("changes of plugins are not heard: %s", error)
                await asyncio.sleep(INTERVAL)

    def _concerns(self, event: bus.Records) -> bool:
        changes = [plugins.changed(record.payload or b"") for record in event.records]
        return any(names is not None and self.attendance.concerns(names) for names in changes)
