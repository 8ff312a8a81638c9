"""Raw clients of the JSON dialect, and whom they talk to: core proxy, plugin proxy, a manager in the test's hands."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection

from skep import bus, settings, tokens
from skep.wire import topics
from skep.wire.plugins import Attend, Attendance, Seat, Socket
from skep.wire.proxy import Record, Source
from tests.contract.bus_support import SECRET
from ws_kafka_proxy.app import Core, Plugins
from ws_kafka_proxy.settings import Settings

JWT_SECRET = "the secret of the users' tokens, long enough"
HOUR = 3_600_000
ENGINES = [pytest.param(name, marks=pytest.mark.engines(name)) for name in ("postgres", "kafka")]


def load(**environment: str) -> Settings:
    common = {"SKEP_PROFILE": "development", "BUS_SECRET": SECRET, "JWT_SECRET": JWT_SECRET, "PROXY_HOLD": "0"}
    return settings.load(Settings, common | environment)


@asynccontextmanager
async def running_core(request: pytest.FixtureRequest) -> AsyncIterator[Core]:
    """On the engine that the fixture's parameter names."""
    if request.param == "kafka":
        engine = {"KAFKA_BOOTSTRAP": request.getfixturevalue("kafka")}
    else:
        engine = {"DATABASE_URL": request.getfixturevalue("postgres_url"), "BUS_SESSION_TIMEOUT": "0.5"}
    made = Core(load(PROXY_PORT="0", BUS_ENGINE=request.param, REQUEST_PARTITIONS="4", **engine))
    async with asyncio.timeout(30):
        await made.start()
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def running_plugins(core: Core, **environment: str) -> AsyncIterator[Plugins]:
    urls = f"ws://127.0.0.1:{core.listener.port}"
    made = Plugins(load(PROXY_ROLE="plugin", PROXY_PLUGIN_PORT="0", BUS_URLS=urls, **environment))
    async with asyncio.timeout(30):
        await made.start()
    try:
        yield made
    finally:
        await made.stop()


class Manager:
    """plugin_manager as plugin proxies know it; what it answers is set by the test.

    streams: plugin topic -> stream; a topic that is not in it is refused. refused: plugin topic -> why. attends: what
    was told. A socket without group gets the lowest free slot of its topic. The first group of a plugin, and one that
    was there on an earlier stream, begins at the stream's beginning.
    """

    def __init__(self, core: Core) -> None:
        url = f"ws://127.0.0.1:{core.listener.port}"
        self.bus = bus.Bus([url], "plugin_manager", "plugin_manager-1", SECRET)
        self.streams: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.attends: list[Attend] = []
        self._slots: dict[str, dict[tuple[str, int], int]] = {}
        self._first: dict[str, str] = {}
        self._serving = self._make()
        self._told = asyncio.Event()

    def _make(self) -> bus.Serving:
        return bus.Serving(self.bus, topics.PLUGIN_REQUESTS, self._answer)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Manager"]:
        await self.bus.start()
        await self.resume()
        try:
            yield self
        finally:
            await self.pause()
            await self.bus.close()

    async def pause(self) -> None:
        """Hear nothing until `resume`."""
        await self._serving.stop()

    async def resume(self) -> None:
        self._serving = self._make()
        await self._serving.start()

    async def told(self, *groups: str | None) -> Attend:
        """The next telling with sockets of just these groups."""
        async with asyncio.timeout(15):
            while True:
                self._told.clear()
                await self._told.wait()
                if sorted(map(str, groups)) == sorted(str(s.group) for s in self.attends[-1].sockets):
                    return self.attends[-1]

    async def _answer(self, body: bytes) -> Attendance:
        attend = msgspec.msgpack.decode(body, type=Attend)
        self.attends.append(attend)
        self._told.set()
        for slots in self._slots.values():
            for place in [p for p in slots if p[0] == attend.run and p[1] not in {s.id for s in attend.sockets}]:
                del slots[place]
        return Attendance([self._seat(attend.run, socket) for socket in attend.sockets])

    def _seat(self, run: str, socket: Socket) -> Seat:
        topic = socket.topic
        refusal = self.refused.get(topic, "" if topic in self.streams else "Plugin is not found")
        if refusal:
            return Seat(socket.id, refusal=refusal)
        slots = self._slots.setdefault(topic, {})
        if socket.group != "":
            slots.pop((run, socket.id), None)
        if socket.group is None:
            return Seat(socket.id, self.streams[topic])
        suffix = socket.group
        if not suffix:
            free = next(k for k in range(100) if k not in slots.values())
            suffix = f"-{slots.setdefault((run, socket.id), free)}"
        group = f"plugin-{topic}.{suffix}"
        is_first = group.rpartition(".")[0] not in {known.rpartition(".")[0] for known in self._first}
        began = self._first.setdefault(group, "first" if is_first else self.streams[topic])
        return Seat(socket.id, self.streams[topic], group, began != self.streams[topic])


class Json:
    """A raw socket. `ask` keeps pushes for `pushed`."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._pushes: list[dict[str, Any]] = []

    async def send(self, message: object) -> None:
        await self.socket.send(json.dumps(message))

    async def next(self, timeout: float = 15.0) -> dict[str, Any]:
        async with asyncio.timeout(timeout):
            frame = await self.socket.recv()
            assert isinstance(frame, str)
            decoded = json.loads(frame)
            assert isinstance(decoded, dict)
            return decoded

    async def reply(self) -> dict[str, Any]:
        while (frame := await self.next())["t"] == "notif" and "id" not in frame and "a" not in frame:
            self._pushes.append(frame)
        return frame

    async def ask(self, t: str, a: str | None = None, p: object = None, id: object = "1") -> dict[str, Any]:
        message = {"id": id, "t": t, "a": a, "p": p}
        await self.send({key: value for key, value in message.items() if value is not None})
        return await self.reply()

    async def subscribe(self, topic: str, **payload: object) -> None:
        answer = await self.ask("topic", "subscribe", {"t": [topic], **payload})
        assert answer["s"] == 0, answer

    async def frames(self, count: int) -> list[dict[str, Any]]:
        """So many pushes, whole."""
        while len(self._pushes) < count:
            self._pushes.append(await self.next())
        taken, self._pushes = self._pushes[:count], self._pushes[count:]
        assert all(frame["t"] == "notif" and "id" not in frame for frame in taken)
        return taken

    async def pushed(self, count: int) -> list[str]:
        taken = await self.frames(count)
        assert all(frame["s"] == 0 for frame in taken)
        return [frame["p"]["m"] for frame in taken]

    async def acknowledge(self, frame: dict[str, Any]) -> None:
        place = {"t": frame["st"], "part": frame["p"]["part"], "off": frame["p"]["off"]}
        answer = await self.ask("ack", None, place)
        assert answer == {"id": "1", "t": "ack", "s": 0}, answer

    async def taken(self) -> list[str]:
        """What has been pushed by now, acknowledged."""
        await self.ask("health")
        frames, self._pushes = self._pushes, []
        for frame in frames:
            await self.acknowledge(frame)
        return [frame["p"]["m"] for frame in frames]

    async def none_pushed(self) -> None:
        """Nothing is waiting or on its way; what was handed over until now is confirmed by this too."""
        await self.ask("health")
        assert self._pushes == []


def plugin_token(topic: str, seconds: float = 60, type: int = tokens.ACCESS, secret: str = JWT_SECRET) -> str:
    expires = round((time.time() + seconds) * 1000)
    claims = tokens.Claims(None, [16], None, None, expires, type, topic)
    return tokens.encode(claims, tokens.Keys.parse(secret))


async def committed(core: Core, stream: str, group: str, place: tuple[int, int]) -> None:
    """Until the group's position in a partition is this one."""
    async with asyncio.timeout(10):
        while True:
            positions = await core._engine.positions(stream)
            if positions.get(group, {}).get(place[0]) == place[1]:
                return
            await asyncio.sleep(0.02)


async def publish(core: Core, topic: str, *texts: str, partition: int = 0, source: int | None = None) -> None:
    made = None if source is None else Source("log", 0, source)
    records = [Record(topic, None, text.encode(), i + 1, partition, made) for i, text in enumerate(texts)]
    results = await core._engine.append(time.monotonic_ns(), records)
    assert all(isinstance(result, tuple) for result in results), results
