"""One connection to the broker, by paho-mqtt, on the event loop (MQTT 5.0, and 3.1.1 where the broker is older).

A paho client is used for one connection only: what it would send again by itself after a reconnect, in an order of its
own, is the business of those who know what the platform has confirmed.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from msgspec import Struct
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from mqtt_bridge.adapters.buffered import BufferedClient
from mqtt_bridge.core.packets import Lost, Packet, Refused

log = logging.getLogger("mqtt_bridge")

MISC_SECONDS = 1.0
MAX_SESSION = 0xFFFFFFFF
"""Session expiry: never (MQTT 5.0, 3.1.2.11.2)."""


class Options(Struct, frozen=True):
    """Times in seconds. is_old: the broker speaks MQTT 3.1.1 only. receive: unacknowledged packets the broker may have
    under way to us. send: ours to it."""

    host: str = "127.0.0.1"
    port: int = 1883
    username: str = ""
    password: str = ""
    client_id: str = "skep-bridge"
    persistent: bool = False
    is_old: bool = False
    tls: ssl.SSLContext | None = None
    keepalive: int = 15
    timeout: float = 5.0
    receive: int = 500
    send: int = 64


class Connection:
    """`await open()`, then `publish`, `subscribe`, `acknowledge` until `closed` is done.

    on_packet(packet): a PUBLISH; it is acknowledged by `acknowledge` only.
    """

    def __init__(self, options: Options, version: MQTTProtocolVersion, on_packet: Callable[[Packet], None]) -> None:
        self._options = options
        self._version = version
        self._on_packet = on_packet
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is gone, with Lost as its exception."""
        self._connected: asyncio.Future[bool] = self._loop.create_future()
        self._unconfirmed: dict[int, asyncio.Future[None]] = {}
        self._subscribing: dict[int, asyncio.Future[None]] = {}
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._client = self._make()

    @property
    def shares(self) -> bool:
        """Whether the broker may know shared subscriptions, which are MQTT 5's."""
        return self._version == MQTTProtocolVersion.MQTTv5

    @property
    def window(self) -> int:
        """Packets that may be unconfirmed at a time."""
        return self._send_window

    # -- life -----------------------------------------------------------------------------------------------------

    async def open(self) -> bool:
        """Whether the broker still had our session. Raises Refused, Lost, OSError, TimeoutError."""
        o = self._options
        try:
            async with asyncio.timeout(o.timeout):
                # Resolving and connecting block.
                await self._loop.run_in_executor(None, self._connect)
                return await self._connected
        except BaseException:
            self.abort()
            raise

    def _connect(self) -> None:
        o = self._options
        properties = None
        if self._version == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.ReceiveMaximum = o.receive
            if o.persistent:
                properties.SessionExpiryInterval = MAX_SESSION
            self._client.connect(o.host, o.port, o.keepalive, clean_start=not o.persistent, properties=properties)
        else:
            self._client.connect(o.host, o.port, o.keepalive)

    def _make(self) -> BufferedClient:
        o = self._options
        self._send_window = o.send
        clean = None if self._version == MQTTProtocolVersion.MQTTv5 else not o.persistent
        client = BufferedClient(
            CallbackAPIVersion.VERSION2,
            client_id=o.client_id,
            clean_session=clean,
            protocol=self._version,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = o.timeout
        client.max_inflight_messages_set(o.send)
        client.max_queued_messages_set(o.send)
        if o.username:
            client.username_pw_set(o.username, o.password)
        if o.tls is not None:
            client.tls_set_context(o.tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = lambda c, u, mid, reasons, properties: self._on_subscribe(c, u, mid, [], properties)
        client.on_socket_open = self._socket_opens
        client.on_socket_close = self._socket_closes
        client.on_socket_register_write = self._write_when_possible
        client.on_socket_unregister_write = self._stop_writing
        return client

    async def close(self) -> None:
        """In order: the broker keeps a persistent session, and sends no will."""
        self._client.disconnect()
        await asyncio.wait([self.closed], timeout=1.0)
        self.abort()

    def abort(self) -> None:
        """At once."""
        sock = self._client.socket()
        if sock is not None:
            self._forget(sock)
            sock.close()
        self._ended("the connection was given up")

    # -- out ------------------------------------------------------------------------------------------------------

    def publish(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        """QoS 1, never retained. Done after the PUBACK; fails with Lost, or with Refused where the broker says no. The
        caller keeps within `window`."""
        confirmed: asyncio.Future[None] = self._loop.create_future()
        if self.closed.done():
            confirmed.set_exception(Lost("not connected"))
            return confirmed
        info = self._client.publish(topic, payload, qos=1)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise ValueError("more is unconfirmed than the window allows")
        self._unconfirmed[info.mid] = confirmed
        return confirmed

    async def subscribe(self, filters: list[str], timeout: float | None = None) -> None:
        """QoS 1; timeout: seconds, else that of the options. Raises Refused, Lost, TimeoutError."""
        result, mid = self._client.subscribe([(filter_, 1) for filter_ in filters])
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise Lost("not connected")
        granted: asyncio.Future[None] = self._loop.create_future()
        self._subscribing[mid] = granted
        async with asyncio.timeout(timeout or self._options.timeout):
            await granted

    async def unsubscribe(self, filters: list[str]) -> None:
        """Returns when the broker has done so, or never had them. Raises Lost, TimeoutError."""
        result, mid = self._client.unsubscribe(filters)
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise Lost("not connected")
        done: asyncio.Future[None] = self._loop.create_future()
        self._subscribing[mid] = done
        async with asyncio.timeout(self._options.timeout):
            await done

    def acknowledge(self, packet: Packet) -> None:
        """PUBACK; nothing where the connection is gone: the broker will send it again."""
        if packet.qos == 1 and not self.closed.done():
            self._client.ack(packet.id, 1)

    def pause(self, paused: bool) -> None:
        """Read no more packets from the broker for a while, or go on."""
        self._paused = paused
        sock = self._client.socket()
        if sock is None or self.closed.done():
            return
        if paused:
            self._loop.remove_reader(sock)
        else:
            self._loop.add_reader(sock, self._read)
            if self._client.has_unread:
                self._loop.call_soon(self._read)

    # -- the socket -----------------------------------------------------------------------------------------------

    def _opened(self) -> None:
        sock: Any = self._client.socket()
        if sock is not None and not self.closed.done():
            self._loop.add_reader(sock, self._read)
            if self._client.want_write():
                self._loop.add_writer(sock, self._write)
            self._timer = self._loop.call_later(MISC_SECONDS, self._misc)

    def _socket_opens(self, client: mqtt.Client, userdata: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._opened)  # from the thread that connects

    def _write_when_possible(self, client: mqtt.Client, userdata: Any, sock: Any) -> None:
        def register() -> None:
            if sock.fileno() >= 0 and not self.closed.done() and client.want_write():
                self._loop.add_writer(sock, self._write)

        # Also called from the thread that connects.
        self._loop.call_soon_threadsafe(register)

    def _stop_writing(self, client: mqtt.Client, userdata: Any, sock: Any) -> None:
        def unregister() -> None:
            if sock.fileno() >= 0:
                self._loop.remove_writer(sock)

        self._loop.call_soon_threadsafe(unregister)

    def _read(self) -> None:
        """All that has come, unless somebody says `pause`."""
        while not self._paused:
            self._client.loop_read()
            # A TLS record, too, may hold more packets than the socket tells of.
            sock = self._client.socket()
            if not self._client.has_unread and not (isinstance(sock, ssl.SSLSocket) and sock.pending()):
                break

    def _write(self) -> None:
        self._client.loop_write()

    def _misc(self) -> None:
        if not self.closed.done():
            self._client.loop_misc()
            self._timer = self._loop.call_later(MISC_SECONDS, self._misc)

    def _socket_closes(self, client: mqtt.Client, userdata: Any, sock: Any) -> None:
        self._forget(sock)

    def _forget(self, sock: Any) -> None:
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)

    # -- what paho calls ------------------------------------------------------------------------------------------

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if self._connected.done():
            return
        if reason.is_failure:
            self._connected.set_exception(Refused(str(reason)))
            return
        if properties is not None and hasattr(properties, "ReceiveMaximum"):
            self._send_window = min(self._options.send, properties.ReceiveMaximum)
        self._connected.set_result(bool(flags.session_present))

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._ended(str(reason))

    def _on_message(self, client: Any, userdata: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            log.warning("a topic that is no UTF-8 is passed over")
            self._client.ack(message.mid, message.qos)
            return
        if message.retain:
            log.warning("a retained message is passed over: nothing below dh/ is kept")
            self._client.ack(message.mid, message.qos)
            return
        self._on_packet(Packet(message.mid, topic, bytes(message.payload), message.qos, message.dup))

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
        confirmed = self._unconfirmed.pop(mid, None)
        if confirmed is None or confirmed.done():
            return
        if reason.is_failure:
            confirmed.set_exception(Refused(str(reason)))
        else:
            confirmed.set_result(None)

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Any) -> None:
        granted = self._subscribing.pop(mid, None)
        if granted is None or granted.done():
            return
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            granted.set_exception(Refused(f"subscription: {', '.join(refused)}"))
        else:
            granted.set_result(None)

    def _ended(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        waiting = [*self._unconfirmed.values(), *self._subscribing.values()]
        self._unconfirmed.clear()
        self._subscribing.clear()
        futures: list[asyncio.Future[Any]] = [self._connected, self.closed, *waiting]
        for future in futures:
            if not future.done():
                future.set_exception(Lost(reason))
                future.exception()  # whoever waits is told; where nobody does, nobody misses it
