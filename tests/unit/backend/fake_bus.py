"""A bus that a test holds in its hands: it delivers, confirms, refuses."""

import asyncio
from collections.abc import Iterable
from typing import Any

from skep import bus
from skep.wire.messages import Call
from skep.wire.proxy import Described


class FakeSubscription:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[list[bus.Event]] = asyncio.Queue()
        self.acks: list[tuple[int, int]] = []
        self.states: list[bytes] = []
        self.lost: set[int] = set()

    def give(self, *events: bus.Event) -> None:
        self.queue.put_nowait(list(events))

    async def next(self) -> list[bus.Event]:
        return await self.queue.get()

    def ack(self, partition: int, offset: int, state: bytes = b"") -> None:
        self.acks.append((partition, offset))
        self.states.append(state)

    async def owned(self, partitions: Iterable[int]) -> set[int]:
        return set(partitions) - self.lost

    async def close(self) -> None: ...


class FakeBus:
    """confirm: confirm by itself; else futures wait in `unconfirmed`."""

    run = "backend-1.x"

    def __init__(self) -> None:
        self.subscriptions: dict[str, FakeSubscription] = {}
        self.sent: list[tuple[str, bytes | None]] = []
        self.sources: list[Any] = []
        self.timeouts: list[float | None] = []
        self.unconfirmed: list[asyncio.Future[Any]] = []
        self.replies: list[tuple[bytes, int, Any]] = []
        self.confirm = True
        self.end = 0

    async def subscribe(self, topic: str, **options: Any) -> FakeSubscription:
        return self.subscriptions.setdefault(topic, FakeSubscription())

    async def describe(self, topic: str) -> Described:
        return Described(0, [(0, self.end)])

    async def publish(self, topic: str, payload: bytes | None, key: bytes | None = None, *_: Any) -> Any:
        return await self.send(topic, payload, key)

    def send(
        self, topic: str, payload: bytes | None, key: bytes | None = None, partition: Any = None, source: Any = None,
        timeout: float | None = 5.0,
    ) -> asyncio.Future[Any]:  # fmt: skip
        self.sent.append((topic, payload))
        self.sources.append(source)
        self.timeouts.append(timeout)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.confirm:
            future.set_result((-1, -1))
        else:
            self.unconfirmed.append(future)
        return future

    def reply(self, call: Call, code: int = 0, message: str = "", body: Any = None) -> asyncio.Future[bool]:
        self.replies.append((call.correlation, code, body))
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        future.set_result(True)
        return future
