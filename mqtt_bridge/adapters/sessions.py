"""The bridge's two sessions with the broker, kept up: one takes what clients publish, one publishes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

import msgspec
from paho.mqtt.enums import MQTTProtocolVersion

from mqtt_bridge.adapters.connection import Connection, Options
from mqtt_bridge.core.inbound import Inbound
from mqtt_bridge.core.leading import Lease, led
from mqtt_bridge.core.numbering import Numbering
from mqtt_bridge.core.outbound import Outbound
from mqtt_bridge.core.packets import Lost, Packet, Refused
from mqtt_bridge.core.sharing import Subscription
from skep import errors

log = logging.getLogger("mqtt_bridge")

VERSIONS = (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311)
RETRY_FIRST, RETRY_LAST = 0.1, 2.0
SUBSCRIBE_SECONDS = 60.0
SPREAD_SECONDS = 2.0
"""So much later for each session it has does a bridge take another one."""

Serve = Callable[[Connection], Awaitable[None]]
MakeInbound = Callable[[Numbering, Callable[[str, bytes], Awaitable[None]], Callable[[bool], None]], Inbound]


class Dialler:
    """Connects, in the newest version of MQTT that the broker speaks: an older one refuses a newer CONNECT, closes, or
    (amqtt) answers what paho can't read."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._version = MQTTProtocolVersion.MQTTv311 if options.is_old else VERSIONS[0]

    async def connection(self, on_packet: Callable[[Packet], None] = lambda packet: None) -> Connection:
        """Raises Refused, Lost, OSError, TimeoutError."""
        for version in VERSIONS[VERSIONS.index(self._version) :]:
            connection = Connection(self._options, version, on_packet)
            try:
                await connection.open()
            except (Refused, Lost, TimeoutError):
                if version is VERSIONS[-1]:
                    raise
            else:
                self._version = version
                return connection
        raise AssertionError("the last version returns or raises")


class Session:
    """`keep` runs until cancelled: connect, serve, and again, with back-off and jitter."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_up = False

    async def keep(self, serve: Callable[[], Awaitable[None]]) -> None:
        delay = RETRY_FIRST
        while True:
            try:
                await serve()
            except (Refused, Lost, OSError, TimeoutError, errors.SkepError) as error:
                log.warning("%s: %s", self.name, error or "no answer in time")
            if self.is_up:
                delay = RETRY_FIRST
            self.is_up = False
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - spread, not secret
            delay = min(2 * delay, RETRY_LAST)


class OutboundSession(Session):
    def __init__(self, options: Options, outbound: Outbound) -> None:
        super().__init__("outbound")
        self._dialler, self._outbound = Dialler(options), outbound

    async def run(self) -> None:
        await self.keep(self._serve)

    async def _serve(self) -> None:
        connection = await self._dialler.connection()
        self.is_up = True
        try:
            await until_closed(connection, self._outbound.forward(connection))
        finally:
            await connection.close()


class Turns:
    """Of the sessions that one bridge may have: they are taken one after the other, the later the more it has, so that
    bridges which come together get as many each."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self.taken = 0

    async def take(self, lease: Lease) -> bool:
        """Raises Unavailable."""
        async with self._turn:
            await asyncio.sleep(SPREAD_SECONDS * self.taken)
            return await lease.take()


class InboundSession(Session):
    """Persistent: what is published while it is away waits at the broker. One bridge at a time has it, by a lease.

    renumbers: the broker is RabbitMQ, which serves a connection before it has taken back what the one before it had, so
    that this came behind newer packets: a first connection ends the old one, a second takes what comes.
    """

    def __init__(
        self,
        options: Options,
        make: MakeInbound,
        numbering: Callable[[], Numbering],
        lease: Lease,
        subscription: Subscription,
        turns: Turns,
        renumbers: bool,
    ) -> None:
        super().__init__(options.client_id)
        self._dialler, self._make, self._numbering, self._lease = Dialler(options), make, numbering, lease
        self._subscription, self._turns, self._renumbers = subscription, turns, renumbers

    async def run(self) -> None:
        await self.keep(self._serve)

    async def _serve(self) -> None:
        if not await self._turns.take(self._lease):
            return
        self._turns.taken += 1
        try:
            await self._served()
        finally:
            self._turns.taken -= 1

    async def _served(self) -> None:
        if self._renumbers:
            await (await self._dialler.connection()).close()
        arrived: list[Packet] = []
        receive: Callable[[Packet], None] = arrived.append
        connection = await self._dialler.connection(lambda packet: receive(packet))
        self.is_up = True
        responder = Responder(connection)
        inbound = self._make(self._numbering(), responder.respond, connection.pause)
        receive = lambda packet: inbound.receive(packet, lambda: connection.acknowledge(packet))  # noqa: E731
        for packet in arrived:
            receive(packet)
        try:
            # A broker may want what waits to be acknowledged before it answers a SUBSCRIBE.
            await until_closed(connection, inbound.run(), self._subscribed(connection), led(self._lease))
        finally:
            await connection.close()

    async def _subscribed(self, connection: Connection) -> None:
        wanted, unwanted = self._subscription.wanted, self._subscription.unwanted
        if self._subscription.is_shared and not connection.shares:
            raise Refused("several sessions need a broker that speaks MQTT 5")
        if wanted:
            await connection.subscribe(list(wanted), SUBSCRIBE_SECONDS)
        if unwanted and connection.shares:
            await connection.unsubscribe(list(unwanted))
        log.info("inbound: the broker hands on what is asked and inserted")
        await asyncio.wait([connection.closed])


class Evictor:
    """Ends clients' sessions at a broker that has no other way: who comes with the client id, as the bridge may, takes
    the session over, and a clean one leaves nothing of it, not even for a client that is away."""

    def __init__(self, options: Options) -> None:
        self._options = options

    async def evict(self, client_id: str) -> None:
        """Raises Refused, Lost, OSError, TimeoutError."""
        options = msgspec.structs.replace(self._options, client_id=client_id, persistent=False)
        await (await Dialler(options).connection()).close()


class Responder:
    """Publishes answers, within the connection's window."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._places = asyncio.Semaphore(connection.window)

    async def respond(self, topic: str, payload: bytes) -> None:
        """Done when the broker has it. An answer it does not take is dropped. Raises Lost."""
        async with self._places:
            with contextlib.suppress(Refused):
                await self._connection.publish(topic, payload)


async def until_closed(connection: Connection, *works: Awaitable[None]) -> None:
    """Until one of them ends; raises what it ended with."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait({*tasks, connection.closed}, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
