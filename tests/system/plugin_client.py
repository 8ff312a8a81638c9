"""A plugin as it may be written by anybody: connects, authenticates, subscribes, comes back; and remembers what it got.

Confirmed is what the proxy has promised not to send again: with `ack` what it answered, without what was followed by a
pong of ours on a connection that lived on for a while, so that the pong must have arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
import urllib.parse
from collections import deque
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol

from skep import tokens
from tests.system.checker import Key, Push, Reading, Sent, read
from tests.system.suite import Suite
from tests.system.traffic import NAME, call

SURE = 0.5
"""Seconds that a connection has to live behind a pong."""
QUIET = 0.1
"""Seconds without a push after which it acknowledges what it has: a partition may wait for that to move on."""
WITHIN = 30.0
AGAIN = 0.1
NUMBERS = itertools.count(1)


@dataclass
class Registered:
    """A plugin as its author knows it after POST."""

    topic: str
    access: str
    refresh: str
    endpoint: str


def register(suite: Suite, query: str, name: str = "a-plugin", rest: str = "") -> Registered:
    """With the plugin service, or with the frontend where `rest` is its base."""
    url = f"{rest or suite.plugin_manager}/plugin?{query}"
    made = call("POST", url, {"name": name, "description": "of a test", "parameters": {}}, suite.token())
    return Registered(made["topicName"], made["accessToken"], made["refreshToken"], made["proxyEndpoint"])


def shown(suite: Suite, topic: str) -> dict:
    """The plugin's REST representation."""
    [found] = call("GET", f"{suite.plugin_manager}/plugin?topicName={topic}", token=suite.token())
    return found


def change(suite: Suite, topic: str, **fields: str) -> None:
    query = urllib.parse.urlencode({"topicName": topic} | fields)
    call("PUT", f"{suite.plugin_manager}/plugin?{query}", token=suite.token())


def delete(suite: Suite, topic: str) -> None:
    call("DELETE", f"{suite.plugin_manager}/plugin?topicName={topic}", token=suite.token())


async def read_up(suite: Suite, topic: str, within: float = 30.0) -> int:
    """Until every group of the plugin has confirmed all that came; how many records its stream has had."""
    deadline = time.monotonic() + within
    while True:
        found = await asyncio.to_thread(shown, suite, topic)
        groups = found.get("positions") or []
        if groups and found["lag"] == 0:
            return sum(partition["end"] for partition in groups[0]["partitions"])
        assert time.monotonic() < deadline, f"not confirmed: {found}"
        await asyncio.sleep(0.1)


async def topics(suite: Suite) -> list[str]:
    """Of the bus, as a tool sees them at the core proxy."""
    expires = int((time.time() + 60) * 1000)
    token = tokens.encode_service("tool", "tool-1", suite.secret("bus_secret"), expires)
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(suite.bus, additional_headers=headers, proxy=None) as socket:
        await socket.send(json.dumps({"t": "topic", "a": "list"}))
        return json.loads(await socket.recv())["p"]["t"]


class Refused(Exception):
    """The proxy answered a request with s:1."""


class Socket:
    """One connection. `pushes`: of the numbered messages of `traffic.py`, in order."""

    def __init__(self, connection: ClientConnection, pushes: list[Push]) -> None:
        self.connection = connection
        self.number = next(NUMBERS)
        self.pushes = pushes
        self.others: list[dict] = []
        self.own: list[Push] = []
        self.ponged: deque[tuple[float, int]] = deque()
        self.sure = 0
        self.pushed = asyncio.Event()
        self.ended: float | None = None
        self.replies: asyncio.Queue[dict] = asyncio.Queue()
        self._come = self._handled = 0
        self._held: deque[tuple[int, Frame]] = deque()
        self._hold(connection.protocol)

    def _hold(self, protocol: Protocol) -> None:
        """The library answers a ping when it comes, and what came before it may not be with us yet: hold the pong."""
        self._send, receive = protocol.send_frame, protocol.recv_frame

        def receiving(frame: Frame) -> None:
            self._come += frame.opcode is Opcode.TEXT
            receive(frame)

        def sending(frame: Frame) -> None:
            if frame.opcode is Opcode.PONG and self._come > self._handled:
                self._held.append((self._come, frame))
            else:
                self._note(frame)
                self._send(frame)

        protocol.recv_frame, protocol.send_frame = receiving, sending

    def _note(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PONG:
            self.ponged.append((time.monotonic(), len(self.own)))

    def handled(self) -> None:
        """One message more; what pongs waited for it leave."""
        self._handled += 1
        while self._held and self._held[0][0] <= self._handled:
            _, frame = self._held.popleft()
            self._note(frame)
            self._send(frame)
            self.connection.send_data()

    async def ask(self, kind: str, action: str, **payload: object) -> dict:
        await self.connection.send(json.dumps({"id": "r", "t": kind, "a": action, "p": payload}))
        reply = await asyncio.wait_for(self.replies.get(), WITHIN)
        if reply["s"]:
            raise Refused(reply["p"]["m"])
        return reply

    def settle(self) -> None:
        """What was in front of a pong that must have arrived is confirmed."""
        until = self.ended or time.monotonic()
        while self.ponged and until - self.ponged[0][0] > SURE:
            at, count = self.ponged.popleft()
            for push in self.own[self.sure : count]:
                push.confirmed = at
            self.sure = max(self.sure, count)

    def take(self, frame: dict) -> Push | None:
        body = json.loads(frame["p"]["m"])["b"]
        note = body.get("notification") or {}
        if note.get("notification") != NAME:
            self.others.append(body)
            return None
        parameters = note["parameters"]
        push = Push((parameters["sender"], parameters["sequence"]), note["id"], time.monotonic(), self.number)
        self.own.append(push)
        self.pushed.set()
        self.pushes.append(push)
        return push


@dataclass
class PluginClient:
    """group, ack: of its subscription. every: pushes of a partition that one `ack` covers, fewer when it is quiet.
    urls: tried in turn."""

    plugin: Registered
    urls: list[str]
    group: str | None = None
    ack: bool = False
    every: int = 5
    pushes: list[Push] = field(default_factory=list)
    sockets: list[Socket] = field(default_factory=list)
    reasons: list[tuple[int | None, str | None]] = field(default_factory=list)
    task: asyncio.Task | None = None

    async def start(self) -> None:
        """Until subscribed."""
        subscribed = asyncio.Event()
        self.task = asyncio.create_task(self._live(subscribed))
        waiting = asyncio.create_task(subscribed.wait())
        await asyncio.wait((self.task, waiting), timeout=WITHIN, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.task.done():
            self.task.result()
        assert subscribed.is_set(), self.reasons

    async def kill(self) -> None:
        """As the kernel does it: the connection is gone, and nothing was said."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.task = None

    async def _live(self, subscribed: asyncio.Event) -> None:
        for url in itertools.cycle(self.urls):
            with contextlib.suppress(OSError, WebSocketException, TimeoutError, Refused):
                connection = await connect(url, compression=None, max_queue=None, open_timeout=5, proxy=None)
                socket = Socket(connection, self.pushes)
                self.sockets.append(socket)
                opening = asyncio.create_task(self._open(socket, subscribed))
                try:
                    await self._read(socket)
                finally:
                    connection.transport.abort()
                    opening.cancel()
                    [outcome] = await asyncio.gather(opening, return_exceptions=True)
                    socket.ended = time.monotonic()
                    self.reasons.append((connection.close_code, connection.close_reason))
                    if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketException):
                        raise outcome
            await asyncio.sleep(AGAIN)

    async def _open(self, socket: Socket, subscribed: asyncio.Event) -> None:
        try:
            await socket.ask("plugin", "authenticate", token=self.plugin.access)
            options = ({"sg": self.group} if self.group else {}) | ({"ack": True} if self.ack else {})
            await socket.ask("topic", "subscribe", t=[self.plugin.topic], **options)
        except (Refused, TimeoutError):
            await socket.connection.close()
        else:
            subscribed.set()

    async def _read(self, socket: Socket) -> None:
        numbers = itertools.count()
        asked: dict[int, list[Push]] = {}
        pending: dict[int, list[Push]] = {}
        furthest: dict[int, int] = {}

        async def acknowledge(part: int) -> None:
            number = next(numbers)
            asked[number] = pending.pop(part)
            place = {"t": self.plugin.topic, "part": part, "off": furthest[part]}
            await socket.connection.send(json.dumps({"id": number, "t": "ack", "p": place}))

        while True:
            try:
                # Not `wait_for`: on Python 3.11 it swallows a cancellation that comes together with a message.
                async with asyncio.timeout(QUIET if pending else None):
                    text = await socket.connection.recv()
            except TimeoutError:
                for part in list(pending):
                    await acknowledge(part)
                continue
            frame = json.loads(text)
            if frame["t"] == "ack":
                assert frame["s"] == 0, frame
                for push in asked.pop(frame["id"]):
                    push.confirmed = time.monotonic()
            elif frame["t"] != "notif" or "id" in frame:
                socket.replies.put_nowait(frame)
            elif frame["s"] == 0:
                push = socket.take(frame)
                if self.ack:
                    part = frame["p"]["part"]
                    furthest[part] = frame["p"]["off"]
                    got = pending.setdefault(part, [])
                    got += [push] if push is not None else []
                    if len(got) >= self.every or push is None:
                        await acknowledge(part)
            socket.handled()


async def come(sent: dict[Key, Sent], readers: list[list[PluginClient]], within: float = 60.0) -> list[Reading]:
    """For each reader, which is one client or several that share a group, what it came to: when all that was
    acknowledged is there, or the time is over."""
    deadline = time.monotonic() + within
    while True:
        for reader in readers:
            for client in reader:
                for socket in client.sockets:
                    if not client.ack:
                        socket.settle()
        readings = [read(sent, _merged(reader)) for reader in readers]
        if not any(reading.missing for reading in readings) or time.monotonic() > deadline:
            return readings
        await asyncio.sleep(0.25)


def _merged(reader: list[PluginClient]) -> list[Push]:
    return sorted((push for client in reader for push in client.pushes), key=lambda push: push.at)
