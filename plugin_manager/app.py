"""Joins the parts of plugin_manager."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

from plugin_manager.api.calls import Calls
from plugin_manager.core.changes import Changes
from plugin_manager.core.follower import Follower
from plugin_manager.core.manager import Manager
from plugin_manager.core.requests import Existing
from plugin_manager.core.streams import Streams
from plugin_manager.settings import Settings
from skep import errors, logs, run, web
from skep.bus import Bus, Serving
from skep.metadata import Caches, Metadata, Relay
from skep.tokens import Keys
from skep.web import plugins as routes
from skep.wire import topics

REAP = 1.0
"""Seconds between looks for plugin proxies whose lease lapsed."""

log = logs.get("plugin_manager")


class App:
    """Everything live of one plugin_manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        keys = Keys.parse(settings.jwt_secret, base64=settings.jwt_key == "base64")
        try:
            self.metadata = meta = Metadata(settings.database_url)
        except ValueError as error:
            raise run.Fatal(str(error)) from None
        self.caches = caches = Caches(meta)
        self.bus = Bus(settings.bus_urls, "plugin_manager", settings.instance, settings.bus_secret)
        self.relay = Relay(meta, self.bus, caches)
        self.streams = Streams(self.bus, meta.plugin_streams, self.relay, settings.partitions)
        changes = Changes(meta.plugins, self.streams, settings.filters)
        self.follower = Follower(meta.plugins, changes, self.streams)
        caches.on_change(self.follower.changed)
        existing = Existing(meta.networks, meta.device_types, meta.devices)
        self.plugins = Manager(settings, self.bus, meta.plugins, meta.plugin_sockets, existing, self.streams, changes)
        authenticate = web.Authenticator(
            keys,
            caches.user,
            fresh=lambda id: caches.user(id, fresh=True),
            plugin=lambda topic: caches.plugin(topic, fresh=True),
            compat=settings.compat,
        )
        self.calls = Serving(self.bus, topics.PLUGIN_REQUESTS, Calls(self.plugins, authenticate).answer)
        self.server = web.Server(
            [*web.collect(routes), web.info_route(f"{settings.prefix}/websocket")],
            f"{settings.prefix}/rest",
            settings,
            authenticate,
            self,
            health=self.health,
        )
        self.port = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.metadata.start()
        await self.bus.start()
        await self.relay.start()
        for work in (self.follower.follow(), self.streams.keep(), self._reap()):
            self._begin(work)
        self.follower.changed("plugin", [])
        await self.calls.start()
        self.port = self.server.listen(self.settings.port)

    async def stop(self) -> None:
        await self.server.close(grace=1)
        await self.calls.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.relay.stop()
        await self.bus.close()
        await self.metadata.stop()

    async def health(self) -> dict[str, bool]:
        try:
            await self.metadata.ping()
            database = True
        except Exception:  # whatever it is, it does not work
            database = False
        return {"database": database, "bus": self.bus.connected, "calls": self.calls.running}

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP)
            try:
                if gone := await self.metadata.plugin_sockets.reap():
                    log.info("%d plugin proxies are gone", gone)
            except errors.SkepError as error:
                log.warning("sockets of lost plugin proxies stay for now: %s", error)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_ended)
        self._tasks.append(task)


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        # Half a service would look healthy and let rights outlive their withdrawal: stop, and be started again.
        log.critical("a part of the service has failed", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)
