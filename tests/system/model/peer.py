"""A WebSocket as a client sees it: every text in the order it came, to one callback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed


class Peer:
    """on_text(text), on_end(): called while the event loop runs, also when nobody waits for anything."""

    def __init__(self, socket: ClientConnection, on_text: Callable[[str], None], on_end: Callable[[], None]) -> None:
        self._socket, self._on_text, self._on_end = socket, on_text, on_end
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls, url: str, on_text: Callable[[str], None], on_end: Callable[[], None], token: str | None = None
    ) -> Peer:
        """token: for the handshake."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # No pings of its own: between two steps of a run nobody reads.
        socket = await connect(
            url, compression=None, max_size=None, open_timeout=10, ping_interval=None, additional_headers=headers
        )
        return cls(socket, on_text, on_end)

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self._socket:
                assert isinstance(text, str)
                self._on_text(text)
        self._on_end()

    async def send(self, text: str) -> None:
        await self._socket.send(text)

    @property
    def close_code(self) -> int | None:
        return self._socket.close_code

    async def close(self) -> None:
        await self._socket.close()
        await self._reader

    async def abort(self) -> None:
        """Without a close handshake; what is on its way is lost."""
        self._socket.transport.abort()
        await self._reader
