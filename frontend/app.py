"""Composition root of the frontend."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from frontend.adapters.events import EventStream
from frontend.api import rest, swagger
from frontend.api.calls import Calls
from frontend.api.frames import RESTART
from frontend.api.socket import Hub
from frontend.api.upgrade import Upgrade
from frontend.core.configuration import Configurations
from frontend.core.containers import Containers
from frontend.core.devices import Devices
from frontend.core.identities import Identities
from frontend.core.interests import Interests
from frontend.core.logins import Logins
from frontend.core.messages import Messages
from frontend.core.mqtt_passwords import MqttPasswords
from frontend.core.plugins import Plugins
from frontend.core.polls import Polls
from frontend.core.quiet import QuietScopes
from frontend.core.rights import Rights
from frontend.core.services import Limits, Services, now
from frontend.core.subscriptions import Registry
from frontend.core.tokens import Tokens
from frontend.core.users import Users
from frontend.settings import Settings
from skep import bus, logs, web
from skep.access import Principal
from skep.metadata import Caches, Metadata, Relay
from skep.metadata.passwords import Pool
from skep.tokens import Keys
from skep.wire import topics

log = logs.get("frontend")


@dataclass(frozen=True)
class Edge(Services):
    """`ctx.app` of the routes."""

    websocket_path: str = "/api/websocket"


class App:
    def __init__(self, settings: Settings) -> None:
        self._settings = s = settings
        self._bus = bus.Bus(s.bus_urls, "frontend", s.instance, s.bus_secret)
        self._metadata = meta = Metadata(s.database_url)
        self._passwords = Pool(s.hash_threads)
        caches = Caches(self._metadata)
        self._relay = Relay(self._metadata, self._bus, caches)
        keys = Keys.parse(s.jwt_secret, base64=s.jwt_key == "base64")
        self._authenticate = web.Authenticator(
            keys, caches.user, fresh=lambda id: caches.user(id, fresh=True), compat=s.compat
        )
        self._authenticate_all = web.Authenticator(
            keys,
            caches.user,
            fresh=lambda id: caches.user(id, fresh=True),
            plugin=lambda topic: caches.plugin(topic, fresh=True),
            compat=s.compat,
        )
        identities = Identities(self._authenticate)
        caches.on_change(identities.changed)
        registry = Registry(now)
        interests = Interests(self._bus, registry.lose)
        self._quiet = quiet = QuietScopes(registry, interests)
        messages, rights = Messages(self._bus, quiet.acknowledged), Rights(caches, s.compat)
        users = Users(meta.users, rights, self._passwords)
        self._limits = Limits(subscriptions=s.subscriptions, anonymous=s.anonymous_seconds)
        self._services = Edge(
            messages=messages,
            devices=Devices(meta.devices, rights, self._relay.handled, quiet.acknowledged),
            networks=Containers(
                meta.networks, rights, Principal.sees_network, lambda who, id: meta.devices.within(who, network_id=id)
            ),
            device_types=Containers(
                meta.device_types,
                rights,
                Principal.sees_device_type,
                lambda who, id: meta.devices.within(who, device_type_id=id),
            ),
            users=users,
            mqtt_passwords=MqttPasswords(meta.mqtt_passwords, users, keys),
            configuration=Configurations(meta.configuration),
            rights=rights,
            tokens=Tokens(self._bus),
            plugins=Plugins(self._bus),
            identities=identities,
            logins=Logins(meta.users.seen),
            interests=interests,
            registry=registry,
            polls=Polls(registry, interests, messages, identities, quiet, now, s.polls),
            limits=self._limits,
            caches=caches,
            cluster=self._bus.health,
            websocket_path=f"{s.prefix}/websocket",
        )
        self._events = EventStream(self._bus, registry)
        calls = Calls(self._services, f"http://{s.host}:{s.port}{s.prefix}/rest")
        self._calls = bus.Serving(self._bus, topics.API_REQUESTS, calls.answer)
        self._tasks: list[asyncio.Task[None]] = []
        self._hub: Hub | None = None
        self._server: web.Server | None = None

    async def start(self) -> None:
        await self._metadata.start()
        await self._bus.start()
        await self._relay.start()
        await self._events.start()
        self._hub = Hub(self._limits)
        for work in (
            self._events.follow(),
            self._services.interests.keep(),
            self._services.identities.follow(),
            self._tick(self._hub),
        ):
            self._begin(work)
        await self._calls.start()
        self._server = self._make_server(self._hub)
        self._server.listen(self._settings.port)

    async def stop(self) -> None:
        if self._server is not None and self._hub is not None:
            await asyncio.gather(self._server.close(), self._hub.close(RESTART, "the service stops"))
        await self._calls.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            await self._services.interests.close()
        await self._services.logins.close()
        await self._relay.stop()
        await self._bus.close()
        await self._metadata.stop()
        self._passwords.close()

    def _make_server(self, hub: Hub) -> web.Server:
        s = self._settings
        handler = (
            f"{s.prefix}/websocket",
            Upgrade,
            {
                "hub": hub,
                "services": self._services,
                "rest_prefix": f"{s.prefix}/rest",
                "origins": s.cors_origins,
                "per_address": s.anonymous_sockets,
            },
        )
        server = web.Server(
            rest.routes,
            f"{s.prefix}/rest",
            s,
            self._authenticate_all,
            self._services,
            extra_handlers=[handler, *swagger.handlers(s.prefix, s.documents)],
            health=self._health,
        )
        self._add_gauges(server, hub)
        return server

    async def _health(self) -> dict[str, bool]:
        return {"bus": self._bus.connected}

    def _add_gauges(self, server: web.Server, hub: Hub) -> None:
        gauge, services = server.metrics.gauge, self._services
        gauge("skep_sockets", "Open WebSockets", lambda: len(hub.sockets))
        gauge("skep_subscriptions", "Subscribers and open polls", lambda: len(services.registry))
        gauge("skep_interests", "Interests of this process", lambda: len(services.interests))
        gauge("skep_reads", "Reads asked of the backends since the start", lambda: services.messages.reads)
        gauge("skep_quiet_scopes", "Scopes polled without waiting", lambda: len(self._quiet))
        gauge("skep_polls", "Long polls", lambda: len(services.polls))
        gauge("skep_delivered", "Messages pushed since the start", lambda: services.registry.delivered)
        gauge("skep_repeated", "Repeated events dropped since the start", lambda: services.registry.repeated)
        gauge("skep_closed_slow", "Sockets closed with 1013", lambda: hub.closed[1013])

    async def _tick(self, hub: Hub) -> None:
        while True:
            await asyncio.sleep(1)
            hub.tick()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_ended)
        self._tasks.append(task)


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        # Half a service would look healthy and serve nobody: stop in order, and be started again.
        log.critical("a part of the service has failed", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)
