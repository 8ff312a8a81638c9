"""The WebSocket listener over real sockets on loopback: what clients send, and what only attackers do (RFC 6455)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from frontend.api import frames
from frontend.api.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from frontend.api.socket import Hub
from frontend.api.upgrade import Upgrade
from frontend.core.services import Limits
from skep import logs, settings, web
from tests.unit.frontend.fakes import Frontend, notification

INFO = b'{"action":"server/info","requestId":%d}'
LIMIT = 4096
"""Largest message here, bytes."""


class Edge(NamedTuple):
    """`clients`: to be closed at the end."""

    frontend: Frontend
    hub: Hub
    port: int
    clients: list[asyncio.StreamWriter | socket.socket]

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/api/websocket"


@pytest.fixture
async def edge(request: pytest.FixtureRequest) -> AsyncIterator[Edge]:
    limits: Limits = getattr(request, "param", Limits(message_bytes=LIMIT))
    async with Frontend(limits) as frontend:
        hub = Hub(limits)
        arguments = {
            "hub": hub,
            "services": frontend.services,
            "rest_prefix": "/api/rest",
            "origins": ("https://here",),
            "per_address": 3,
        }
        server = web.Server(
            [],
            "/api/rest",
            settings.Edge(trusted_proxies=("127.0.0.1",)),
            frontend.authenticate,
            frontend.services,
            extra_handlers=[("/api/websocket", Upgrade, arguments)],
        )
        clients: list[asyncio.StreamWriter | socket.socket] = []
        yield Edge(frontend, hub, server.listen(0), clients)
        for client in clients:
            client.close()
        await hub.close(frames.RESTART, "")
        await server.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - the other end of the socket does it
            await asyncio.sleep(0.002)


# -- raw -------------------------------------------------------------------------------------------------------------


def masked(opcode: int, payload: bytes, final: bool = True, size: int | None = None, reserved: int = 0) -> bytes:
    """A client's frame. size: what its header says."""
    head = bytearray(frames.header(opcode, len(payload) if size is None else size))
    head[0] = (head[0] & 0x7F) | (0x80 if final else 0) | reserved
    head[1] |= 0x80
    key = os.urandom(4)
    return bytes(head) + key + bytes(b ^ key[i % 4] for i, b in enumerate(payload))


def handshake(*headers: str, key: str = base64.b64encode(bytes(16)).decode()) -> bytes:
    lines = [
        "GET /api/websocket HTTP/1.1",
        "Host: here",
        "Connection: keep-alive, Upgrade",
        "Upgrade: WebSocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


class Raw:
    """A client that writes what it likes; reads whole frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, edge: Edge, first: bytes = b"", *headers: str) -> Raw:
        raw = cls(*await asyncio.open_connection("127.0.0.1", edge.port))
        edge.clients.append(raw.writer)
        raw.writer.write(handshake(*headers) + first)
        head = await asyncio.wait_for(raw.reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Sec-Websocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=" in head  # of a key of zeros
        return raw

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(5):
            first, size = await self.reader.readexactly(2)
            assert first & 0x80
            assert not size & 0x80
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            return first & 0x0F, await self.reader.readexactly(size)

    async def reply(self) -> Any:
        opcode, payload = await self.frame()
        assert opcode == TEXT
        return json.loads(payload)

    async def closed(self) -> int:
        """The code of the close frame that comes next; then the connection ends."""
        opcode, payload = await self.frame()
        assert opcode == CLOSE, payload
        return int.from_bytes(payload[:2], "big") if payload else frames.NO_STATUS

    async def ended(self) -> bytes:
        """What comes until the end of the connection."""
        async with asyncio.timeout(5):
            return await self.reader.read()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


# -- messages ----------------------------------------------------------------------------------------------------------


async def test_several_messages_in_one_segment_are_answered_in_order(edge: Edge) -> None:
    raw = await Raw.open(edge)
    raw.writer.write(b"".join(masked(TEXT, INFO % i) for i in range(20)))
    assert [(await raw.reply())["requestId"] for _ in range(20)] == list(range(20))


async def test_a_message_behind_the_handshake_in_one_segment(edge: Edge) -> None:
    raw = await Raw.open(edge, masked(TEXT, INFO % 1) + masked(TEXT, INFO % 2)[:9])
    assert (await raw.reply())["requestId"] == 1


async def test_byte_by_byte(edge: Edge) -> None:
    raw = await Raw.open(edge)
    raw.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in masked(TEXT, INFO % 1):
        raw.writer.write(bytes((byte,)))
        await raw.writer.drain()
        await asyncio.sleep(0)
    assert (await raw.reply())["requestId"] == 1


async def test_fragments_with_a_ping_between(edge: Edge) -> None:
    raw = await Raw.open(edge)
    text = INFO % 5
    raw.writer.write(masked(TEXT, text[:3], final=False) + masked(CONTINUATION, b"", final=False))
    raw.writer.write(masked(PING, b"are you there"))
    assert await raw.frame() == (PONG, b"are you there")
    raw.writer.write(masked(CONTINUATION, text[3:9], final=False) + masked(CONTINUATION, text[9:]))
    assert (await raw.reply())["requestId"] == 5


async def test_a_client_of_the_library(edge: Edge) -> None:
    async with connect(edge.url) as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers  # no compression (threat 30)
        await (await client.ping(b"x" * 125))
        await client.send(["{", '"action":"server/info"', ',"requestId":"ü"}'])
        assert json.loads(await client.recv())["requestId"] == "ü"
        for size, expected in ((LIMIT, {"code": 400}), (LIMIT + 1, None)):
            await client.send("x" * size)
            if expected is not None:
                assert json.loads(await client.recv())["code"] == 400
        await asyncio.wait_for(client.wait_closed(), 5)
        assert client.close_code == 1009
    await until(lambda: not edge.hub.sockets)


async def test_we_ping(edge: Edge) -> None:
    raw = await Raw.open(edge)
    for _ in range(30):
        edge.hub.tick()
    assert await raw.frame() == (PING, b"")


# -- the end -----------------------------------------------------------------------------------------------------------

HUGE = (1 << 63) - 1
VIOLATIONS = {
    "reserved bit": (masked(TEXT, b"{}", reserved=0x40), 1002),
    "no mask": (frames.frame(TEXT, b"{}"), 1002),
    "unknown opcode": (masked(0x3, b""), 1002),
    "unknown control opcode": (masked(0xB, b""), 1002),
    "continuation of nothing": (masked(CONTINUATION, b"x"), 1002),
    "text within a message": (masked(TEXT, b"{", final=False) + masked(TEXT, b"}"), 1002),
    "ping in fragments": (masked(PING, b"x", final=False), 1002),
    "ping too long": (masked(PING, b"x" * 126), 1002),
    "close with a code that is none": (masked(CLOSE, b"\x03\xed"), 1002),
    "close with half a code": (masked(CLOSE, b"\x03"), 1002),
    "close with a bad reason": (masked(CLOSE, b"\x03\xe8\xff"), 1007),
    "binary": (masked(BINARY, b"{}"), 1003),
    "no UTF-8": (masked(TEXT, b'{"action":"\xff"}'), 1007),
    "surrogates": (masked(TEXT, b"\xed\xa0\x80"), 1007),
    "no UTF-8 across fragments": (masked(TEXT, b"\xc3", final=False) + masked(CONTINUATION, b"\xc3"), 1007),
    "one byte too large": (masked(TEXT, b"", size=LIMIT + 1), 1009),
    "2^63": (masked(TEXT, b"", size=HUGE), 1009),
    "too large in fragments": (masked(TEXT, b"x" * LIMIT, final=False) + masked(CONTINUATION, b"x"), 1009),
    "too large, not all there": (masked(TEXT, b"x" * LIMIT, size=LIMIT * 2), 1009),
}


@pytest.mark.parametrize(("sent", "code"), VIOLATIONS.values(), ids=VIOLATIONS)
async def test_violations(edge: Edge, sent: bytes, code: int) -> None:
    """What came before is answered first, nothing that follows is looked at."""
    raw = await Raw.open(edge)
    raw.writer.write(masked(TEXT, INFO % 1) + sent + masked(TEXT, INFO % 2))
    assert (await raw.reply())["requestId"] == 1
    assert await raw.closed() == code
    assert await raw.ended() == b""
    raw.writer.close()
    await raw.writer.wait_closed()
    await until(lambda: not edge.hub.sockets)


async def test_who_goes_on_sending_reads_the_reason(edge: Edge) -> None:
    """Bytes on their way must not turn our close into a reset."""
    raw = await Raw.open(edge)
    raw.writer.write(masked(TEXT, b"x" * (8 << 20)))
    assert await raw.closed() == 1009
    assert await raw.ended() == b""
    await asyncio.wait_for(raw.writer.drain(), 5)
    assert edge.hub.sockets
    raw.writer.close()
    await raw.writer.wait_closed()
    await until(lambda: not edge.hub.sockets)


@pytest.mark.parametrize(("payload", "code"), [(b"\x03\xe8", 1000), (b"\x0f\xa0bye", 4000), (b"", 1005)])
async def test_a_close_is_answered(edge: Edge, payload: bytes, code: int) -> None:
    raw = await Raw.open(edge)
    raw.writer.write(masked(CLOSE, payload))
    assert await raw.closed() == code
    assert await raw.ended() == b""
    await until(lambda: not edge.hub.sockets)


async def test_too_many_pings(edge: Edge) -> None:
    raw = await Raw.open(edge)
    raw.writer.write(masked(PING, b"") * 100)
    answered = 0
    while (frame := await raw.frame()) == (PONG, b""):
        answered += 1
    assert frame[0] == CLOSE
    assert int.from_bytes(frame[1][:2], "big") == 1008
    assert answered <= 2 * Limits().pings  # a second may end meanwhile


async def test_too_many_messages_before_authentication(edge: Edge) -> None:
    raw = await Raw.open(edge)
    raw.writer.write(masked(TEXT, b"x") * 500)
    opcode = TEXT
    while opcode == TEXT:
        opcode, payload = await raw.frame()
    assert (opcode, payload[:2]) == (CLOSE, (1008).to_bytes(2, "big"))


@pytest.mark.parametrize("edge", [Limits(anonymous=0.01)], indirect=True)
async def test_without_authentication_it_is_closed(edge: Edge) -> None:
    raw = await Raw.open(edge)
    async with connect(edge.url, additional_headers={"Authorization": "Bearer client"}) as known:
        await asyncio.sleep(0.02)
        edge.hub.tick()
        assert await raw.closed() == 1008
        await (await known.ping())


@pytest.mark.parametrize("edge", [Limits(idle=0.01)], indirect=True)
async def test_idle(edge: Edge) -> None:
    raw = await Raw.open(edge)
    await asyncio.sleep(0.02)
    edge.hub.tick()
    assert await raw.closed() == 1001


async def test_the_service_stops(edge: Edge) -> None:
    raw = await Raw.open(edge)
    closing = asyncio.create_task(edge.hub.close(frames.RESTART, "stop"))
    assert await raw.closed() == 1012
    raw.writer.write(masked(CLOSE, (1012).to_bytes(2, "big")))
    await closing
    assert not edge.hub.sockets


async def test_reset_in_the_middle(edge: Edge) -> None:
    """Nothing is left of a subscriber, nor of one who is still subscribing."""
    edge.frontend.bus.hold_markers = asyncio.Event()
    raw = await Raw.open(edge)
    raw.writer.write(masked(TEXT, b'{"action":"authenticate","token":"client"}'))
    assert (await raw.reply())["status"] == "success"
    raw.writer.write(masked(TEXT, b'{"action":"notification/subscribe"}') + masked(TEXT, INFO % 1)[:10])
    await until(lambda: len(edge.frontend.registry) == 1)
    raw.reset()
    await until(lambda: not edge.hub.sockets)
    assert (len(edge.frontend.registry), len(edge.frontend.identities)) == (0, 0)


# -- slow readers ------------------------------------------------------------------------------------------------------


async def subscriber(edge: Edge, times: int = 1) -> socket.socket:
    """A subscriber that does not read, with a small window."""
    loop = asyncio.get_running_loop()
    slow = socket.socket()
    edge.clients.append(slow)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.setblocking(False)
    await loop.sock_connect(slow, ("127.0.0.1", edge.port))
    requests = masked(TEXT, b'{"action":"notification/subscribe"}') * times
    await loop.sock_sendall(slow, handshake("Authorization: Bearer admin") + requests)
    await until(lambda: len(edge.frontend.registry) == times)
    return slow


@pytest.mark.parametrize("size", [10, 10_000])
async def test_a_slow_reader_is_cut_and_others_are_not(edge: Edge, size: int) -> None:
    slow = await subscriber(edge)
    (cut,) = edge.hub.sockets
    async with connect(edge.url, additional_headers={"Authorization": "Bearer admin"}, max_queue=None) as fast:
        await subscribe(fast)
        count = most = 0
        while not edge.hub.closed[1013]:
            count += 1
            assert count * (size + 100) < 32 << 20
            push(edge, count, size)
            await asyncio.sleep(0)
            await fast.recv()
            most = max(most, waiting(cut))
        assert most <= Limits().queue_bytes + (size + 300) + (64 << 10)
        await (await fast.ping())
        assert edge.hub.closed.total() == 1
    slow.close()
    await until(lambda: not edge.hub.sockets)


async def test_one_loop_turn_is_bounded_too(edge: Edge) -> None:
    """Many subscriptions of a socket, one large message."""
    slow = await subscriber(edge, times=200)
    (cut,) = edge.hub.sockets
    await until(lambda: all(s._buffer is None for s in cut._session.subscriptions.values()))
    push(edge, 1, 100_000)
    assert waiting(cut) <= 2 * Limits().queue_bytes + (64 << 10)
    assert edge.hub.closed[1013] == 1
    slow.close()


def push(edge: Edge, offset: int, size: int) -> None:
    item = notification(offset, offset)
    assert item.notification is not None
    item.notification.parameters = b'"' + b"x" * size + b'"'
    edge.frontend.live(item)


def waiting(cut: Any) -> int:
    """Bytes that this process keeps for a socket."""
    kept: int = sum(map(len, cut._out)) + cut._transport.get_write_buffer_size()
    return kept


async def subscribe(client: ClientConnection) -> None:
    await client.send('{"action":"notification/subscribe"}')
    assert json.loads(await client.recv())["status"] == "success"


# -- the handshake -----------------------------------------------------------------------------------------------------


async def test_a_good_token(edge: Edge) -> None:
    async with connect(edge.url, additional_headers={"Authorization": "Bearer client"}) as client:
        await client.send('{"action":"device/get","deviceId":"mine"}')
        assert json.loads(await client.recv())["device"]["id"] == "mine"


@pytest.mark.parametrize("header", ["Bearer nonsense", "Basic x", "client", "Bearer", "Bearer late"])
async def test_a_bad_token(edge: Edge, header: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    caplog.handler.setFormatter(logs.Formatter())
    with pytest.raises(InvalidStatus) as refused:
        async with connect(edge.url, additional_headers={"Authorization": header, "X-Request-Id": "of-the-test"}):
            pass
    assert refused.value.response.headers["X-Request-Id"] == "of-the-test"
    assert "request=of-the-test" in caplog.text
    assert header not in caplog.text
    message = "Token expired" if header.endswith("late") else "Unauthorized"
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"") == {"error": 401, "message": message}
    assert not edge.hub.sockets


REFUSED = {
    "no upgrade": (handshake().replace(b"WebSocket\r", b"h2c\r"), 400),
    "no connection": (handshake().replace(b"keep-alive, Upgrade", b"keep-alive"), 400),
    "version": (handshake().replace(b"Version: 13", b"Version: 8"), 400),
    "short key": (handshake(key="eA=="), 400),
    "no base64": (handshake(key="*" * 24), 400),
    "foreign origin": (handshake("Origin: https://evil"), 403),
    "method": (handshake().replace(b"GET", b"POST"), 405),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
async def test_no_handshake(edge: Edge, sent: bytes, status: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    edge.clients.append(writer)
    writer.write(sent)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert (b"Sec-Websocket-Version: 13" in head) == (b"Version: 8" in sent)
    body = json.loads(await asyncio.wait_for(reader.readuntil(b"}"), 5))
    assert (body["error"], set(body)) == (status, {"error", "message"})


async def test_sockets_of_an_address_without_authentication_are_bounded(edge: Edge) -> None:
    waiting = [await Raw.open(edge) for _ in range(3)]
    with pytest.raises(InvalidStatus) as refused:
        async with connect(edge.url):
            pass
    assert refused.value.response.status_code == 429
    assert refused.value.response.headers["Retry-After"] == "1"
    waiting[0].writer.write(masked(TEXT, b'{"action":"authenticate","token":"client"}'))
    await waiting[0].reply()
    waiting[1].reset()
    await until(lambda: len(edge.hub.sockets) == 2)
    for _ in range(2):
        await Raw.open(edge)


async def test_behind_a_gateway_each_client_counts_by_itself(edge: Edge) -> None:
    for _ in range(3):
        await Raw.open(edge, b"", "X-Forwarded-For: 1.1.1.1, 6.6.6.6")
    assert not edge.hub.room("6.6.6.6", 3)
    assert edge.hub.room("127.0.0.1", 1)
    raw = await Raw.open(edge, b"", "X-Forwarded-For: 7.7.7.7")
    raw.writer.write(masked(TEXT, b'{"action":"token","login":"a","password":"b"}'))
    await raw.reply()
    assert [login.address for login in edge.frontend.bus.logins] == ["7.7.7.7"]


async def test_a_client_that_leaves_before_the_answer(edge: Edge) -> None:
    for _ in range(3):
        _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        edge.clients.append(writer)
        writer.write(handshake("Authorization: Bearer client"))
        Raw(_, writer).reset()
    async with connect(edge.url, origin="https://here") as client:  # type: ignore[arg-type]
        await (await client.ping())
    await until(lambda: not edge.hub.sockets)
    with pytest.raises(ConnectionClosed):
        await client.send("")
