"""The WebSocket handshake (RFC 6455 §4.2) by Tornado; afterwards the socket is `socket.Socket`'s."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from http import HTTPStatus
from typing import Any

from tornado.iostream import IOStream, StreamClosedError
from tornado.web import RequestHandler

from frontend.api.socket import Hub, Socket
from frontend.core.services import Services
from skep import errors, logs
from skep.web import bearer
from skep.web import json as web_json

log = logs.get("frontend")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Upgrade(RequestHandler):
    """rest_url: prefix of the REST API. origins: allowed `Origin` headers, "*" for any. per_address: most sockets of
    one address that have not authenticated; 0: any number."""

    def initialize(
        self, hub: Hub, services: Services, rest_prefix: str, origins: tuple[str, ...], per_address: int
    ) -> None:
        self._hub, self._services, self._rest_prefix = hub, services, rest_prefix
        self._origins, self._per_address = origins, per_address

    def set_default_headers(self) -> None:
        self.clear_header("Server")

    async def get(self) -> None:
        try:
            key = self._key()
            socket = await self._socket()
        except errors.SkepError as error:
            if error.retry_after is not None:
                self.set_header("Retry-After", str(error.retry_after))
            self._refuse(error.status, error.text)
            return
        await self._accept(key, socket)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """What Tornado refuses itself, e.g. another method."""
        self._refuse(status_code, f"HTTP {status_code} {HTTPStatus(status_code).phrase}")

    def _refuse(self, status: int, text: str) -> None:
        log.info("WebSocket: %d %s", status, text)
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.set_header("X-Request-Id", logs.request_id.get())
        self.finish(web_json.encode({"error": status, "message": text}))

    def _key(self) -> bytes:
        """Raises BadRequest for what is no handshake, Forbidden for a foreign origin."""
        headers = self.request.headers
        connection = [part.strip().lower() for part in headers.get("Connection", "").split(",")]
        if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in connection:
            raise errors.BadRequest("This is a WebSocket")
        if headers.get("Sec-WebSocket-Version") != "13":
            self.set_header("Sec-WebSocket-Version", "13")
            raise errors.BadRequest("WebSocket version 13 is wanted")
        origin = headers.get("Origin")
        if origin is not None and "*" not in self._origins and origin not in self._origins:
            raise errors.Forbidden
        key = headers.get("Sec-WebSocket-Key", "")
        try:
            if len(base64.b64decode(key, validate=True)) != 16:
                raise errors.BadRequest
        except (binascii.Error, ValueError):
            raise errors.BadRequest from None
        return key.encode()

    async def _socket(self) -> Socket:
        """Raises Unauthorized for a token that is no good, TooManyRequests."""
        token = bearer(self.request.headers.get("Authorization"))
        address = self.settings["client_address"](self.request.headers, self.request.remote_ip or "")
        if not self._hub.room(address, self._per_address):
            raise errors.TooManyRequests
        socket = Socket(self._hub, self._services, address, f"http://{self.request.host}{self._rest_prefix}")
        try:
            if token is not None:
                await socket.authenticate(token)
        except BaseException:
            socket.connection_lost(None)
            raise
        return socket

    async def _accept(self, key: bytes, socket: Socket) -> None:
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324 - as the RFC says
        self.clear_header("Content-Type")
        self.set_status(HTTPStatus.SWITCHING_PROTOCOLS)
        self.set_header("Upgrade", "websocket")
        self.set_header("Connection", "Upgrade")
        self.set_header("Sec-WebSocket-Accept", accept)
        try:
            await self.finish()
            await hand_over(self.detach(), socket)
        except (StreamClosedError, OSError):
            socket.connection_lost(None)


async def hand_over(stream: Any, socket: Socket) -> None:
    """Give the connection to an asyncio transport: a duplicate of the descriptor lives on, Tornado's is closed."""
    assert isinstance(stream, IOStream)
    early = []
    while True:  # what the client sent without waiting for the handshake's answer
        read = asyncio.ensure_future(stream.read_bytes(1 << 16, partial=True))
        if not read.done():
            break
        early.append(read.result())
    duplicate = stream.socket.dup()
    duplicate.setblocking(False)
    stream.close()
    read.exception() if read.done() else read.add_done_callback(lambda done: done.exception())
    await asyncio.get_running_loop().connect_accepted_socket(lambda: socket, duplicate)
    if early:
        socket.data_received(b"".join(early))
