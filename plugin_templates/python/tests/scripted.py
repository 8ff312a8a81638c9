"""A server to test against: REST for tokens and registration, and the plugin's WebSocket, played by the test."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

TOPIC = "plugin_topic_1"


class Rest:
    """requests: (path, body, authorization) of what was asked. answers: path -> (status, body) instead of the usual."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any], str | None]] = []
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self.url = ""
        self.endpoint = ""
        self.life = 1800.0
        self.change = threading.Condition()

    def paths(self) -> list[str]:
        return [path.partition("?")[0] for path, _, _ in self.requests]

    def asked(self, path: str, times: int) -> None:
        """Wait until it was asked that often."""
        with self.change:
            assert self.change.wait_for(lambda: self.paths().count(path) >= times, 30)

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        path = path.partition("?")[0]
        if path in self.answers:
            return self.answers[path]
        if path == "/token/refresh":
            return 201, {"accessToken": token(len(self.requests), self.life)}
        if path == "/token":
            return 201, {"accessToken": "user-access", "refreshToken": "user-refresh"}
        body = {"accessToken": token(0, self.life), "refreshToken": "plugin-refresh"}
        return 201, body | {"proxyEndpoint": self.endpoint, "topicName": TOPIC}


def token(number: int, life: float) -> str:
    payload = {"payload": {"e": int((time.time() + life) * 1000), "t": 1, "tpc": TOPIC, "number": number}}
    return f"e30.{base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip('=')}.sig"


def expiry(text: str) -> float:
    """Seconds since the epoch."""
    claims = text.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["payload"]["e"] / 1000


@contextlib.contextmanager
def rest() -> Iterator[Rest]:
    state = Rest()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.change:
                state.requests.append((self.path, body, self.headers["Authorization"]))
                state.change.notify_all()
            status, answer = state.answer(self.path)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Peer:
    """One connection of the plugin, seen from the server."""

    def __init__(self, socket: ServerConnection, extension: bool = True) -> None:
        self.socket = socket
        self.extension = extension
        self.subscription: dict[str, Any] = {}

    async def receive(self) -> list[dict[str, Any]]:
        """The next frame, as a list."""
        async with asyncio.timeout(30):
            frame = json.loads(await self.socket.recv())
        return frame if isinstance(frame, list) else [frame]

    async def expect(self, kind: str, action: str | None = None) -> dict[str, Any]:
        """The next frame is that request; it is returned and not yet answered."""
        (frame,) = await self.receive()
        assert (frame["t"], frame.get("a")) == (kind, action)
        return frame

    async def reply(self, request: dict[str, Any], payload: dict[str, Any] | None = None, failed: bool = False) -> None:
        frame = {"id": request["id"], "t": request["t"], "a": request.get("a"), "s": int(failed), "p": payload or {}}
        await self.socket.send(json.dumps(frame))

    async def let_in(self) -> str:
        """Health, authenticate, subscribe; the token."""
        await self.reply(await self.expect("health"), {"prx": "Available"} | ({"ack": True} if self.extension else {}))
        authenticate = await self.expect("plugin", "authenticate")
        await self.reply(authenticate)
        subscribe = await self.expect("topic", "subscribe")
        self.subscription = subscribe["p"]
        await self.reply(subscribe)
        return authenticate["p"]["token"]

    async def push(self, body: dict[str, Any], offset: int, partition: int = 0) -> None:
        payload: dict[str, Any] = {"m": json.dumps({"b": body, "cId": "c", "l": False, "err": 0, "fld": False})}
        if self.extension:
            payload |= {"part": partition, "off": offset}
        await self.socket.send(json.dumps({"t": "notif", "s": 0, "p": payload, "st": TOPIC}))

    async def confirmed(self, offset: int, partition: int = 0) -> None:
        """Confirmations come until this one."""
        while True:
            for frame in await self.receive():
                assert frame["t"] == "ack"
                if (frame["p"]["part"], frame["p"]["off"]) == (partition, offset):
                    return
                assert frame["p"]["off"] < offset or frame["p"]["part"] != partition


class Bus:
    """The plugin's endpoint. `peer` waits for the plugin to connect."""

    def __init__(self, extension: bool) -> None:
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._extension = extension
        self.url = ""

    async def on_socket(self, socket: ServerConnection) -> None:
        await self._peers.put(Peer(socket, self._extension))
        await socket.wait_closed()

    async def peer(self) -> Peer:
        async with asyncio.timeout(30):
            return await self._peers.get()


@contextlib.asynccontextmanager
async def bus(extension: bool = True) -> AsyncIterator[Bus]:
    state = Bus(extension)
    async with serve(state.on_socket, "127.0.0.1", 0, ping_interval=None) as server:
        state.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield state


def notification(id: int, device: str = "d1", name: str = "temperature", parameters: object = None) -> dict[str, Any]:
    return {"notification": _message(id, device, parameters) | {"notification": name}, "a": 10}


def command(id: int, device: str = "d1", update: bool = False) -> dict[str, Any]:
    own = {
        "command": "open", "lastUpdated": None, "userId": 1, "lifetime": None,
        "status": "done" if update else None, "result": {"ok": True} if update else None, "isUpdated": update,
    }  # fmt: skip
    return {"command": _message(id, device, None) | own, "a": 23 if update else 21}


def _message(id: int, device: str, parameters: object) -> dict[str, Any]:
    return {
        "id": id, "deviceId": device, "networkId": 1, "deviceTypeId": 1,
        "timestamp": "2018-05-25T10:00:00.123", "parameters": parameters,
    }  # fmt: skip
