"""From the broker to the platform: a packet is acknowledged once the platform has done what it asks for.

Packets of one client's requests are handled one after the other. Those of one device's inserts go onto the bus together
as they have come, and what comes meanwhile waits for their answers: one that is refused for now must not be put again
behind a later one. Acknowledgements go back in the order of the packets, whatever is done first: MQTT wants that of
clients (5.0, 4.6.0-2), and Mosquitto hands on what waits out of order where it is not kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any, Protocol

from msgspec import Struct

from mqtt_bridge.core import requests, topics
from mqtt_bridge.core.numbering import Numbering
from mqtt_bridge.core.packets import Lost, Numbered, Packet
from mqtt_bridge.core.topics import Insert
from skep import errors

log = logging.getLogger("mqtt_bridge")

Acknowledge = Callable[[], None]
Respond = Callable[[str, bytes], Awaitable[None]]
"""respond(topic, payload): done when the broker has it. Raises Lost."""
RETRY_FIRST, RETRY_LAST = 0.1, 2.0
TOGETHER = 64
"""Inserts of a device that are under way at a time."""


class Platform(Protocol):
    async def ask(self, client_id: str, request: requests.Request) -> bytes:
        """A request of the WebSocket API with the client's rights: the reply, JSON. Raises Unavailable."""

    async def insert(self, insert: Insert, parameters: bytes, id: int, is_repeated: bool) -> Awaitable[object] | None:
        """Put a notification on the bus, behind what was put there before. None: there is no such device, or it is
        blocked. What is returned is done when it is stored. Both raise Unavailable."""


class Limits(Struct, frozen=True):
    """packets: that may be unacknowledged; past it no more are read. patience: seconds an insert is tried again while
    the platform can't answer, before its sender is told."""

    packets: int = 1_000
    patience: float = 60.0


class Arrival:
    """A packet that is not acknowledged."""

    __slots__ = ("acknowledge", "is_done", "packet")

    def __init__(self, packet: Packet, acknowledge: Acknowledge) -> None:
        self.packet, self.acknowledge = packet, acknowledge
        self.is_done = False


class Work(Struct, eq=False):
    """What a packet asks for. target: a device's name for a notification, or the client who asks."""

    target: Insert | str
    numbered: Numbered
    arrival: Arrival


class Inbound:
    """Of one connection. pause(paused): stop reading from the broker, or go on."""

    def __init__(
        self,
        platform: Platform,
        numbering: Numbering,
        respond: Respond,
        pause: Callable[[bool], None],
        limits: Limits = Limits(),  # noqa: B008
    ) -> None:
        self._platform, self._numbering, self._respond = platform, numbering, respond
        self._pause, self._limits = pause, limits
        self._arrived: list[Arrival] = []
        self._unacknowledged: deque[Arrival] = deque()
        self._wake = asyncio.Event()
        self._lanes: dict[tuple[str, str], deque[Work]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused = False
        self.passed_over = 0
        """Packets that asked for nothing the platform does."""

    def receive(self, packet: Packet, acknowledge: Acknowledge) -> None:
        arrival = Arrival(packet, acknowledge)
        self._unacknowledged.append(arrival)
        self._arrived.append(arrival)
        self._wake.set()
        if len(self._unacknowledged) >= self._limits.packets and not self._paused:
            self._paused = True
            self._pause(True)

    async def run(self) -> None:
        """Until cancelled; then nothing of what is under way is acknowledged any more."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                arrived, self._arrived = self._arrived, []
                packets = [arrival.packet for arrival in arrived]
                numbered = await _insisting(lambda packets=packets: self._numbering.number(packets))  # type: ignore[misc]
                for one, arrival in zip(numbered, arrived, strict=True):
                    self._begin(one, arrival)
        finally:
            for task in list(self._tasks):
                task.cancel()

    def _begin(self, numbered: Numbered, arrival: Arrival) -> None:
        match topics.inbound(arrival.packet.topic):
            case topics.Insert(device_id) as insert:
                self._line_up(("device", device_id), Work(insert, numbered, arrival))
            case topics.Request(str(client_id)):
                self._line_up(("client", client_id), Work(client_id, numbered, arrival))
            case _:
                self._pass_over(arrival)

    def _pass_over(self, arrival: Arrival) -> None:
        self.passed_over += 1
        log.info("a packet is passed over")
        self._end(arrival)

    def _end(self, arrival: Arrival) -> None:
        arrival.is_done = True
        while self._unacknowledged and self._unacknowledged[0].is_done:
            self._unacknowledged.popleft().acknowledge()
        if self._paused and len(self._unacknowledged) <= self._limits.packets // 2:
            self._paused = False
            self._pause(False)

    # -- lanes: one thing after the other -----------------------------------------------------------------------------

    def _line_up(self, lane: tuple[str, str], work: Work) -> None:
        waiting = self._lanes.get(lane)
        if waiting is not None:
            waiting.append(work)
            return
        self._lanes[lane] = deque([work])
        task = asyncio.get_running_loop().create_task(self._run(lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, lane: tuple[str, str]) -> None:
        waiting = self._lanes[lane]
        try:
            while waiting:
                first = waiting[0]
                if isinstance(first.target, str):
                    await self._request(first.target, first)
                    waiting.popleft()
                else:
                    works = list(islice(waiting, TOGETHER))
                    await self._insert(works)
                    for _ in works:
                        waiting.popleft()
        except Lost:
            pass  # the broker sends all that is not acknowledged again
        finally:
            del self._lanes[lane]

    # -- inserts ------------------------------------------------------------------------------------------------------

    async def _insert(self, works: list[Work]) -> None:
        """Those that are refused for now are put again, in their order and under their ids, for as long as it takes.
        Raises Lost."""
        delay = RETRY_FIRST
        is_again = False
        while works:
            put = [(work, await self._put(work, is_again)) for work in works]
            works = [work for work, stored in put if stored is not None and not await self._is_over(work, stored)]
            if works:
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_LAST)
                is_again = True

    async def _put(self, work: Work, is_again: bool) -> Awaitable[object] | None:
        """None: that was all that can be done with it. Raises Lost."""
        numbered, insert = work.numbered, work.target
        assert isinstance(insert, Insert)
        is_repeated = numbered.is_repeated or is_again
        try:
            stored: Awaitable[object] | None = await _insisting(
                lambda: self._platform.insert(insert, numbered.packet.payload, numbered.id, is_repeated)
            )
        except errors.SkepError as error:
            log.info("an insert is refused: %s", error.text)
            stored = None
        except Lost:
            raise
        except Exception:
            log.exception("a packet can't be handled")
            stored = None
        if stored is None:
            self._pass_over(work.arrival)
        return stored

    async def _is_over(self, work: Work, stored: Awaitable[object]) -> bool:
        """False: it has to be put again."""
        try:
            await stored
        except errors.SkepError as error:
            if _is_passing(error):
                return False
            # Where its handling failed it is among the dead letters.
            log.warning("an insert failed: %s", error.text)
        self._end(work.arrival)
        return True

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _request(self, client_id: str, work: Work) -> None:
        """Raises Lost."""
        try:
            request = requests.read(work.arrival.packet.payload, work.numbered.id)
            if request.action in requests.SUBSCRIBING:
                reply = requests.refusal(request, 400, requests.SUBSCRIBE_OTHERWISE)
            else:
                reply = await self._answer(client_id, request)
            await self._respond(topics.response(request.action, client_id), reply)
        except Lost:
            raise
        except Exception:
            log.exception("a packet can't be handled")
        self._end(work.arrival)

    async def _answer(self, client_id: str, request: requests.Request) -> bytes:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.patience
        delay = RETRY_FIRST
        while True:
            try:
                reply = await self._platform.ask(client_id, request)
            except errors.SkepError as error:
                reply = requests.refusal(request, error.status, error.text)
            done, code = requests.status(reply)
            may_repeat = request.action in requests.REPEATABLE and code == errors.Unavailable.status
            if done or not may_repeat or loop.time() > deadline:
                return reply
            await asyncio.sleep(delay)
            delay = min(2 * delay, RETRY_LAST)


def _is_passing(error: errors.SkepError) -> bool:
    return error.status == errors.Unavailable.status


async def _insisting(work: Callable[[], Awaitable[Any]]) -> Any:
    """The result, however long the platform is away."""
    delay = RETRY_FIRST
    while True:
        try:
            return await work()
        except errors.Unavailable as error:
            if not _is_passing(error):
                raise
            log.warning("waiting for the platform: %s", error)
        await asyncio.sleep(delay)
        delay = min(2 * delay, RETRY_LAST)
