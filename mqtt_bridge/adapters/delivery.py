"""QoS 1 between amqtt and its clients, as MQTT 3.1.1 has it (4.3.2, 4.4, 4.6).

To the broker: amqtt says PUBACK, and forgets what it has not handed on yet when the client disconnects then, as
mosquitto_pub does. Here the PUBACK comes after it is handed on.

To clients: amqtt 0.12.1 waits 5 s for a PUBACK and then drops the message; it drops what is under way when a connection
ends; it answers no SUBSCRIBE before all that waited for a client is acknowledged; and what waited goes out as retained.
Here a message stays with its session until its PUBACK, goes out again under its identifier when the client comes back,
and what is new lines up behind what waits. Whether a client may have a message is asked when it is its turn; where
nobody can tell, it waits.

A client that takes nothing: of QoS 0 it misses what does not fit; one that sends and reads no answers is disconnected;
of QoS 1 so much may wait, and then its session ends, so that the client learns of it (session present 0). amqtt bounds
nothing, and waits for such a client to take the rest whenever it closes a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from amqtt.adapters import ReaderAdapter, StreamWriterAdapter, WriterAdapter
from amqtt.errors import ProtocolHandlerError
from amqtt.mqtt.constants import QOS_1, QOS_2
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.session import ApplicationMessage, IncomingApplicationMessage, OutgoingApplicationMessage, Session

from skep import errors

WINDOW = 200
"""Messages under way to one client."""
WINDOW_BYTES = 2 << 20
SENDING, SENDING_BYTES = 1_000, 2 << 20
"""Packets that may wait for the connection to take them."""
PACKET_BYTES = 2 << 20
OVERHEAD = 1_000
"""Bytes that a message takes besides its payload."""
CLOSE_SECONDS = 2.0
RETRY_SECONDS = 10.0
"""For what has QoS 2, of which the platform has nothing."""
ASK_AGAIN_SECONDS = 1.0


class Waiting(asyncio.Queue[ApplicationMessage]):
    """A session's messages, counted in bytes."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self.bytes = 0

    def _put(self, item: ApplicationMessage) -> None:
        self.bytes += _size(item)
        super()._put(item)

    def _get(self) -> ApplicationMessage:
        item: ApplicationMessage = super()._get()
        self.bytes -= _size(item)
        return item

    @property
    def first(self) -> ApplicationMessage | None:
        return self._queue[0] if self._queue else None  # type: ignore[attr-defined]


class Limited(ReaderAdapter):  # type: ignore[misc]
    """Ends a connection on which a packet is announced that is larger than any may be."""

    def __init__(self, reader: ReaderAdapter, writer: WriterAdapter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, n: int = -1) -> bytes:
        if n > PACKET_BYTES:
            _abort(self._writer)
            raise ConnectionResetError
        return bytes(await self._reader.read(n))

    def feed_eof(self) -> None:
        self._reader.feed_eof()


class Delivering(BrokerProtocolHandler):  # type: ignore[misc]
    """`session.inflight_out`: sent and not acknowledged. `session.retained_messages`: waiting for room, or for a client
    that is away. take: hands a client's message on; False where the client has to go. waits: called with a session for
    which one more message does; ends it where they are too many. may_have: whether a session may have what is published
    to a topic; raises Unavailable.
    """

    take: Callable[[Session, IncomingApplicationMessage], Awaitable[bool]]
    waits: Callable[[Session], Awaitable[None]]
    may_have: Callable[[Session, str], Awaitable[bool]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_open = False
        self._line = asyncio.Lock()
        self._giving: asyncio.Task[None] | None = None
        self._early: tuple[DisconnectPacket | None] | None = None
        self._sending = self._sending_bytes = 0

    def attach(self, session: Session, reader: ReaderAdapter, writer: WriterAdapter) -> None:
        super().attach(session, Limited(reader, writer), writer)

    async def handle_publish(self, publish_packet: PublishPacket) -> None:
        topic, data, qos = publish_packet.topic_name, publish_packet.data, publish_packet.qos
        if qos > QOS_2:
            _abort(self.writer)
            return
        if topic is None or data is None or qos > QOS_1:
            await super().handle_publish(publish_packet)
            return
        session: Session = self.session
        message = IncomingApplicationMessage(publish_packet.packet_id, topic, qos, data, publish_packet.retain_flag)
        message.publish_packet = publish_packet
        async with self._line:
            is_welcome = await self.take(session, message)
        if not is_welcome:
            await self.handle_connection_closed()
        elif qos == QOS_1:
            await self._send_packet(PubackPacket.build(publish_packet.packet_id))

    async def handle_disconnect(self, disconnect: DisconnectPacket | None) -> None:
        self._early = None if self._is_open else (disconnect,)
        await super().handle_disconnect(disconnect)

    async def start(self) -> None:
        await super().start()
        if self._early is not None:  # before amqtt made what it waits for
            self._disconnect_waiter.set_result(self._early[0])
        self._is_open = True
        self._go_on()

    async def mqtt_publish(
        self, topic: str, data: bytes | bytearray, qos: int | None, retain: bool, ack_timeout: int | None = None
    ) -> OutgoingApplicationMessage:
        """With QoS 1: returns when it is in line."""
        message = OutgoingApplicationMessage(None, topic, qos, data, retain)
        if qos == QOS_1:
            self.session.retained_messages.put_nowait(message)
            self._go_on()
            await self.waits(self.session)
            return message
        with contextlib.suppress(errors.Unavailable):
            if await self.may_have(self.session, topic):
                return await super().mqtt_publish(topic, data, qos, retain, ack_timeout)
        return message

    async def handle_puback(self, puback: PubackPacket) -> None:
        if puback.variable_header is not None:
            self.session.inflight_out.pop(puback.variable_header.packet_id, None)
            self._go_on()

    async def _retry_deliveries(self) -> None:
        session: Session = self.session
        under_way = list(session.inflight_out.values())
        for message in under_way:
            if message.qos == QOS_1:
                await self._send_packet(message.build_publish_packet(dup=True))
        others = [m for m in (*session.inflight_in.values(), *under_way) if m.qos != QOS_1]
        if others:
            flows = [asyncio.wait_for(self._handle_message_flow(message), RETRY_SECONDS) for message in others]
            await asyncio.gather(*flows, return_exceptions=True)

    def _go_on(self) -> None:
        """With what waits, as far as there is room."""
        if self._is_open and (self._giving is None or self._giving.done()):
            self._giving = asyncio.create_task(self._give(self.session))

    async def _give(self, session: Session) -> None:
        waiting: Waiting = session.retained_messages
        while self._is_open and (message := waiting.first) is not None and _has_room(session):
            try:
                may = await self.may_have(session, message.topic)
            except errors.Unavailable:
                await asyncio.sleep(ASK_AGAIN_SECONDS)
                continue
            if waiting.first is not message:
                return  # the session has ended meanwhile
            waiting.get_nowait()
            if may:
                # Cancelled in there, amqtt says something else; by then it is not open any more.
                with contextlib.suppress(ProtocolHandlerError):
                    await self._send(session, message)

    async def _send(self, session: Session, message: ApplicationMessage) -> None:
        if not isinstance(message, OutgoingApplicationMessage):  # the broker's, for a client that was away
            message = OutgoingApplicationMessage(None, message.topic, QOS_1, message.data, retain=False)
        message.packet_id = session.next_packet_id
        session.inflight_out[message.packet_id] = message
        message.publish_packet = message.build_publish_packet()
        await self._send_packet(message.publish_packet)

    async def _send_packet(self, packet: Any) -> None:
        size = len(packet.data or b"") if isinstance(packet, PublishPacket) else 0
        if self._sending >= SENDING or self._sending_bytes > SENDING_BYTES:
            if not isinstance(packet, PublishPacket) or packet.qos:
                _abort(self.writer)
            return
        self._sending, self._sending_bytes = self._sending + 1, self._sending_bytes + size
        try:
            await super()._send_packet(packet)
        finally:
            self._sending, self._sending_bytes = self._sending - 1, self._sending_bytes - size

    async def stop(self) -> None:
        self._is_open = False
        if self._giving is not None:
            self._giving.cancel()
        writer = self.writer
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS) as limit:
                await super().stop()
        if limit.expired():
            _abort(writer)

    def handle_read_timeout(self) -> None:
        """The client has been silent for longer than it said it would be (MQTT 3.1.1, 3.1.2.10)."""
        _abort(self.writer)


def _has_room(session: Session) -> bool:
    under_way = session.inflight_out
    return len(under_way) < WINDOW and sum(map(_size, under_way.values())) < WINDOW_BYTES


def _size(message: ApplicationMessage) -> int:
    return len(message.data or b"") + OVERHEAD


def _abort(writer: WriterAdapter | None) -> None:
    """Close a connection without waiting for the client to take what is under way."""
    if writer is not None:
        held: Any = writer
        connection = held._writer if isinstance(writer, StreamWriterAdapter) else held._protocol
        connection.transport.abort()
