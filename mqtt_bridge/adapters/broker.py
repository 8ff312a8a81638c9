"""The broker of the light set: amqtt, with the platform's rights.

What is ours on top of amqtt 0.12.1, here, in `admission`, `delivery` and `fan_out`:
- Clients wait until the bridge has subscribed to what they publish: after a start of the broker it has no session yet,
  and what is acknowledged would be for nobody.
- CONNECT is decided before amqtt looks for an older session of the client id: it would end that first and ask
  afterwards, so that anybody could cut anybody off.
- A client that comes again ends its older connection first.
- A will is refused at CONNECT where its topic would be refused in a PUBLISH.
- Plain `dh/request` goes on as `dh/request/<clientId>`: the broker knows who published.
- A client that connects gets what is retained for its own subscriptions only.
- What has QoS 1 is kept until it is acknowledged, on both sides: `delivery`.
- TLS: a client is asked for no certificate.
- What waits for a client is bounded.
- Nothing below `dh/` is retained, and events are checked again as they are handed out. What nobody can judge for now
  (PostgreSQL is away) is not refused, which would lose it: it waits, or whoever sent it comes again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import Any

import amqtt.broker
from amqtt.errors import MQTTError
from amqtt.mqtt.constants import QOS_1
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import IncomingApplicationMessage, Session
from msgspec import Struct

from mqtt_bridge.adapters.admission import ACCEPTED, BAD_LOGIN, UNAVAILABLE, Handler, Rights
from mqtt_bridge.adapters.delivery import CLOSE_SECONDS
from mqtt_bridge.adapters.fan_out import Subscriptions, Tasks
from mqtt_bridge.core import filters, topics
from mqtt_bridge.core.authority import PUBLISH, SUBSCRIBE, Authority, Question, or_no
from mqtt_bridge.core.filters import Events
from skep import errors

log = logging.getLogger("mqtt_bridge")

BRIDGES = 16
"""One bridge's backlog in those of clients."""
OWNER = "skep.owner"
"""Of a session's attributes: whose it is, a user's id."""
REFUSED = 0x80
"""Code of a SUBACK."""
PLAIN_REQUEST = f"{topics.ROOT}/{topics.REQUEST}"
BRIDGE_SECONDS = 10.0
"""A client waits for the bridge."""


class Door(Struct, frozen=True):
    """Where it listens; websocket_port 0: not for WebSockets, port 0: not for anything else."""

    host: str
    port: int
    websocket_port: int = 0
    tls: ssl.SSLContext | None = None

    def listeners(self) -> dict[str, dict[str, Any]]:
        kind = "plain" if self.tls is None else "tls"
        ports = {"tcp": self.port, "ws": self.websocket_port}
        return {f"{kind}-{type}": {"type": type, "bind": f"{self.host}:{port}"} for type, port in ports.items() if port}


class Broker(amqtt.broker.Broker):  # type: ignore[misc]
    """backlog: bytes that may wait for a client, whose session ends with more; for a bridge BRIDGES times as many, and
    with more nothing is taken for it."""

    def __init__(self, authority: Authority, backlog: int, *doors: Door) -> None:
        self._tls = {name: door.tls for door in doors for name in door.listeners()}
        # amqtt wants a default, and passes it over where it has no address; its own is 0.0.0.0.
        listeners: dict[str, Any] = {"default": {"bind": None}}
        for door in doors:
            listeners |= door.listeners()
        plugin = f"{Rights.__module__}.{Rights.__name__}"
        super().__init__({"listeners": listeners, "plugins": {plugin: {}}})
        self._authority, self._backlog = authority, backlog
        self._subscriptions = Subscriptions()
        self._tasks_queue = Tasks()
        self._full: Session | None = None
        self._missing = set(topics.INBOUND)
        """What no bridge has subscribed to yet. Its session stays when it goes."""
        self._is_complete = asyncio.Event()
        for made in self.plugins_manager.plugins:
            if isinstance(made, Rights):
                made.authority = authority
        # amqtt has no place for a handler of one's own but this name of its module.
        own: dict[str, Any] = {
            "admit": self._admit,
            "take": self._take,
            "waits": self._waits,
            "may_have": self._may_have,
            "end_older": self._end_older,
        }
        own = {name: staticmethod(method) for name, method in own.items()}
        amqtt.broker.BrokerProtocolHandler = type("Admitting", (Handler,), own)

    async def _create_server_instance(
        self, listener_name: str, listener_type: Any, address: str | None, port: int, ssl_context: None
    ) -> Any:
        # amqtt's own context wants to verify clients' certificates.
        tls = self._tls[listener_name]
        return await super()._create_server_instance(listener_name, listener_type, address, port, tls)

    async def _admit(self, session: Session) -> int:
        """The code of the CONNACK."""
        client_id, username, password = session.client_id or "", session.username or "", session.password or ""
        try:
            if not await self._authority.may_connect(client_id, username, password, session.remote_address or ""):
                return BAD_LOGIN
            if self._is_bridge(session):
                return ACCEPTED
            if session.will_flag and not await self._may_will(session):
                return BAD_LOGIN
        except errors.Unavailable:
            return UNAVAILABLE
        except errors.TooManyRequests:
            return BAD_LOGIN
        try:
            async with asyncio.timeout(BRIDGE_SECONDS):
                await self._is_complete.wait()
        except TimeoutError:
            log.warning("a client is refused: no bridge has come yet")
            return UNAVAILABLE
        return ACCEPTED

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        try:
            code: int = await super().add_subscription(subscription, session)
        except errors.Unavailable:  # a client that is refused may never ask again; one that comes anew does
            await self._get_handler(session).handle_connection_closed()
            return REFUSED
        if code == QOS_1 and self._is_bridge(session):
            self._missing.discard(subscription[0])
            if not self._missing:
                self._is_complete.set()
        return code

    async def _may_have(self, session: Session, topic: str) -> bool:
        """What is no event was judged at the subscription."""
        return not isinstance(filters.meaning(topic), Events) or await self._authority.may(
            Question(session.client_id or "", session.username or "", SUBSCRIBE, topic)
        )

    async def _may_will(self, session: Session) -> bool:
        topic, retain = session.will_topic or "", bool(session.will_retain)
        return await self._authority.may(
            Question(session.client_id or "", session.username or "", PUBLISH, topic, retain)
        )

    async def _take(self, session: Session, message: IncomingApplicationMessage) -> bool:
        taken: asyncio.Future[IncomingApplicationMessage] = asyncio.get_running_loop().create_future()
        taken.set_result(message)
        return bool(await self._handle_message_delivery(session, self._get_handler(session), taken))

    async def _end_older(self, new: Session) -> None:
        """A connection of the same client, before the new one begins: amqtt leaves it open, or takes both for gone."""
        client_id = new.client_id or ""
        try:
            owner = None if self._is_bridge(new) else await self._authority.owner(client_id)
        except errors.Unavailable as error:
            raise MQTTError("whose session it is can't be told") from error
        new.attributes[OWNER] = owner
        session, handler = self._sessions.get(client_id, (None, None))
        if session is not None and session.attributes[OWNER] != owner:
            await self.forget(client_id)
            return
        if session is None or session.transitions.state != "connected":
            return
        await handler.handle_connection_closed()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * CLOSE_SECONDS):
                await handler.ended.wait()

    async def _client_message_loop(self, client_session: Session, handler: BrokerProtocolHandler) -> None:
        await super()._client_message_loop(client_session, handler)
        if not handler.ended.is_set():  # amqtt goes on after some of what it refuses, and hears nothing
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            gone.set_result(None)
            await self._handle_disconnect(client_session, handler, gone)

    async def _handle_disconnect(
        self, client_session: Session, handler: BrokerProtocolHandler, disconnect_waiter: asyncio.Future[Any]
    ) -> None:
        if client_session.will_flag and not await or_no(self._may_will(client_session)):
            client_session.will_flag = False  # its rights have gone since it came
        try:
            await super()._handle_disconnect(client_session, handler, disconnect_waiter)
        finally:
            handler.ended.set()

    async def _waits(self, session: Session) -> None:
        if self._is_bridge(session):
            if self._is_full(session):
                self._full = session
        elif self._is_full(session):
            log.warning("client %s does not take what it subscribed to: its session ends", session.client_id)
            await self.disconnect(session.client_id or "")

    def _is_full(self, session: Session) -> bool:
        return bool(session.retained_messages.bytes > self._backlog * (BRIDGES if self._is_bridge(session) else 1))

    async def _retain_broadcast_message(self, broadcast: dict[str, Any], qos: int, target_session: Session) -> None:
        with contextlib.suppress(errors.Unavailable):  # then it is asked when it is handed out
            if not await self._may_have(target_session, broadcast["topic"]):
                return
        await super()._retain_broadcast_message(broadcast, qos, target_session)
        await self._waits(target_session)

    async def _handle_message_delivery(
        self, client_session: Session, handler: BrokerProtocolHandler, wait_deliver: asyncio.Future[Any]
    ) -> bool:
        """False, and so no PUBACK and the end of the connection, while a bridge has enough to do, or where nobody can
        tell whether the client may: who has not got a PUBACK comes again."""
        message = wait_deliver.result()
        if self._full is not None and not self._is_full(self._full):
            self._full = None
        if self._full is not None and message is not None and topics.inbound(message.topic or "") is not None:
            return False
        try:
            return bool(await super()._handle_message_delivery(client_session, handler, wait_deliver))
        except errors.Unavailable:
            return False

    async def _broadcast_message(
        self, session: Session | None, topic: str | None, data: bytes | bytearray | None, force_qos: int | None = None
    ) -> None:
        if topic == PLAIN_REQUEST and session is not None:
            topic = f"{PLAIN_REQUEST}/{session.client_id}"
        await super()._broadcast_message(session, topic, data, force_qos)

    async def retain_message(
        self,
        source_session: Session | None,
        topic_name: str | None,
        data: bytes | bytearray | None,
        qos: int | None = None,
    ) -> None:
        if topic_name is None or topic_name.split("/", 1)[0] != topics.ROOT:
            await super().retain_message(source_session, topic_name, data, qos)

    async def _publish_session_retained_messages(self, session: Session) -> None:
        """The handler has sent what waited, in its order."""

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        # amqtt does so for everybody's subscriptions when a client connects.
        if any(subscribed is session for subscribed, _ in self._subscriptions.get(subscription[0], [])):
            await super()._publish_retained_messages_for_subscription(subscription, session)

    async def forget(self, client_id: str) -> bool:
        """As `disconnect`; True."""
        await self.disconnect(client_id)
        return True

    async def disconnect(self, client_id: str) -> None:
        """End a client's connection and forget its session, if there is one."""
        found = self._sessions.get(client_id)
        if found is not None:
            log.info("a client's rights are gone, and so is its session")
            await found[1].handle_connection_closed()
            await self._delete_session(client_id)

    def _is_bridge(self, session: Session) -> bool:
        return self._authority.is_bridge(session.username or "")

    @property
    def client_ids(self) -> list[str]:
        """Of those that are connected."""
        return [id for id, (session, _) in self._sessions.items() if session.transitions.state == "connected"]
