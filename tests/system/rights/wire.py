"""Clients that ask much at a time and take any answer: raw HTTP on kept connections, and one WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

SECONDS = 30.0
"""For one answer."""


class Answer(NamedTuple):
    """status: a WebSocket's `code`, 200 for a success; 0: the connection was closed. text: the error's, `body` all."""

    status: int
    text: str
    body: str


class Http:
    """One connection to a base URL; one request at a time."""

    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        self._address, self._prefix = (parts.hostname, parts.port), parts.path
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Http:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()
            self._writer = None

    async def ask(
        self, method: str, path: str, body: bytes | None = None, token: str | None = None, **headers: str
    ) -> Answer:
        """token: as it is in the header, bytes by Latin-1."""
        given = {"Host": "test", "Content-Length": str(len(body or b"")), **headers}
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in given.items())
        async with asyncio.timeout(SECONDS):
            return await self._ask(head.encode("latin-1") + b"\r\n" + (body or b""))

    async def _ask(self, request: bytes) -> Answer:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._address)
        assert self._reader is not None
        try:
            self._writer.write(request)
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._close()
            return Answer(0, "", "")
        length = head.partition("content-length:")[2].partition("\r\n")[0]
        is_bare = request.startswith(b"HEAD ")
        body = (await self._reader.readexactly(0 if is_bare else int(length or 0))).decode()
        if "connection: close" in head:
            await self._close()
        status = int(head.split(" ", 2)[1])
        return Answer(status, _message(body) if status >= 400 else "", body)


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["message"]) if body else ""
    except (ValueError, TypeError, KeyError):
        return body


class Socket:
    """Requests are sent at once and answered in any order; `pushed` has the rest."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count(1)
        self._reader = asyncio.ensure_future(self._read())
        self.pushed: list[str] = []

    @classmethod
    async def open(cls, url: str) -> Socket:
        return cls(await connect(url, compression=None, max_size=None, open_timeout=SECONDS))

    async def _read(self) -> None:
        try:
            async for text in self._connection:
                assert isinstance(text, str)
                message = json.loads(text)
                answer = self._waiting.pop(message.get("requestId"), None)
                if answer is None:
                    self.pushed.append(text)
                elif not answer.done():
                    answer.set_result(Answer(message.get("code", 200), message.get("error", ""), text))
        except ConnectionClosed:
            pass
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(Answer(0, "", f"closed: {self._connection.close_code}"))

    async def ask(self, message: dict[str, Any]) -> Answer:
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await self._connection.send(json.dumps({**message, "requestId": number}))
        except ConnectionClosed:
            return Answer(0, "", f"closed: {self._connection.close_code}")
        return await asyncio.wait_for(answer, SECONDS)

    async def close(self) -> None:
        await self._connection.close()
        await self._reader
