"""Answers `api.requests`: requests of the WebSocket API by clients that have no socket here (those of MQTT)."""

from __future__ import annotations

import asyncio
import contextlib

from frontend.core.services import Services
from frontend.core.session import Session
from skep import errors
from skep.wire import messages


class Calls:
    """`answer` for `skep.bus.Serving`. rest_url: for `server/info`.

    Each call has a session of its own, which ends with the reply: what subscribes is of no use here.
    """

    def __init__(self, services: Services, rest_url: str) -> None:
        self._services, self._rest_url = services, rest_url

    async def answer(self, body: bytes) -> bytes:
        """The reply, JSON text; an error of the API is one too. Raises Unavailable."""
        call = messages.decode_api(body)
        outlet = _Outlet()
        session = Session(self._services, outlet, call.address, self._rest_url)
        try:
            if call.access_token:
                # A token that is no good leaves the caller anonymous, and the action says so in its own form.
                with contextlib.suppress(errors.Unauthorized):
                    await session.authenticate(call.access_token)
            session.receive(call.request)
            return await outlet.reply
        finally:
            session.closed()


class _Outlet:
    """Keeps the first message."""

    def __init__(self) -> None:
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def send(self, payload: bytes) -> None:
        if not self.reply.done():
            self.reply.set_result(payload)

    def close(self, code: int, reason: str) -> None:
        if not self.reply.done():
            self.reply.set_exception(errors.Unavailable())

    def pause(self, paused: bool) -> None: ...

    async def drained(self) -> None: ...
