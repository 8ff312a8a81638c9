"""What the MQTT bridge, and the broker of the light set, are made of."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
from collections.abc import Coroutine, Iterator
from typing import Any

import msgspec
from tornado.httpserver import HTTPServer
from tornado.web import Application

from mqtt_bridge.adapters.broker import Broker, Door
from mqtt_bridge.adapters.connection import Options
from mqtt_bridge.adapters.dynsec import DynamicSecurity
from mqtt_bridge.adapters.platform import BusLogins, BusPlatform
from mqtt_bridge.adapters.sessions import Evictor, InboundSession, OutboundSession, Turns
from mqtt_bridge.adapters.storage import StoredAccounts, StoredLease, StoredMemory, StoredRegistry
from mqtt_bridge.api import hooks
from mqtt_bridge.core import interests, sharing
from mqtt_bridge.core.accounts import Accounts
from mqtt_bridge.core.acl import Acl
from mqtt_bridge.core.authority import Authority, YesOrNo
from mqtt_bridge.core.clients import Clients
from mqtt_bridge.core.inbound import Inbound
from mqtt_bridge.core.leading import Led
from mqtt_bridge.core.numbering import Numbering
from mqtt_bridge.core.outbound import Outbound
from mqtt_bridge.core.packets import Lost, Refused
from mqtt_bridge.core.sharing import Subscription
from mqtt_bridge.core.watch import Watch
from mqtt_bridge.settings import BROKER, Settings
from skep import bus, errors, logs, run, settings
from skep.metadata import Caches, Metadata, Relay
from skep.tokens import Keys
from skep.wire import topics

log = logs.get("mqtt_bridge")

GROUP = "mqtt_bridge"
LOOPBACK = "127.0.0.1"
MAX_HOOK_BODY = 1 << 16
LOOK_SECONDS = 3.0


class Shared:
    """What both roles need: metadata, its caches, the bus, who clients are."""

    def __init__(self, settings: Settings) -> None:
        s = settings
        self.bus = bus.Bus(s.bus_urls, "mqtt_bridge", s.instance, s.bus_secret)
        self.metadata = Metadata(s.database_url)
        self.caches = Caches(self.metadata)
        self._relay = Relay(self.metadata, self.bus, self.caches)
        self.keys = keys = Keys.parse(s.jwt_secret, base64=s.jwt_key == "base64")
        registry = StoredRegistry(self.metadata, self.caches)
        self.clients = Clients(registry, self.caches, BusLogins(self.bus), keys, s.anonymous)
        self.caches.on_change(self._changed)
        is_ours = s.role == BROKER
        acl = Acl(self.caches, names_publisher=is_ours or s.names_publisher)
        self.authority = Authority(self.clients, acl, s.username, s.password, s.session)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.metadata.start()
        await self.bus.start()
        await self._relay.start()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._relay.stop()
        await self.bus.close()
        await self.metadata.stop()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_ended)
        self._tasks.append(task)

    def _changed(self, entity: str, ids: list[str]) -> None:
        if entity == "user":
            self.clients.forget([int(id) for id in ids])


class Bridge:
    def __init__(self, settings: Settings) -> None:
        self._settings = s = settings
        self._shared = shared = Shared(s)
        self._hooks = HTTPServer(Application(hooks.handlers(YesOrNo(shared.authority))), max_buffer_size=MAX_HOOK_BODY)
        self._platform = BusPlatform(shared.bus, shared.clients, shared.caches)
        self._memory = StoredMemory(shared.metadata, shared.bus.run)
        self._turns = Turns()
        self._watch = Watch(shared.clients)
        self._changes = asyncio.Event()
        shared.authority.on_admitted(self._watch.admitted)
        shared.clients.on_narrowed(self._narrowed)
        shared.caches.on_change(self._changed)
        self._dynsec = self._dynamic_security() if s.dynamic_security else None

    def _dynamic_security(self) -> DynamicSecurity:
        s, shared = self._settings, self._shared
        accounts = StoredAccounts(shared.metadata, Accounts(shared.keys, s.session, s.other_topics))
        options = msgspec.structs.replace(self._options(), client_id=f"{s.session}-rights")
        lease = StoredLease(shared.metadata.leases, f"{s.session}/rights", shared.bus.run, s.lease)
        kept = DynamicSecurity(options, accounts.wanted, lease)
        # Whichever entity: nearly all of them say what somebody sees.
        shared.caches.on_change(lambda entity, ids: kept.changed())
        return kept

    async def _take_in(self) -> None:
        """By all sessions, as far as other bridges do not have them."""
        s = self._settings
        while True:
            try:
                known = await self._shared.metadata.leases.names(s.session)
            except errors.Unavailable as error:
                log.warning("waiting for PostgreSQL: %s", error)
                await asyncio.sleep(LOOK_SECONDS)
            else:
                break
        async with asyncio.TaskGroup() as group:
            for name, subscription in sharing.sessions(s.session, s.sessions, known).items():
                group.create_task(self._inbound(name, subscription).run())

    def _inbound(self, name: str, subscription: Subscription) -> InboundSession:
        s, shared = self._settings, self._shared
        lease = StoredLease(shared.metadata.leases, name, shared.bus.run, s.lease)
        return InboundSession(
            msgspec.structs.replace(self._options(), client_id=name, persistent=True),
            lambda numbering, respond, pause: Inbound(Led(self._platform, lease), numbering, respond, pause),
            lambda: Numbering(self._memory, name, s.receive if s.renumbers else 0),
            lease,
            subscription,
            self._turns,
            s.renumbers,
        )

    def _options(self) -> Options:
        s = self._settings
        return Options(
            host=s.broker_host,
            port=s.broker_port,
            username=s.username,
            password=s.password,
            client_id=f"{s.session}-out-{s.instance}",
            is_old=s.version == "3.1.1",
            tls=ssl.create_default_context(cafile=s.tls_ca or None) if s.tls else None,
            receive=s.receive,
            send=s.send,
        )

    async def start(self) -> None:
        shared = self._shared
        await shared.start()
        for key, payload in interests.records():
            await shared.bus.publish(topics.SUBSCRIPTIONS, payload, key)
        stream = await shared.bus.subscribe(topics.MQTT_OUT, GROUP, records=1_000, bytes=4 << 20)
        outbound = Outbound(stream, self._settings.escape)
        # Before the sessions: the broker asks the hooks about them.
        # Several bridges of one machine have one port: whoever is there answers.
        self._hooks.listen(self._settings.hooks_port, self._settings.host, reuse_port=True)
        sending = OutboundSession(self._options(), outbound).run()
        for work in (outbound.follow(), sending, self._take_in(), self._evict()):
            shared.begin(work)
        if self._dynsec is not None:
            shared.begin(self._dynsec.run())

    async def stop(self) -> None:
        await self._shared.stop()
        self._hooks.stop()

    def _changed(self, entity: str, ids: list[str]) -> None:
        if entity == "user":
            self._watch.changed([int(id) for id in ids])
            self._changes.set()

    async def _narrowed(self, client_id: str) -> bool:
        self._changes.set()
        return False  # before `_evict` has ended its session

    async def _evict(self) -> None:
        """Of those who came in through the hooks."""
        evictor, ending = Evictor(self._options()), self._shared.clients.ending
        while True:
            await _looking(self._changes)
            # Nobody comes in before: one who did would have that session, and lose the connection with it.
            await self._watch.ended()
            for client_id in list(ending):
                try:
                    await evictor.evict(client_id)
                    ending.discard(client_id)
                    log.info("a client's rights are gone, and so is its session")
                except (Refused, Lost, OSError, TimeoutError) as error:
                    log.warning("a client's session is not ended yet: %s", error or "no answer in time")


class BrokerApp:
    """amqtt, and the end of sessions whose rights are gone."""

    def __init__(self, settings: Settings) -> None:
        s = settings
        # They tell of every connection and of every state.
        for name in ("amqtt", "transitions", "websockets"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._shared = Shared(s)
        self._broker = Broker(self._shared.authority, s.backlog, *_doors(s))
        self._shared.clients.on_narrowed(self._broker.forget)
        self._looked_at = asyncio.Event()
        self._shared.caches.on_change(lambda entity, ids: self._looked_at.set() if entity == "user" else None)

    async def start(self) -> None:
        await self._shared.start()
        await self._broker.start()
        self._shared.begin(self._follow())

    async def stop(self) -> None:
        await self._broker.shutdown()
        await self._shared.stop()

    async def _follow(self) -> None:
        """End sessions at a user's change, and every few seconds those whose tokens have expired."""
        while True:
            await _looking(self._looked_at)
            for client_id in self._broker.client_ids:
                with contextlib.suppress(errors.Unavailable):
                    if await self._shared.clients.is_gone(client_id):
                        await self._broker.disconnect(client_id)


def _doors(s: Settings) -> Iterator[Door]:
    """With a certificate nothing leaves this machine in clear; the bridge beside the broker is on this machine. Raises
    settings.Invalid."""
    if not s.tls_cert:
        yield Door(s.host, s.broker_port, s.websocket_port)
        return
    yield Door(LOOPBACK, s.broker_port, s.websocket_port)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(s.tls_cert, s.tls_key or None)
    except OSError as error:  # of files, of what is in them, of a key that belongs to another certificate
        raise settings.Invalid(f"MQTT_TLS_CERT={s.tls_cert}, MQTT_TLS_KEY={s.tls_key}: {error}") from error
    yield Door(s.host, s.tls_port, s.websocket_tls_port, context)


async def _looking(changes: asyncio.Event) -> None:
    """Until a change, or the time has come to look at what has expired."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOOK_SECONDS):
            await changes.wait()
    changes.clear()


def make(settings: Settings) -> run.App:
    return BrokerApp(settings) if settings.role == BROKER else Bridge(settings)


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        # Half a service would look healthy and serve nobody: stop in order, and be started again.
        log.critical("a part of the service has failed", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)
