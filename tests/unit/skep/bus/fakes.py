"""A connection that only remembers, and a host of subscriptions without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TypeVar

from skep.bus.counters import Counters
from skep.bus.options import Options
from skep.bus.subscription import Leg, Pipe, Subscription
from skep.bus.window import Window
from skep.wire import proxy

F = TypeVar("F")


class FakePipe:
    def __init__(self, uptime: int = 60_000, max_frame: int = proxy.MAX_FRAME, max_batch: int = proxy.MAX_BATCH):
        self.up = True
        self.down_since = 0.0
        self.welcome = proxy.Welcome(1, "boot", uptime, "fake", max_frame=max_frame, max_batch=max_batch)
        self.sent: list[proxy.ClientFrame] = []
        self.heard = True
        self.something = asyncio.Event()
        self.probes: list[asyncio.Future[None]] = []

    def send(self, frame: proxy.ClientFrame) -> None:
        self.sent.append(frame)
        self.something.set()

    async def flushed(self) -> None: ...

    def fresh(self, seconds: float) -> bool:
        return self.heard

    async def probe(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.probes.append(future)
        await future

    def take(self, kind: type[F]) -> list[F]:
        """Frames of this kind since the last look; others are kept."""
        found = [f for f in self.sent if isinstance(f, kind)]
        self.sent = [f for f in self.sent if not isinstance(f, kind)]
        return found

    async def wait(self, kind: type[F]) -> list[F]:
        """`take`, once there is something to take."""
        while not (found := self.take(kind)):
            self.something.clear()
            await self.something.wait()
        return found


class FakeHost:
    def __init__(self, publisher: int = 7, **options: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.options = Options(**options)  # type: ignore[arg-type]
        self.counters = Counters()
        self.publisher = publisher
        self.legs: list[Leg] = []
        self.closed: list[Leg] = []
        self.retried: list[Subscription] = []
        self.gaps: list[str] = []
        self.forgotten: list[Subscription] = []

    def open_leg(self, subscription: Subscription, pipe: Pipe, window: Window) -> Leg:
        self.legs.append(Leg(pipe, len(self.legs) + 1, window))
        return self.legs[-1]

    def close_leg(self, leg: Leg) -> None:
        self.closed.append(leg)

    def again(self, subscription: Subscription, pipe: Pipe) -> None:
        self.retried.append(subscription)

    def in_effect(self, pipe: Pipe) -> None: ...

    def gap(self, topic: str) -> None:
        self.gaps.append(topic)

    async def leave(self, legs: Iterable[Leg]) -> None:
        self.closed += legs

    def forget(self, subscription: Subscription) -> None:
        self.forgotten.append(subscription)


async def turn() -> None:
    """Let the loop run what was scheduled with call_soon, and what that scheduled."""
    for _ in range(3):
        await asyncio.sleep(0)


def record(offset: int, seq: int, publisher: int = 1, time: int = 1_000, payload: bytes = b"x") -> proxy.Delivered:
    return proxy.Delivered(offset, time, publisher, seq, None, payload)
