"""`skep.web.Server` over real sockets on loopback: what clients, gateways and attackers send."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from msgspec import Struct
from tornado.web import RequestHandler

from skep import errors, logs, settings, tokens, web
from skep.access import Action, User
from skep.errors import SkepError
from skep.tokens import Claims, Keys

KEYS = Keys.parse("k" * 32)
USER = User(1, "x", 1, 0, frozenset({1}))
TOKEN = tokens.encode(Claims(1, [3], ["*"], ["*"], 2**52), KEYS)
BEARER = f"Authorization: Bearer {TOKEN}"


class Query(Struct):
    take: int = 1


class Body(Struct):
    name: str


class Seen:
    """What the handlers were told; the context's `app`."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.polling = asyncio.Event()
        self.works = True

    async def health(self) -> dict[str, bool]:
        return {"part": self.works}


async def only_one(ctx: web.Context, device_id: str) -> None:
    if device_id == "foreign":
        raise errors.Forbidden


@web.route("GET", "/device/{id}", action=Action.GET_DEVICE, query=Query, guard=only_one)
async def get_device(ctx: web.Context, device_id: str, query: Query) -> dict[str, Any]:
    return {"id": device_id, "take": query.take, "user": ctx.caller.user_id}


@web.route("DELETE", "/device/{id}", action=Action.REGISTER_DEVICE, status=204)
async def delete_device(ctx: web.Context, device_id: str) -> None: ...


@web.route("POST", "/echo", action=None, body=Body, status=201)
async def echo(ctx: web.Context, body: Body) -> dict[str, Any]:
    return {"name": body.name}


@web.route("PUT", "/association", action=None, status=204)
async def association(ctx: web.Context) -> None: ...


@web.route("GET", "/me", action=None)
async def me(ctx: web.Context) -> dict[str, Any]:
    return {"address": ctx.address, "id": ctx.request_id, "secure": ctx.secure}


@web.route("GET", "/text", action=None)
async def text(ctx: web.Context) -> web.Response:
    return web.Response(b"welcome", 200, "text/plain")


@web.route("GET", "/fail/{how}", action=None)
async def fail(ctx: web.Context, how: str) -> None:
    failures: dict[str, Exception] = {
        "busy": errors.TooManyRequests(retry_after=7),
        "away": errors.Unavailable(),
        "empty": errors.NotFound(""),
        "late": TimeoutError(),
    }
    detail = ZeroDivisionError("secret detail")
    if how == "below":  # as an adapter wraps it
        raise errors.Internal from detail
    raise failures.get(how) or detail


@web.route("GET", "/poll", action=None)
async def poll(ctx: web.Context) -> None:
    ctx.app.polling.set()
    await ctx.closed.wait()
    ctx.app.closed.set()


class Extra(RequestHandler):
    def get(self) -> None:
        self.write("extra")


ROUTES = web.collect(get_device, delete_device, echo, association, me, text, fail, poll)
ROUTES += [web.info_route("/api/websocket")]


@pytest.fixture
def seen() -> Seen:
    return Seen()


def made(seen: Seen, config: settings.Edge | None = None, **given: Any) -> web.Server:
    async def user(id: int) -> User | None:
        return USER if id == 1 else None

    return web.Server(
        ROUTES,
        "/api/rest",
        config or settings.Edge(),
        web.Authenticator(KEYS, user),
        seen,
        extra_handlers=[(r"/api/websocket", Extra)],
        health=seen.health,
        **given,
    )


@pytest.fixture
async def port(seen: Seen) -> AsyncIterator[int]:
    server = made(seen)
    yield server.listen(0)
    await server.close()


class Answer(Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        assert self.json["error"] == self.status
        return self.status, self.json["message"]


async def raw(port: int, data: bytes) -> bytes:
    """Everything that comes back until the server closes or nothing more can come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


async def cut(port: int, data: bytes) -> None:
    """The server closes without an answer; what it did not read makes the close a reset."""
    with contextlib.suppress(ConnectionResetError):
        assert await raw(port, data) == b""


async def ask(port: int, line: str, *headers: str, body: bytes | None = None, prefix: str = "/api/rest") -> Answer:
    method, _, path = line.partition(" ")
    lines = [f"{method} {prefix}{path} HTTP/1.1", "Host: here:1", "Connection: close", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return parsed(await raw(port, "\r\n".join([*lines, "", ""]).encode() + (body or b"")))


def parsed(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), {k.lower(): v for k, v in headers.items()}, body)


# -- who may ---------------------------------------------------------------------------------------------------------


async def test_with_a_token(port: int) -> None:
    answer = await ask(port, "GET /device/a%2Fb?take=5", BEARER)
    assert (answer.status, answer.json) == (200, {"id": "a/b", "take": 5, "user": 1})
    assert answer.headers["content-type"] == "application/json"


async def test_without_or_with_a_bad_token(port: int) -> None:
    assert (await ask(port, "GET /device/a")).error == (401, "Unauthorized")
    for header in ("Basic x", "Bearer", "Bearer x", f"bearer {TOKEN}", f"Bearer {TOKEN}x"):
        for path in ("/device/a", "/me", "/nope"):  # on public and unknown paths too
            assert (await ask(port, f"GET {path}", f"Authorization: {header}")).error == (401, "Unauthorized")
    two = await ask(port, "GET /me", BEARER, BEARER)
    assert two.error == (401, "Unauthorized")


async def test_order_of_the_checks(port: int) -> None:
    assert (await ask(port, "PUT /device/a")).status == 405  # before the permission
    assert (await ask(port, "DELETE /device/a", BEARER)).error == (403, "Access is denied")
    assert (await ask(port, "GET /device/a?take=x")).status == 401  # the permission before parameters
    assert (await ask(port, "GET /device/foreign?take=x", BEARER)).status == 403
    assert (await ask(port, "GET /device/a?take=x", BEARER)).status == 404


# -- methods and paths -----------------------------------------------------------------------------------------------


async def test_missing(port: int) -> None:
    for path in ("/nope", "/device", "/DEVICE/a", "/../rest/me", ""):
        assert (await ask(port, f"GET {path}")).error == (404, "HTTP 404 Not Found")
    assert (await ask(port, "GET /", prefix="")).error == (404, "HTTP 404 Not Found")


async def test_wrong_method(port: int) -> None:
    answer = await ask(port, "PATCH /device/a")
    assert answer.error == (405, "HTTP 405 Method Not Allowed")
    assert answer.headers["allow"] == "DELETE, GET"


async def test_method_override(port: int) -> None:
    answer = await ask(port, "POST /device/a", "X-HTTP-Method-Override: DELETE", BEARER, body=b"")
    assert answer.status == 403
    answer = await ask(port, "POST /me", "X-HTTP-Method-Override: HEAD", body=b"")
    assert (answer.status, answer.body) == (200, b"")
    assert (await ask(port, "POST /me", "X-HTTP-Method-Override: GET", body=b"")).status == 405
    assert (await ask(port, "GET /device/a", "X-HTTP-Method-Override: DELETE", BEARER)).status == 200


async def test_head_and_options(port: int) -> None:
    got, head = await ask(port, "GET /text"), await ask(port, "HEAD /text")
    assert (got.body, head.body) == (b"welcome", b"")
    assert got.headers["content-length"] == head.headers["content-length"] == "7"
    options = await ask(port, "OPTIONS /device/a", "Origin: https://x", "Authorization: Bearer bad")
    assert (options.status, options.body) == (204, b"")
    assert (await ask(port, "OPTIONS /nope")).status == 404


async def test_cors_without_credentials(port: int) -> None:
    for answer in (await ask(port, "GET /me", "Origin: https://evil"), await ask(port, "GET /nope")):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-allow-methods"] == "OPTIONS, GET, POST, PUT, DELETE, HEAD"
        assert "Auth-DeviceKey" in answer.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_configured_origins(seen: Seen) -> None:
    server = made(seen, replace(settings.Edge(), cors_origins=("https://a", "https://b")))
    port = server.listen(0)
    allowed = [(await ask(port, "GET /me", f"Origin: {o}")).headers for o in ("https://b", "https://evil")]
    assert [headers["access-control-allow-origin"] for headers in allowed] == ["https://b", "https://a"]
    assert allowed[0]["vary"] == "Origin"
    await server.close()


# -- bodies ----------------------------------------------------------------------------------------------------------


async def test_body(port: int) -> None:
    for headers in ([], ["Content-Type: application/json"], ["Content-Type: text/plain"]):
        answer = await ask(port, "POST /echo", *headers, body=b'{"name": 5, "x": 1}')
        assert (answer.status, answer.json) == (201, {"name": "5"})


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"name": []}', b"\xff", b"[" * 100_000, b'{"a":' * 10_000])
async def test_bad_body(port: int, body: bytes) -> None:
    assert (await ask(port, "POST /echo", body=body)).error == (400, "Invalid request parameters")


async def test_no_body(port: int) -> None:
    status, message = (await ask(port, "POST /echo", body=b"")).error
    assert status == 400
    assert message.startswith("Error! Validation failed")
    answer = await ask(port, "PUT /association", "Content-Type: application/json")
    assert (answer.status, answer.body) == (204, b"")
    assert "content-length" not in answer.headers


LIMIT = 1 << 20


async def test_a_body_of_exactly_the_limit(port: int) -> None:
    body = b'{"name": "' + b"x" * (LIMIT - 12) + b'"}'
    assert len(body) == LIMIT
    assert (await ask(port, "POST /echo", body=body)).status == 201


@pytest.mark.parametrize("path", ["/echo", "/device/a", "/nope"])
async def test_too_large_is_told_before_it_is_sent(port: int, path: str) -> None:
    head = f"POST /api/rest{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {LIMIT + 1}\r\n\r\n"
    assert parsed(await raw(port, head.encode())).error == (413, "Request body is too large")
    head = f"POST /api/rest{path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
    assert parsed(await raw(port, head.encode())).status == 413


async def test_too_large_is_told_to_who_sends_all_before_it_reads(port: int) -> None:
    size = 8 * LIMIT
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST /api/rest/echo HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        for _ in range(64):
            writer.write(b"x" * (size // 64))
            await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 413")


async def test_too_large_in_chunks(port: int) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head = b"POST /api/rest/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + chunk * 17)
    async with asyncio.timeout(5):
        answer = parsed(await reader.read())
    writer.close()
    assert answer.error == (413, "Request body is too large")


# -- raw HTTP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        "POST /api/rest/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /api/rest/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "POST /api/rest/echo HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        "POST /api/rest/echo HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
        "POST /api/rest/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "GET /api/rest/me\r\n\r\n",
        "GET http://here/api/rest/me HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n",
        "GET /api/rest/me HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        "GET /api/rest/me HTTP/1.1\r\nHost: x\r\nBad\x00Name: y\r\n\r\n",
    ],
)
async def test_malformed_http(port: int, head: str) -> None:
    answer = await raw(port, head.encode("latin-1"))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") <= 1


async def test_large_headers(port: int) -> None:
    await cut(port, b"GET /api/rest/me HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000 + b"\r\n\r\n")


async def test_keep_alive_and_pipelining(port: int) -> None:
    one = b"GET /api/rest/text HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /api/rest/text HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert (await raw(port, one * 3 + last)).count(b"welcome") == 4


async def test_slow_headers_and_bodies_are_cut(seen: Seen) -> None:
    server = made(seen, header_seconds=0.1, body_seconds=0.1)
    port = server.listen(0)
    assert await raw(port, b"GET /api/rest/me HTTP/1.1\r\nHo") == b""
    assert await raw(port, b"POST /api/rest/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{") == b""
    await server.close()


# -- errors ----------------------------------------------------------------------------------------------------------


async def test_errors(port: int) -> None:
    busy = await ask(port, "GET /fail/busy")
    assert (busy.status, busy.headers["retry-after"]) == (429, "7")
    for how in ("away", "late"):
        away = await ask(port, f"GET /fail/{how}")
        assert (away.status, away.headers["retry-after"]) == (503, "1")
    empty = await ask(port, "GET /fail/empty")
    assert (empty.status, empty.body) == (404, b"")


@pytest.mark.parametrize("how", ["badly", "below"])
async def test_a_defect_tells_nothing(port: int, caplog: pytest.LogCaptureFixture, how: str) -> None:
    caplog.handler.setFormatter(logs.Formatter())
    answer = await ask(port, f"GET /fail/{how}", "X-Request-Id: abc-1")
    assert answer.error == (500, "Internal server error")
    assert "secret detail" in caplog.text
    assert " request=abc-1 " in caplog.text


# -- the rest --------------------------------------------------------------------------------------------------------


async def test_every_error_is_logged_with_its_request(port: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    caplog.handler.setFormatter(logs.Formatter())
    asked = (
        ("GET /device/a", "GET /device/{id}: 401 Unauthorized"),
        ("GET /nope", "-: 404 HTTP 404 Not Found"),
        ("PUT /me", "-: 405 HTTP 405 Method Not Allowed"),
        ("GET /fail/busy", "GET /fail/{how}: 429 Too many requests"),
        ("GET /fail/away", "GET /fail/{how}: 503 Service is not available, try again"),
        ("GET /fail/empty", "GET /fail/{how}: 404 "),
    )
    for number, (line, logged) in enumerate(asked):
        answer = await ask(port, line, f"X-Request-Id: asked-{number}")
        assert answer.headers["x-request-id"] == f"asked-{number}"
        assert f'request=asked-{number} msg="{logged}"' in caplog.text
    await ask(port, "POST /echo", "X-Request-Id: large", "Content-Length: 2000000", "Expect: 100-continue")
    assert 'request=large msg="-: 413 Request body is too large"' in caplog.text
    await ask(port, "GET /me", "X-Request-Id: fine")
    assert "request=fine" not in caplog.text


async def test_request_id(port: int) -> None:
    own = await ask(port, "GET /me", "X-Request-Id: abc-1")
    assert own.json["id"] == own.headers["x-request-id"] == "abc-1"
    made_up = await ask(port, "GET /me", "X-Request-Id: <script>")
    assert made_up.json["id"] == made_up.headers["x-request-id"] != "<script>"


async def test_address(port: int, seen: Seen) -> None:
    forwarded = "X-Forwarded-For: 6.6.6.6, 5.5.5.5, 127.0.0.9"
    assert (await ask(port, "GET /me", forwarded)).json["address"] == "127.0.0.1"
    server = made(seen, replace(settings.Edge(), trusted_proxies=("127.0.0.0/8",)))
    trusting = server.listen(0)
    assert (await ask(trusting, "GET /me", forwarded)).json["address"] == "5.5.5.5"
    assert (await ask(trusting, "GET /me")).json["address"] == "127.0.0.1"
    await server.close()


async def test_info(port: int) -> None:
    info = (await ask(port, "GET /info")).json
    assert set(info) == {"apiVersion", "serverTimestamp", "webSocketServerUrl"}
    assert info["webSocketServerUrl"] == "ws://here:1/api/websocket"
    secure = (await ask(port, "GET /info", "X-Forwarded-Proto: https")).json
    assert secure["webSocketServerUrl"] == "wss://here:1/api/websocket"


async def test_extra_handlers(port: int) -> None:
    assert (await ask(port, "GET /api/websocket", prefix="")).body == b"extra"
    head = f"POST /api/websocket HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * LIMIT}\r\n\r\n"
    await cut(port, head.encode() + b"x" * (LIMIT + 1))


async def test_health_and_metrics(port: int, seen: Seen) -> None:
    for prefix in ("", "/api/rest"):
        answer = await ask(port, "GET /health", prefix=prefix)
        assert (answer.status, answer.json) == (200, {"status": "ok", "parts": {"part": True}})
    seen.works = False
    assert (await ask(port, "GET /health")).status == 503
    await ask(port, "GET /device/secret-name", BEARER)
    page = (await ask(port, "GET /metrics")).body.decode()
    assert 'skep_http_requests_total{route="GET /device/{id}",status="200"} 1' in page
    assert "secret-name" not in page


async def test_a_poll_learns_that_its_client_has_gone(port: int, seen: Seen) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /api/rest/poll HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(5):
        await seen.polling.wait()
        assert not seen.closed.is_set()
        writer.close()
        await seen.closed.wait()


async def test_too_many_at_a_time(port: int, seen: Seen) -> None:
    server = made(seen)
    server.max_in_flight = 1
    limited = server.listen(0)
    _, writer = await asyncio.open_connection("127.0.0.1", limited)
    writer.write(b"GET /api/rest/poll HTTP/1.1\r\nHost: x\r\n\r\n")
    await seen.polling.wait()
    assert (await ask(limited, "GET /me")).status == 503
    writer.close()
    await seen.closed.wait()
    await server.close()


async def test_close_ends_what_is_left(seen: Seen) -> None:
    server = made(seen)
    port = server.listen(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /api/rest/poll HTTP/1.1\r\nHost: x\r\n\r\n")
    await seen.polling.wait()
    await server.close(grace=0.05)
    async with asyncio.timeout(5):
        assert parsed(await reader.read()).status == 503
    writer.close()


async def test_a_port_in_use(port: int, seen: Seen) -> None:
    with pytest.raises(OSError, match=f"port {port} is in use"):
        made(seen).listen(port)
    with socket.socket() as probe:  # and nothing was left bound by the try
        assert probe.connect_ex(("127.0.0.1", port)) == 0


def test_every_error_has_a_status() -> None:
    assert all(issubclass(kind, SkepError) and kind.status == status for status, kind in errors.BY_STATUS.items())
