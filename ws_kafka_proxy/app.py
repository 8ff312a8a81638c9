"""What the proxy is made of."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
from websockets.asyncio.server import ServerConnection

from skep import bus, tokens
from skep.errors import Unauthorized
from skep.run import App
from skep.wire.proxy import MAX_FRAME
from ws_kafka_proxy.adapters.attending import Attending
from ws_kafka_proxy.adapters.bus import BusTopics
from ws_kafka_proxy.adapters.kafka import KafkaEngine
from ws_kafka_proxy.adapters.postgres.engine import PostgresLog
from ws_kafka_proxy.adapters.postgres.options import Options as LogOptions
from ws_kafka_proxy.api import server
from ws_kafka_proxy.api.json import POLICY, TRY_AGAIN, JsonSocket
from ws_kafka_proxy.api.plugin import PluginSocket
from ws_kafka_proxy.api.service import ServiceSocket
from ws_kafka_proxy.core import json_dialect, session, streams
from ws_kafka_proxy.core.counters import Counters
from ws_kafka_proxy.core.engine import Engine
from ws_kafka_proxy.core.json_roles import Plugin, Tool
from ws_kafka_proxy.settings import CORE, KAFKA, Settings

PLUGIN_SERVICE = "plugin_proxy"
TOOL_LIMITS = json_dialect.Limits(frame=MAX_FRAME)
PLUGIN_FRAME = 1 << 20
PLUGIN_BUFFER, PLUGIN_UNSENT = 2 << 20, 1_000
"""Bytes of requests and frames of replies that may wait on a plugin's socket: there are many of them."""
PLUGIN_QUEUE = 2
"""Frames of a plugin's socket that are read ahead."""
TICK = 0.1
"""Seconds between looks at short-lived topics that are full or unread."""


def make(settings: Settings) -> App:
    return Core(settings) if settings.role == CORE else Plugins(settings)


def steady_clock() -> Callable[[], int]:
    """Milliseconds since the epoch that never go back, whatever is done to the system's clock. Where the system can
    tell, the time that a machine slept counts."""
    kind = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    offset = time.time() - time.clock_gettime(kind)
    return lambda: int((time.clock_gettime(kind) + offset) * 1000)


def wall_clock() -> int:
    """ms; the clock that those who make tokens go by: after a step of it their tokens are good all the same."""
    return int(time.time() * 1000)


class Core:
    """The bus for services. The listener opens once the engine is there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = steady_clock()
        self._engine = self._make_engine()
        self._streams = streams.Streams(
            streams.Limits(
                records=settings.stream_records,
                bytes=settings.stream_bytes,
                hold=round(settings.hold * 1000),
                full_after=round(settings.full_after * 1000),
            ),
            self._clock(),
        )
        self._about = session.About(secrets.token_hex(8), self._clock(), self._engine.name)
        self.listener = server.Listener(
            server.Options(settings.host, settings.port, settings.ping_interval, settings.ping_timeout),
            self._health,
            settings.bus_secret,
            self._serve_service,
            self._serve_json,
            wall_clock,
        )
        self._sockets: set[ServiceSocket] = set()
        self._json_sockets: set[JsonSocket] = set()
        self._counters = Counters()
        self._ticking: asyncio.Task[None] | None = None

    def _make_engine(self) -> Engine:
        settings = self._settings
        if settings.engine == KAFKA:
            return KafkaEngine(
                settings.kafka_bootstrap, settings.partitions, settings.kafka_replicas, settings.session_timeout
            )
        options = LogOptions(
            partitions=settings.partitions,
            session_timeout=settings.session_timeout,
            deadline=settings.log_deadline,
            limit=settings.log_limit,
            leaf=settings.log_leaf,
            upkeep=settings.log_upkeep,
            tombstones=settings.tombstones,
        )
        url = settings.log_database_url or settings.database_url
        return PostgresLog(url, options, self._clock, self._standby)

    async def start(self) -> None:
        await self._engine.start()
        # The hold counts from when clients can connect, not from when we began to wait for the engine.
        self._streams.begin(self._clock())
        self._ticking = asyncio.create_task(self._tick())
        await self.listener.start()

    async def stop(self) -> None:
        await self.listener.stop()
        if self._ticking is not None:
            self._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticking
        await self._engine.stop()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._streams.tick(self._clock())

    def _standby(self, waiting: bool) -> None:
        """Another proxy writes the log: our clients belong there."""
        self.listener.accepting = not waiting
        if waiting:
            reason = "another proxy is the writer"
            for socket in list(self._sockets):
                socket.finish(session.TRY_AGAIN, reason)
            for json_socket in list(self._json_sockets):
                json_socket.finish(session.TRY_AGAIN, reason)

    async def _serve_service(self, connection: ServerConnection) -> None:
        identity = self.listener.identify(connection.request)
        socket = ServiceSocket(
            connection, identity, self._about, self._engine, self._streams, session.Limits(), self._clock
        )
        self._sockets.add(socket)
        try:
            await socket.run()
        finally:
            self._sockets.discard(socket)

    async def _serve_json(self, connection: ServerConnection) -> None:
        try:
            identity = self.listener.identify(connection.request)
        except Unauthorized as error:
            await connection.close(POLICY, error.text)
            return
        socket = JsonSocket(connection, Tool(*identity), self._engine, TOOL_LIMITS, self._clock, self._counters)
        self._json_sockets.add(socket)
        try:
            await socket.run()
        finally:
            self._json_sockets.discard(socket)

    async def _health(self) -> tuple[bool, object]:
        well = await self._engine.healthy()
        report = {
            "status": "ok" if well else "unavailable",
            "engine": self._engine.name,
            "uptime": self._clock() - self._about.started,
            "sockets": len(self._sockets),
            "lag": self._engine.lag(),
        }
        return well, report


class Plugins:
    """The listener for plugins: no service dialect, whatever the token. A client of the core proxy."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = steady_clock()
        self._instance = settings.instance or f"{PLUGIN_SERVICE}-1"
        self._bus = self._connect(self._instance)
        self._topics = BusTopics(self._bus, self._connect, self._instance)
        self._attending = Attending(self._bus, self._clock)
        self._keys = tokens.Keys.parse(settings.jwt_secret, settings.jwt_key == "base64")
        self._limits = json_dialect.Limits(
            frame=PLUGIN_FRAME,
            buffer=PLUGIN_BUFFER,
            unsent=PLUGIN_UNSENT,
            rate=settings.plugin_rate,
            byte_rate=settings.plugin_byte_rate,
            silence=round(settings.plugin_silence * 1000),
        )
        options = server.Options(
            settings.host,
            settings.plugin_port,
            settings.ping_interval,
            settings.ping_timeout,
            PLUGIN_FRAME,
            max_queue=PLUGIN_QUEUE,
        )
        self.listener = server.Listener(options, self._health, settings.bus_secret, None, self._serve, wall_clock)
        self._sockets: set[PluginSocket] = set()
        self._counters = Counters()

    async def start(self) -> None:
        await self._bus.start()
        self._attending.start()
        await self.listener.start()

    async def stop(self) -> None:
        await self.listener.stop()
        await self._attending.stop()
        await self._bus.close()

    def _connect(self, instance: str) -> bus.Bus:
        return bus.Bus(self._settings.bus_urls, PLUGIN_SERVICE, instance, self._settings.bus_secret)

    async def _serve(self, connection: ServerConnection) -> None:
        if len(self._sockets) >= self._settings.plugin_connections:
            self._counters.limited += 1
            await connection.close(TRY_AGAIN, "too many sockets are open here")
            return
        socket = PluginSocket(
            connection,
            Plugin(self._keys, self._clock()),
            self._topics,
            self._attending.attendance,
            self._limits,
            self._clock,
            self._counters,
        )
        self._sockets.add(socket)
        try:
            await socket.run()
        finally:
            self._sockets.discard(socket)

    async def _health(self) -> tuple[bool, object]:
        well = self._bus.connected
        status = "ok" if well else "unavailable"
        return well, {
            "status": status,
            "sockets": len(self._sockets),
            "authenticated": len(self._attending.attendance),
            **msgspec.structs.asdict(self._counters),
        }
