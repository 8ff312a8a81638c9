"""A plugin's socket, raw: what it is told and pushed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Message = tuple[int, str, str]
"""(action 10, 21 or 23, device, name) of a push."""


class PluginSocket:
    """`pushed`: everything in the order it came. `closed`: (code, reason) once it is."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._replies: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._change = asyncio.Condition()
        self.pushed: list[Message] = []
        self.closed: tuple[int, str] | None = None
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, url: str, token: str, topic: str, group: str | None = None) -> PluginSocket:
        """Subscribed. Raises AssertionError with the reply that was a refusal."""
        socket = cls(await connect(url, compression=None))
        for request in (
            {"t": "plugin", "a": "authenticate", "p": {"token": token}},
            {"t": "topic", "a": "subscribe", "p": {"t": [topic]} | ({"sg": group} if group else {})},
        ):
            reply = await socket.ask(request)
            if reply["s"] != 0:
                await socket.close()
                raise AssertionError(reply)
        return socket

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        await self._socket.send(json.dumps(request))
        async with asyncio.timeout(15):
            return await self._replies.get()

    async def until(self, true: Callable[[], bool], seconds: float = 15) -> None:
        """Looks at each push and at the end of the socket."""
        async with self._change:
            try:
                async with asyncio.timeout(seconds):
                    await self._change.wait_for(true)
            except TimeoutError:
                raise AssertionError(f"{self.pushed} {self.closed}") from None

    async def ends(self, seconds: float) -> tuple[int, str]:
        """How the platform closes it, within so many seconds."""
        await self.until(lambda: self.closed is not None, seconds)
        assert self.closed is not None
        return self.closed

    async def close(self) -> None:
        await self._socket.close()
        await self._reader

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self._socket:
                frame = json.loads(text)
                if frame.get("t") == "notif":
                    await self._push(json.loads(frame["p"]["m"])["b"])
                else:
                    self._replies.put_nowait(frame)
        async with self._change:
            self.closed = (self._socket.close_code or 0, self._socket.close_reason or "")
            self._change.notify_all()

    async def _push(self, body: dict[str, Any]) -> None:
        message = body["notification"] if body["a"] == 10 else body["command"]
        async with self._change:
            self.pushed.append((body["a"], message["deviceId"], message.get("notification") or message["command"]))
            self._change.notify_all()
