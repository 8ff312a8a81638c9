"""What the tests of `skep.metadata` share: an opened database, principals, a stand-in for the bus."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.engine import make_url

from skep import access, errors, tokens
from skep.metadata import Metadata, rows, schema
from skep.metadata.database import Transaction
from skep.metadata.tables import outbox
from skep.wire import messages, proxy, topics

NEVER = 2**53
_numbers = itertools.count(1)
_migrated: set[str] = set()


def unique(prefix: str = "x") -> str:
    return f"{prefix}-{next(_numbers)}"


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Metadata]:
    metadata = Metadata(url, **options)
    await metadata.start()
    try:
        if url not in _migrated:
            await schema.migrate(url)
            _migrated.add(url)
        yield metadata
    finally:
        await metadata.stop()


async def client(
    metadata: Metadata, *networks: int, types: list[int] | None = None, role: int = rows.CLIENT
) -> access.Principal:
    """A new user who is a member of the networks, with a token for everything. types: only these device types."""
    user = await metadata.users.insert(rows.NewUser(unique("user"), "hash", role, all_device_types=types is None))
    for network in networks:
        await metadata.users.assign_network(user.id, network)
    for type_id in types or []:
        await metadata.users.assign_device_type(user.id, type_id)
    return await principal(metadata, user.id)


async def admin(metadata: Metadata, *networks: int) -> access.Principal:
    return await client(metadata, *networks, role=rows.ADMIN)


async def principal(
    metadata: Metadata, user_id: int, networks: list[str] | None = None, types: list[str] | None = None
) -> access.Principal:
    claims = tokens.Claims(user_id, [0], networks or ["*"], types or ["*"], NEVER)
    return access.principal(claims, await metadata.users.rights(user_id), 0)


async def container(metadata: Metadata) -> tuple[int, int]:
    """A new network and a new device type."""
    network = await metadata.networks.insert(unique("network"))
    device_type = await metadata.device_types.insert(unique("type"))
    return network.id, device_type.id


async def device(metadata: Metadata, network_id: int, device_type_id: int = 1, name: str = "n") -> str:
    id = unique("device")
    who = await admin(metadata, network_id)
    changes = rows.DeviceChanges(name=name, network_id=network_id, device_type_id=device_type_id)
    await metadata.devices.save(who, id, changes)
    return id


async def outbox_rows(metadata: Metadata) -> list[Any]:
    query = select(outbox).order_by(outbox.c.id)
    return list(await metadata.database.read(Transaction.all, query))


async def empty_outbox(metadata: Metadata) -> None:
    await metadata.database.write(Transaction.run, delete(outbox))


class Link:
    """Between a service and PostgreSQL. `freeze(after)`: as if the service were paused with SIGSTOP when it has sent
    what holds these bytes; `frozen` is set then."""

    def __init__(self) -> None:
        self.frozen = asyncio.Event()
        self._after: bytes | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def freeze(self, after: bytes) -> None:
        self._after = after

    @asynccontextmanager
    async def to(self, url: str) -> AsyncIterator[str]:
        """The url of a server that is the one at `url`, over this link."""
        parsed = make_url(url)
        socket = f"{parsed.query['host']}/.s.PGSQL.{parsed.query['port']}"

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            upstream_reader, upstream = await asyncio.open_unix_connection(socket)
            ways = ((reader, upstream, True), (upstream_reader, writer, False))
            self._tasks |= {asyncio.create_task(self._forward(*way)) for way in ways}

        server = await asyncio.start_server(connected, "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        try:
            yield parsed.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_ours: bool) -> None:
        try:
            while chunk := await reader.read(1 << 16):
                if is_ours and self.frozen.is_set():
                    await asyncio.Event().wait()
                writer.write(chunk)
                if is_ours and self._after is not None and self._after in chunk:
                    self.frozen.set()
        finally:
            writer.close()


class Refused(errors.Unavailable):
    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class FakeBus:
    """Keeps what it is sent. `failure`: what `send` answers with instead; `hold`: confirm nothing until set."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, bytes | None]] = []
        self.failure: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.arrived = asyncio.Event()
        self.asked: list[tuple[str, Any, bytes | None]] = []
        self.streams: asyncio.Queue[FakeStream] = asyncio.Queue()

    def send(self, topic: str, payload: bytes, key: bytes | None = None, *, timeout: float) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.failure is not None:
            future.set_exception(self.failure)
            return future
        self.sent.append((topic, payload, key))
        self.arrived.set()
        if self.hold is None:
            future.set_result((0, len(self.sent)))
        return future

    async def request(self, topic: str, body: Any, key: bytes | None = None, *, timeout: float) -> bytes:
        self.asked.append((topic, body, key))
        return b""

    async def subscribe(self, topic: str) -> FakeStream:
        assert topic == topics.METADATA_CHANGES
        stream = FakeStream()
        self.streams.put_nowait(stream)
        return stream

    def changes(self) -> list[messages.Changed]:
        return [messages.decode_changed(p) for topic, p, _ in self.sent if topic == topics.METADATA_CHANGES]

    def notifications(self) -> list[messages.Notification]:
        calls = [messages.decode_call(p) for topic, p, _ in self.sent if topic == topics.REQUESTS]
        return [messages.decode_request(bytes(c.body)).notification for c in calls]  # type: ignore[union-attr]


class FakeStream:
    def __init__(self) -> None:
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False

    async def next(self) -> list[Any]:
        event = await self.events.get()
        if isinstance(event, Exception):
            raise event
        return [event]

    async def close(self) -> None:
        self.closed = True


class Records:
    """As `skep.bus.Records`."""

    def __init__(self, *changes: messages.Changed) -> None:
        self.records = [proxy.Delivered(i, 0, 1, i, None, messages.encode(c)) for i, c in enumerate(changes)]
