"""The listener: WebSocket for the dialects, `/health` over HTTP.

Who asks for the subprotocol `skep.bus.1` speaks the service dialect and must show a service token in the handshake;
who asks for none speaks the JSON dialect, whose handler judges tokens by itself.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from msgspec import Struct
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from skep import logs, tokens
from skep.errors import Unauthorized
from skep.wire import topics
from skep.wire.proxy import MAX_FRAME, SUBPROTOCOL

log = logs.get("bus.server")
_quiet = logging.getLogger("bus.websockets")
_quiet.setLevel(logging.CRITICAL)
"""The library's own lines: a traceback for every port scan. What matters is logged here."""

Handler = Callable[[ServerConnection], Awaitable[None]]
Health = Callable[[], Awaitable[tuple[bool, object]]]

OPEN_SECONDS = 5.0
CLOSE_SECONDS = 1.0
WRITE_BUFFER = 1 << 20
"""Bytes a socket may buffer before its sender waits."""


class Options(Struct, frozen=True):
    """ping_*: seconds. max_frame: bytes, past which a socket is closed with 1009. max_queue: frames read ahead."""

    host: str
    port: int
    ping_interval: float = 1.5
    ping_timeout: float = 2.5
    max_frame: int = MAX_FRAME
    max_queue: int = 16


class Listener:
    """service, json: what serves a socket of each dialect, None refuses it with 400. health: whether all is well, and
    a report to show. `accepting` false: sockets are refused with 503."""

    def __init__(
        self,
        options: Options,
        health: Health,
        secret: str,
        service: Handler | None,
        json: Handler | None,
        clock: Callable[[], int],
    ) -> None:
        self.accepting = True
        self.port = options.port
        self._options = options
        self._health = health
        self._secret = secret
        self._service = service
        self._json = json
        self._clock = clock
        self._server: WebSocketServer | None = None

    async def start(self) -> None:
        """Listen; `port` is the real one then. Raises OSError."""
        options = self._options
        self._server = await serve(
            self._serve,
            options.host,
            options.port,
            select_subprotocol=_choose,
            process_request=self._request,
            compression=None,
            max_size=options.max_frame,
            max_queue=options.max_queue,
            write_limit=WRITE_BUFFER,
            ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            server_header=None,
            logger=_quiet,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Close every socket with 1001."""
        self.accepting = False
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def identify(self, request: Request | None) -> tuple[str, str]:
        """(service, instance) of the handshake. Raises Unauthorized."""
        value = None if request is None else request.headers.get("Authorization")
        kind, _, token = (value or "").partition(" ")
        if kind.lower() != "bearer":
            raise Unauthorized("a service token is required")
        service, instance = tokens.decode_service(token.strip(), self._secret, self._clock())
        if service not in topics.RIGHTS or not topics.NAME.fullmatch(instance):
            raise Unauthorized(f"unknown service {service} or bad instance name")
        return service, instance

    async def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path.partition("?")[0] == "/health":
            well, report = await self._health()
            return _answer(200 if well else 503, report)
        if "upgrade" not in request.headers:
            return _answer(426, {"error": 426, "message": "a WebSocket is expected here"})
        if not self.accepting:
            return _answer(503, {"error": 503, "message": "this proxy is not the writer of the log"})
        if _wants_service(request):
            try:
                self.identify(request)
            except Unauthorized as error:
                return _answer(401, {"error": 401, "message": error.text})
            handler = self._service
        else:
            handler = self._json
        return (
            None if handler is not None else _answer(400, {"error": 400, "message": "this dialect is not spoken here"})
        )

    async def _serve(self, connection: ServerConnection) -> None:
        handler = self._service if connection.subprotocol == SUBPROTOCOL else self._json
        assert handler is not None
        try:
            await handler(connection)
        except Exception:
            log.exception("a socket failed")


def _wants_service(request: Request) -> bool:
    offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
    return SUBPROTOCOL in (name.strip() for name in offered.split(","))


def _choose(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


def _answer(status: int, body: object) -> Response:
    encoded = msgspec.json.encode(body)
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(encoded)), "Connection": "close"})
    return Response(status, http.HTTPStatus(status).phrase, headers, encoded)
