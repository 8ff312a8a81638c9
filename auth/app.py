"""Joins the parts of the auth service."""

from __future__ import annotations

from auth.adapters.passwords import Argon2Passwords
from auth.api import plugins, rest
from auth.api.calls import Calls
from auth.core.authority import Authority
from auth.settings import Settings
from skep import run, web
from skep.bus import Bus, Serving
from skep.metadata import Caches, Metadata, Relay
from skep.tokens import Keys
from skep.wire import topics


class App:
    """Everything live of one auth process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        keys = Keys.parse(settings.jwt_secret, base64=settings.jwt_key == "base64")
        try:
            self.metadata = Metadata(settings.database_url)
        except ValueError as error:
            raise run.Fatal(str(error)) from None
        self.caches = Caches(self.metadata)
        self.bus = Bus(settings.bus_urls, "auth", settings.instance, settings.bus_secret)
        self.relay = Relay(self.metadata, self.bus, self.caches)
        self.passwords = Argon2Passwords(settings.hash_threads)
        self.authority = Authority(settings, keys, self.metadata.users, self.passwords, self.metadata.plugins)
        authenticate = web.Authenticator(
            keys,
            self.caches.user,
            fresh=lambda id: self.caches.user(id, fresh=True),
            plugin=lambda topic: self.caches.plugin(topic, fresh=True),
            compat=settings.compat,
        )
        self.calls = Serving(self.bus, topics.AUTH_REQUESTS, Calls(self.authority, authenticate).answer)
        self.server = web.Server(
            [*web.collect(rest, plugins), web.info_route(f"{settings.prefix}/websocket")],
            f"{settings.prefix}/rest",
            settings,
            authenticate,
            self,
            health=self.health,
        )
        self.port = 0

    async def start(self) -> None:
        await self.metadata.start()
        await self.bus.start()
        await self.relay.start()
        await self.calls.start()
        self.port = self.server.listen(self.settings.port)

    async def stop(self) -> None:
        await self.server.close(grace=1)
        await self.calls.stop()
        await self.authority.close()
        await self.relay.stop()
        await self.bus.close()
        await self.metadata.stop()
        self.passwords.close()

    async def health(self) -> dict[str, bool]:
        try:
            await self.metadata.ping()
            database = True
        except Exception:  # whatever it is, it does not work
            database = False
        return {"database": database, "bus": self.bus.connected, "calls": self.calls.running}
