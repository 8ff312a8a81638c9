"""What the tests of bus engines and of the service dialect share."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from skep import tokens
from skep.wire import proxy as wire
from skep.wire.proxy import Assigned, Delivered, Gap, Record, Revoked
from ws_kafka_proxy.core.engine import Chunk, Engine, Reader, ReaderEvent

SECRET = "a secret of the bus, long enough for HS256"
F = TypeVar("F")


class Reading:
    """Takes from a reader and remembers."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.events: list[ReaderEvent] = []
        self.held: set[int] = set()
        self.records: dict[int, list[Delivered]] = defaultdict(list)

    async def until(self, met: Callable[[], bool], timeout: float = 10.0) -> "Reading":
        async with asyncio.timeout(timeout):
            while not met():
                self._take(await self.reader.read(1_000, 1 << 20))
        return self

    def _take(self, events: list[ReaderEvent]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Assigned):
                self.held.add(event.partition)
            elif isinstance(event, Revoked):
                self.held.difference_update(event.partitions)
            elif isinstance(event, Chunk):
                assert event.partition in self.held
                self.records[event.partition] += event.records

    async def holds(self, *partitions: int, timeout: float = 10.0) -> "Reading":
        return await self.until(lambda: self.held == set(partitions), timeout)

    async def holds_count(self, count: int, timeout: float = 10.0) -> "Reading":
        return await self.until(lambda: len(self.held) == count, timeout)

    async def has(self, *payloads: bytes) -> "Reading":
        """Until these came, in any order of partitions."""
        await self.until(lambda: len(self.payloads) >= len(payloads))
        assert sorted(p or b"" for p in self.payloads) == sorted(payloads)
        return self

    async def until_count(self, count: int) -> "Reading":
        return await self.until(lambda: len(self.payloads) >= count)

    def assigned(self, partition: int) -> Assigned:
        return [e for e in self.events if isinstance(e, Assigned) and e.partition == partition][-1]

    @property
    def gaps(self) -> list[Gap]:
        return [e for e in self.events if isinstance(e, Gap)]

    @property
    def payloads(self) -> list[bytes | None]:
        return [r.payload for p in sorted(self.records) for r in self.records[p]]


def records(topic: str, *payloads: bytes, key: bytes | None = None, partition: int | None = 0) -> list[Record]:
    return [Record(topic, key, payload, seq + 1, partition) for seq, payload in enumerate(payloads)]


async def publish(engine: Engine, topic: str, *payloads: bytes, partition: int | None = 0) -> list[tuple[int, int]]:
    """Positions, in order."""
    return positions(await engine.append(7, records(topic, *payloads, partition=partition)))


def positions(results: list[Any]) -> list[tuple[int, int]]:
    assert all(isinstance(result, tuple) for result in results), results
    return results


class Client:
    """A raw socket of the service dialect: frames by hand."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._kept: list[wire.ProxyFrame] = []

    async def send(self, *frames: wire.ClientFrame) -> None:
        for frame in frames:
            await self.socket.send(wire.encode(frame))

    async def next(self, kind: type[F], timeout: float = 10.0) -> F:
        """The next frame of a kind; others are kept for their turn."""
        for place, frame in enumerate(self._kept):
            if isinstance(frame, kind):
                del self._kept[place]
                return frame
        async with asyncio.timeout(timeout):
            while True:
                frame = wire.decode_proxy(await self.socket.recv(decode=False))
                if isinstance(frame, kind):
                    return frame
                self._kept.append(frame)

    async def ask(self, frame: wire.ClientFrame, kind: type[F]) -> F:
        await self.send(frame)
        return await self.next(kind)

    async def delivered(self, count: int) -> list[bytes | None]:
        found: list[bytes | None] = []
        while len(found) < count:
            found += [r.payload for r in (await self.next(wire.Deliver)).records]
        return found

    async def publish(self, id: int, *batch: Record) -> wire.Published:
        return await self.ask(wire.Publish(id, list(batch)), wire.Published)


def token(service: str, instance: str, secret: str = SECRET, seconds: float = 60) -> str:
    return tokens.encode_service(service, instance, secret, round((time.time() + seconds) * 1000))


async def socket(port: int, authorization: str | None, **options: Any) -> ClientConnection:
    headers = {} if authorization is None else {"Authorization": authorization}
    return await connect(
        f"ws://127.0.0.1:{port}",
        subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
        additional_headers=headers,
        compression=None,
        proxy=None,
        max_size=2 * wire.MAX_FRAME,
        **options,
    )


async def client(port: int, service: str, instance: str = "", publisher: int = 1, hello: bool = True) -> Client:
    """A connected one that was welcomed."""
    made = Client(await socket(port, f"Bearer {token(service, instance or f'{service}-1')}"))
    if hello:
        await made.ask(wire.Hello(wire.VERSION, publisher), wire.Welcome)
    return made
