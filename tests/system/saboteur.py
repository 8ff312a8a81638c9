"""A relay between a service and the proxy that loses one chosen thing, to prove that the checker sees it.

It changes what is inside records and never drops a frame, so that neither side's resending repairs the loss.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from skep.wire import messages, proxy, topics
from tests.system.traffic import NAME

AFTER = 40
"""How many of the flow's notifications pass before one is lost."""


class Saboteur:
    """`await start()` listens; `url` is what the service gets as BUS_URLS. One loss for each instance."""

    def __init__(self, target: str, loss: str) -> None:
        self.target, self.loss = target, loss
        self.done = False
        self.passed = 0
        self.forged: list[messages.Reply] = []

    async def start(self) -> None:
        self.server = await serve(
            self._relay, "127.0.0.1", 0, subprotocols=[proxy.SUBPROTOCOL], compression=None, max_size=None
        )
        self.url = f"ws://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self.server.close()
        await self.server.wait_closed()

    async def _relay(self, client: ServerConnection) -> None:
        headers = {"Authorization": client.request.headers["Authorization"]}
        upstream = connect(
            self.target,
            additional_headers=headers,
            subprotocols=[proxy.SUBPROTOCOL],
            compression=None,
            max_size=None,
        )
        sids: dict[int, str] = {}

        async def pump(source, sink, spoil: Callable[[bytes, dict[int, str]], bytes]) -> None:
            try:
                async for frame in source:
                    await sink.send(spoil(frame, sids))
            except ConnectionClosed:
                pass
            finally:
                await sink.close()

        async with upstream as server:
            await asyncio.gather(pump(client, server, self._outward), pump(server, client, self._inward))

    # -- what the service says -------------------------------------------------------------------------------------

    def _outward(self, data: bytes, sids: dict[int, str]) -> bytes:
        frame = proxy.decode_client(data)
        if isinstance(frame, proxy.Subscribe):
            sids[frame.sid] = frame.topic
        if self.loss != "request" or self.done or not isinstance(frame, proxy.Publish):
            return data
        for record in frame.records:
            if record.topic == topics.REQUESTS and record.payload and self._chosen(record):
                return proxy.encode(frame)
        return data

    def _chosen(self, record: proxy.Record) -> bool:
        """Turn the request into one that does nothing, and remember to tell its asker that all went well."""
        call = messages.decode_call(record.payload)
        request = messages.decode_request(call.body)
        if not isinstance(request, messages.InsertNotification) or not self._now(request.notification):
            return False
        stored = messages.Stored(request.notification.id, int(time.time() * 1000), 0)
        self.forged.append(messages.Reply(call.correlation, body=msgspec.Raw(messages.encode(stored))))
        idle = msgspec.Raw(messages.encode(messages.Marker(0)))
        record.payload = messages.encode(messages.Call(call.correlation, "", call.deadline, idle))
        return True

    # -- what it hears ---------------------------------------------------------------------------------------------

    def _inward(self, data: bytes, sids: dict[int, str]) -> bytes:
        frame = proxy.decode_proxy(data)
        if not isinstance(frame, proxy.Deliver):
            return data
        topic = sids.get(frame.sid, "")
        for record in frame.records:
            if topic.startswith("replies."):
                record.payload = self._replies(record.payload)
            elif topic.startswith("events."):
                record.payload = self._events(record.payload)
        return proxy.encode(frame)

    def _replies(self, payload: bytes) -> bytes:
        replies = messages.decode_replies(payload).replies
        if self.loss == "reply" and not self.done:
            for reply in replies:
                if not reply.code and len(bytes(reply.body)) > 10 and self._now(None):
                    replies = [each for each in replies if each is not reply]
                    break
        replies, self.forged = replies + self.forged, []
        return messages.encode(messages.Replies(replies))

    def _events(self, payload: bytes) -> bytes:
        events = messages.decode_events(payload)
        if self.loss == "event" and not self.done:
            for item in events.items:
                if item.notification and self._now(item.notification):
                    events.items = [each for each in events.items if each is not item]
                    break
        return messages.encode(events)

    def _now(self, notification: messages.Notification | None) -> bool:
        if self.done or (notification and notification.name != NAME):
            return False
        self.passed += 1
        self.done = self.passed > AFTER
        return self.done
