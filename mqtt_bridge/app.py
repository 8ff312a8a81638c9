"""Composition root of the MQTT bridge."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Coroutine
from typing import Any

import msgspec
from tornado.httpserver import HTTPServer
from tornado.web import Application

from mqtt_bridge.adapters.connection import Options
from mqtt_bridge.adapters.platform import BusLogins, BusPlatform
from mqtt_bridge.adapters.sessions import InboundSession, OutboundSession
from mqtt_bridge.adapters.storage import StoredLease, StoredMemory, StoredRegistry
from mqtt_bridge.api import hooks
from mqtt_bridge.core import interests
from mqtt_bridge.core.acl import Acl
from mqtt_bridge.core.clients import Clients
from mqtt_bridge.core.inbound import Inbound
from mqtt_bridge.core.numbering import Numbering
from mqtt_bridge.core.outbound import Outbound
from mqtt_bridge.settings import Settings
from skep import bus, logs
from skep.metadata import Caches, Metadata, Relay
from skep.tokens import Keys
from skep.wire import topics

log = logs.get("mqtt_bridge")

GROUP = "mqtt_bridge"
MAX_HOOK_BODY = 1 << 16


class App:
    def __init__(self, settings: Settings) -> None:
        self._settings = s = settings
        self._bus = bus.Bus(s.bus_urls, "mqtt_bridge", s.instance, s.bus_secret)
        self._metadata = Metadata(s.database_url)
        caches = Caches(self._metadata)
        self._relay = Relay(self._metadata, self._bus, caches)
        keys = Keys.parse(s.jwt_secret, base64=s.jwt_key == "base64")
        registry = StoredRegistry(self._metadata, caches)
        self._clients = Clients(registry, caches, BusLogins(self._bus), keys, s.anonymous)
        caches.on_change(self._changed)
        authority = hooks.Authority(self._clients, Acl(caches, s.names_publisher), s.username, s.password)
        self._hooks = HTTPServer(Application(hooks.handlers(authority)), max_buffer_size=MAX_HOOK_BODY)
        platform = BusPlatform(self._bus, self._clients, caches)
        memory = StoredMemory(self._metadata)
        self._inbound = InboundSession(
            msgspec.structs.replace(self._options(), client_id=s.session, persistent=True),
            lambda numbering, respond, pause: Inbound(platform, numbering, respond, pause),
            lambda: Numbering(memory, s.session),
            StoredLease(self._metadata, s.session, self._bus.run, s.lease),
        )
        self._outbound: OutboundSession | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _options(self) -> Options:
        s = self._settings
        tls = ssl.create_default_context(cafile=s.tls_ca or None) if s.tls else None
        return Options(
            host=s.broker_host,
            port=s.broker_port,
            username=s.username,
            password=s.password,
            client_id=f"{s.instance}-out",
            tls=tls,
            receive=s.receive,
            send=s.send,
        )

    async def start(self) -> None:
        await self._metadata.start()
        await self._bus.start()
        await self._relay.start()
        for key, payload in interests.records():
            await self._bus.publish(topics.SUBSCRIPTIONS, payload, key)
        stream = await self._bus.subscribe(topics.MQTT_OUT, GROUP, records=1_000, bytes=4 << 20)
        outbound = Outbound(stream, self._settings.escape)
        self._outbound = OutboundSession(self._options(), outbound)
        # Before the sessions: the broker asks the hooks about them.
        self._hooks.listen(self._settings.hooks_port, self._settings.host)
        for work in (outbound.follow(), self._outbound.run(), self._inbound.run()):
            self._begin(work)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._hooks.stop()
        await self._relay.stop()
        await self._bus.close()
        await self._metadata.stop()

    def _changed(self, entity: str, ids: list[str]) -> None:
        if entity == "user":
            self._clients.forget([int(id) for id in ids])

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_ended)
        self._tasks.append(task)


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        # Half a service would look healthy and serve nobody: stop in order, and be started again.
        log.critical("a part of the service has failed", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)
