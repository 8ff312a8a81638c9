"""One connection: requests with their replies, pushes to the handler, confirmations back.

A server that does not announce `ack` (DeviceHive) takes the pong of its ping as confirmation; where too much waits to
be handled, nothing more is read, and so no pong is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
from functools import partial
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from skep_plugin import messages
from skep_plugin.messages import Command, Gap, Handler, Notification
from skep_plugin.work import Lanes, Place, Positions

log = logging.getLogger("plugin")

ANSWER = 30.0
"""Longest wait for a reply, seconds."""
GATHER = 0.02
"""For how long confirmations are gathered into one frame, seconds."""


class Refused(Exception):
    """The server said no; the text is its own."""


class Closed(Exception):
    """The connection ended."""


class Session:
    """Let `read` run and `open` it, then let `confirm` run; at last `unsubscribe` and `close`."""

    def __init__(self, socket: ClientConnection, handler: Handler, lanes: Lanes) -> None:
        self._socket = socket
        self._handler = handler
        self.lanes = lanes
        self._numbers = itertools.count(1)
        self._replies: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._topic = ""
        self.acknowledges = False
        """Whether the server wants confirmations of its own; else everything that is received is confirmed."""
        self._positions = Positions()
        self._handled: dict[int, int] = {}
        self._some_handled = asyncio.Event()

    # -- requests

    async def open(self, token: str, topic: str, group: str) -> None:
        """Authenticate and subscribe. Raises Refused."""
        self._topic = topic
        self.acknowledges = (await self.request("health")).get("ack") is True
        await self.authenticate(token)
        payload: dict[str, Any] = {"t": [topic]}
        if group:
            payload["sg"] = group
        if self.acknowledges:
            payload["ack"] = True
        await self.request("topic", "subscribe", payload)

    async def authenticate(self, token: str) -> None:
        await self.request("plugin", "authenticate", {"token": token})

    async def unsubscribe(self) -> None:
        """Confirm what is handled. Its reply comes after all confirmations were taken."""
        await self._send_confirmations()
        await self.request("topic", "unsubscribe", {"t": [self._topic]})

    async def close(self) -> None:
        """Confirm what is handled, and close."""
        with contextlib.suppress(ConnectionClosed):
            await self._send_confirmations()
        await self._socket.close()

    async def request(self, kind: str, action: str = "", payload: dict[str, Any] | None = None) -> dict[str, Any]:
        """The reply's payload. Raises Refused, Closed, TimeoutError."""
        id = str(next(self._numbers))
        frame = {"id": id, "t": kind, "a": action or None, "p": payload}
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[id] = reply
        try:
            await self._socket.send(json.dumps({key: value for key, value in frame.items() if value is not None}))
            async with asyncio.timeout(ANSWER):
                answer = await reply
        finally:
            del self._replies[id]
        if answer.get("s"):
            raise Refused(f"{kind} {action}: {answer.get('p', {}).get('m', 'refused')}".replace("  ", " "))
        return answer.get("p", {})

    # -- what comes in

    async def read(self) -> None:
        """Until the connection ends. Raises Closed."""
        try:
            with contextlib.suppress(ConnectionClosed):
                async for text in self._socket:
                    frame = json.loads(text)
                    for element in frame if isinstance(frame, list) else [frame]:
                        await self._take(element)
        finally:
            closed = Closed(
                f"the connection ended: {self._socket.close_code} {self._socket.close_reason or ''}".strip()
            )
            for reply in self._replies.values():
                if not reply.done():
                    reply.set_exception(closed)
        raise closed

    async def _take(self, frame: dict[str, Any]) -> None:
        if "id" in frame:
            reply = self._replies.get(frame["id"])
            if reply is not None and not reply.done() and frame["t"] != "ack":
                reply.set_result(frame)
        elif frame["t"] == "notif":
            await self._pushed(frame.get("p", {}))
        elif frame.get("s"):
            log.warning("the server complains: %s", frame.get("p", {}).get("m"))

    async def _pushed(self, payload: dict[str, Any]) -> None:
        if "gap" in payload:
            await self._handler.on_gap(Gap(payload["part"], *payload["gap"]))
            return
        place = self._positions.received(payload["part"], payload["off"]) if self.acknowledges else None
        try:
            message = messages.parse(payload["m"])
        except (ValueError, KeyError, TypeError) as error:
            log.warning("passed over a message that can't be read (%r): %.200s", error, payload.get("m"))
            self._done(place)
            return
        await self.lanes.put(message.device_id, partial(self._handle, message, place))

    async def _handle(self, message: Notification | Command, place: Place | None) -> None:
        if isinstance(message, Notification):
            await self._handler.on_notification(message)
        elif message.is_update:
            await self._handler.on_command_update(message)
        else:
            await self._handler.on_command(message)
        self._done(place)

    # -- confirmations

    def _done(self, place: Place | None) -> None:
        if place is not None and (offset := self._positions.done(place)) is not None:
            self._handled[place.partition] = offset
            self._some_handled.set()

    async def confirm(self) -> None:
        """For ever: tell the server what is handled."""
        while True:
            await self._some_handled.wait()
            await asyncio.sleep(GATHER)
            await self._send_confirmations()

    async def _send_confirmations(self) -> None:
        self._some_handled.clear()
        handled, self._handled = self._handled, {}
        if handled:
            places = [{"t": self._topic, "part": partition, "off": offset} for partition, offset in handled.items()]
            await self._socket.send(json.dumps([{"t": "ack", "p": place} for place in places]))
