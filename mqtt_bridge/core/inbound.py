"""From the broker to the platform: a packet is acknowledged once the platform has done what it asks for.

Packets of one client's requests are handled one after the other, and so are those of one device's inserts, which do not
wait for each other's answers: their order on the bus is the order in which they came.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from msgspec import Struct

from mqtt_bridge.core import requests, topics
from mqtt_bridge.core.numbering import Numbering
from mqtt_bridge.core.packets import Lost, Numbered, Packet
from mqtt_bridge.core.topics import Insert
from skep import errors

log = logging.getLogger("mqtt_bridge")

Acknowledge = Callable[[], None]
Work = tuple[Callable[[], Coroutine[Any, Any, None]], Acknowledge]
Respond = Callable[[str, bytes], Awaitable[None]]
"""respond(topic, payload): done when the broker has it. Raises Lost."""
RETRY_FIRST, RETRY_LAST = 0.1, 2.0


class Platform(Protocol):
    async def ask(self, client_id: str, request: requests.Request) -> bytes:
        """A request of the WebSocket API with the client's rights: the reply, JSON. Raises Unavailable."""

    async def insert(self, insert: Insert, parameters: bytes, id: int, is_repeated: bool) -> Awaitable[None] | None:
        """Put a notification on the bus, behind what was put there before. None: there is no such device, or it is
        blocked. What is returned is done when it is stored. Both raise Unavailable."""


class Limits(Struct, frozen=True):
    """packets: that may be under way; past it no more are read. patience: seconds an insert is tried again while the
    platform can't answer, before its sender is told."""

    packets: int = 1_000
    patience: float = 60.0


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
        self._arrived: deque[tuple[Packet, Acknowledge]] = deque()
        self._wake = asyncio.Event()
        self._lanes: dict[tuple[str, str], deque[Work]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self._paused = False
        self.passed_over = 0
        """Packets that asked for nothing the platform does."""

    def receive(self, packet: Packet, acknowledge: Acknowledge) -> None:
        self._count += 1
        self._arrived.append((packet, acknowledge))
        self._wake.set()
        if self._count >= self._limits.packets and not self._paused:
            self._paused = True
            self._pause(True)

    async def run(self) -> None:
        """Until cancelled; then nothing of what is under way is acknowledged any more."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                arrived = list(self._arrived)
                self._arrived.clear()
                numbered = await _insisting(lambda packets=[p for p, _ in arrived]: self._numbering.number(packets))  # type: ignore[misc]
                for one, (_, acknowledge) in zip(numbered, arrived, strict=True):
                    self._begin(one, acknowledge)
        finally:
            for task in list(self._tasks):
                task.cancel()

    def _begin(self, numbered: Numbered, acknowledge: Acknowledge) -> None:
        match topics.inbound(numbered.packet.topic):
            case topics.Insert(device_id) as insert:
                work: Work = (lambda: self._insert(insert, numbered, acknowledge)), acknowledge
                self._line_up(("device", device_id), work)
            case topics.Request(str(client_id)):
                work = (lambda: self._request(client_id, numbered, acknowledge)), acknowledge
                self._line_up(("client", client_id), work)
            case _:
                self._pass_over(numbered.packet, acknowledge)

    def _pass_over(self, packet: Packet, acknowledge: Acknowledge) -> None:
        self.passed_over += 1
        log.info("a packet is passed over")
        self._end(acknowledge)

    def _end(self, acknowledge: Acknowledge) -> None:
        acknowledge()
        self._count -= 1
        if self._paused and self._count <= self._limits.packets // 2:
            self._paused = False
            self._pause(False)

    # -- lanes: one thing after the other -----------------------------------------------------------------------------

    def _line_up(self, lane: tuple[str, str], work: Work) -> None:
        waiting = self._lanes.get(lane)
        if waiting is not None:
            waiting.append(work)
            return
        self._lanes[lane] = deque([work])
        self._spawn(self._run(lane))

    async def _run(self, lane: tuple[str, str]) -> None:
        waiting = self._lanes[lane]
        try:
            while waiting:
                work, acknowledge = waiting[0]
                try:
                    await work()
                except Lost:
                    return  # the broker sends all that is not acknowledged again
                except Exception:
                    log.exception("a packet can't be handled")
                    self._end(acknowledge)
                waiting.popleft()
        finally:
            del self._lanes[lane]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- inserts ------------------------------------------------------------------------------------------------------

    async def _insert(self, insert: Insert, numbered: Numbered, acknowledge: Acknowledge) -> None:
        """Returns when it is on its way; the rest does not hold up the next."""

        async def put(again: bool) -> Awaitable[None] | None:
            return await self._platform.insert(
                insert, numbered.packet.payload, numbered.id, numbered.is_repeated or again
            )

        try:
            stored = await _insisting(lambda: put(False))
        except errors.SkepError as error:
            log.info("an insert is refused: %s", error.text)
            self._pass_over(numbered.packet, acknowledge)
            return
        if stored is None:
            self._pass_over(numbered.packet, acknowledge)
        else:
            self._spawn(self._stored(stored, put, acknowledge))

    async def _stored(
        self,
        stored: Awaitable[None],
        put: Callable[[bool], Awaitable[Awaitable[None] | None]],
        acknowledge: Acknowledge,
    ) -> None:
        """Ask again under the same id for as long as it takes."""
        delay = RETRY_FIRST
        while True:
            try:
                await stored
                break
            except errors.Unavailable as error:
                if not _is_passing(error):
                    break  # it is among the dead letters
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_LAST)
                try:
                    again = await _insisting(lambda: put(True))
                except Lost:
                    return
                if again is None:
                    break
                stored = again
            except errors.SkepError as error:
                log.warning("an insert failed: %s", error.text)
                break
        self._end(acknowledge)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _request(self, client_id: str, numbered: Numbered, acknowledge: Acknowledge) -> None:
        request = requests.read(numbered.packet.payload, numbered.id)
        if request.action in requests.SUBSCRIBING:
            reply = requests.refusal(request, 400, requests.SUBSCRIBE_OTHERWISE)
        else:
            reply = await self._answer(client_id, request)
        await self._respond(topics.response(request.action, client_id), reply)
        self._end(acknowledge)

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
