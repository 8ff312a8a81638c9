"""One WebSocket on an asyncio transport: frames in, one write a loop turn out, bounds, close handshake, pings.

Tornado does the handshake and hands its socket over, because its frame loop awaits for every message in and its
`write_message` makes a task for every message out. As it is here, an insert that is acknowledged and pushed once
costs the whole process 52 µs of CPU (70,166 of them in 3.68 s; bus, rights and JSON included).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import cast

from frontend.api import frames
from frontend.core.services import Limits, Services
from frontend.core.session import Session

log = logging.getLogger("frontend.socket")

CLOSE_TIMEOUT = 5.0
"""Seconds for the peer to answer a close frame, and to take what is still to be sent."""
FLUSHES = 500
"""Most sockets written to before other work has its turn."""
SLOTS = 30
"""Pings are spread over as many ticks."""


class Hub:
    """All sockets of the process. `tick` is called once a second."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.sockets: set[Socket] = set()
        self.closed: Counter[int] = Counter()
        """Sockets closed by us, by code."""
        self._loop = asyncio.get_running_loop()
        self._dirty: list[Socket] = []
        self._ticks = 0
        self._slot = 0
        self._anonymous: dict[str, set[Socket]] = {}

    def room(self, address: str, limit: int) -> bool:
        """Whether the address may have one more socket that has not authenticated yet. limit 0: always."""
        waiting = self._anonymous.get(address, set())
        if limit and len(waiting) >= limit:
            waiting = {s for s in waiting if s in self.sockets and s.anonymous}
            self._anonymous[address] = waiting
        return not limit or len(waiting) < limit

    def add(self, socket: Socket, address: str) -> int:
        """Gives the slot in which it is pinged."""
        self.sockets.add(socket)
        self._anonymous.setdefault(address, set()).add(socket)
        self._slot = (self._slot + 1) % SLOTS
        return self._slot

    def dirty(self, socket: Socket) -> None:
        """Something is to be written at the end of this loop turn."""
        if not self._dirty:
            self._loop.call_soon(self._flush)
        self._dirty.append(socket)

    def _flush(self) -> None:
        now, self._dirty = self._dirty[:FLUSHES], self._dirty[FLUSHES:]
        if self._dirty:
            self._loop.call_soon(self._flush)
        for socket in now:
            socket.flush()

    def tick(self) -> None:
        self._ticks += 1
        if self._ticks % SLOTS == 0:
            waiting = {
                a: {s for s in sockets if s in self.sockets and s.anonymous} for a, sockets in self._anonymous.items()
            }
            self._anonymous = {a: sockets for a, sockets in waiting.items() if sockets}
        slots = int(self.limits.ping) or SLOTS
        for socket in list(self.sockets):
            socket.tick(self._ticks % slots == socket.slot % slots)

    async def close(self, code: int, reason: str) -> None:
        """All of them, with a close frame; at most a second."""
        for socket in list(self.sockets):
            socket.close(code, reason)
        deadline = self._loop.time() + 1.0
        while self.sockets and self._loop.time() < deadline:  # noqa: ASYNC110 - a few turns, once in a lifetime
            await asyncio.sleep(0.01)
        for socket in list(self.sockets):
            socket.abort()


class Socket(asyncio.Protocol):
    """The session's outlet."""

    __slots__ = (
        "_closing",
        "_deaf",
        "_drained",
        "_heard",
        "_hub",
        "_loop",
        "_out",
        "_pings",
        "_reader",
        "_session",
        "_size",
        "_stuck",
        "_transport",
        "slot",
    )

    def __init__(self, hub: Hub, services: Services, address: str, rest_url: str) -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._reader = frames.Reader(hub.limits.message_bytes)
        self._session = Session(services, self, address, rest_url)
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._size = 0
        self._stuck = False
        """The kernel takes no more: what is to be sent waits here."""
        self._drained: asyncio.Future[None] | None = None
        self._closing = False
        self._deaf = False
        self._heard = self._loop.time()
        self._pings = (0, 0)
        self.slot = hub.add(self, address)

    @property
    def anonymous(self) -> bool:
        return self._session.anonymous_since is not None

    async def authenticate(self, token: str) -> None:
        """With the token of the handshake."""
        await self._session.authenticate(token)

    # -- transport ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._out.clear()
        self._hub.sockets.discard(self)
        if self._drained is not None and not self._drained.done():
            self._drained.cancel()
        self._session.closed()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._heard = self._loop.time()
        messages, broken = self._reader.feed(data)
        for opcode, payload in messages:
            if self._closing:
                if opcode == frames.CLOSE:
                    self._end()
                continue
            if opcode == frames.TEXT:
                self._session.receive(payload)
            elif opcode == frames.PING:
                self._ping(payload)
            elif opcode == frames.CLOSE:
                self._peer_closes(payload)
        if broken is not None:
            self.close(broken.code, broken.reason)
            self._turn_deaf()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._stuck = True

    def resume_writing(self) -> None:
        self._stuck = False
        if self._out:
            self.flush()
        if not self._stuck and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # -- outlet ---------------------------------------------------------------------------------------------------

    def send(self, payload: bytes) -> None:
        if self._closing:
            return
        self._put(frames.header(frames.TEXT, len(payload)), payload)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame behind what is already written; the rest of the close handshake has a deadline."""
        if self._closing:
            return
        self._hub.closed[code] += 1
        self._put_last(frames.close_payload(code, reason))
        self._loop.call_later(CLOSE_TIMEOUT, self.abort)

    def pause(self, paused: bool) -> None:
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):
                if paused:
                    self._transport.pause_reading()
                else:
                    self._transport.resume_reading()

    async def drained(self) -> None:
        if self._out and not self._stuck:
            self.flush()
        if self._stuck and not self._closing:
            if self._drained is None or self._drained.done():
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def flush(self) -> None:
        """Write what this loop turn brought together."""
        if self._stuck or not self._out or self._transport is None:
            return
        data = b"".join(self._out)
        self._out.clear()
        self._size = 0
        self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def tick(self, ping: bool) -> None:
        if self._closing:
            return
        limits = self._hub.limits
        if self._loop.time() - self._heard > limits.idle:
            self.close(frames.GOING_AWAY, "idle")
            return
        self._session.check()
        if ping and not self._closing:
            self._put(frames.frame(frames.PING, b""))

    def _put(self, *parts: bytes) -> None:
        if not self._out and not self._stuck:
            self._hub.dirty(self)
        self._out += parts
        for part in parts:
            self._size += len(part)
        limits = self._hub.limits
        if self._size > limits.queue_bytes and not self._stuck:
            self.flush()  # one loop turn may bring any amount
        if self._stuck and (self._size > limits.queue_bytes or len(self._out) > 2 * limits.queue_messages):
            log.info("a slow reader is cut off")
            self._out.clear()
            self.close(frames.TRY_AGAIN, "too slow")

    def _put_last(self, payload: bytes) -> None:
        self._closing = True
        self._out.append(frames.frame(frames.CLOSE, payload))
        if self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _ping(self, payload: bytes) -> None:
        second, count = self._pings
        current = int(self._heard)
        self._pings = (current, count + 1 if second == current else 1)
        if self._pings[1] > self._hub.limits.pings:
            self.close(frames.POLICY, "too many pings")
        else:
            self._put(frames.frame(frames.PONG, payload))

    def _peer_closes(self, payload: bytes) -> None:
        code = frames.close_answer(payload)
        self._put_last(frames.close_payload(code))
        self._end()

    def _turn_deaf(self) -> None:
        """Nothing sensible will follow. Half a close, and what still comes is thrown away: to close while bytes are
        on their way resets the connection, and the peer may never read why."""
        self._deaf = True
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()

    def _end(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._loop.call_later(CLOSE_TIMEOUT, self.abort)
