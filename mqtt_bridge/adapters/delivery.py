"""QoS 1 between amqtt and its clients, as MQTT 3.1.1 has it (4.3.2, 4.4, 4.6).

To the broker: amqtt says PUBACK, and forgets what it has not handed on yet when the client disconnects then, as
mosquitto_pub does. Here the PUBACK comes after it is handed on.

To clients: amqtt 0.12.1 waits 5 s for a PUBACK and then drops the message; it drops what is under way when a connection
ends; it answers no SUBSCRIBE before all that waited for a client is acknowledged; and what waited goes out as retained.
Here a message stays with its session until its PUBACK, goes out again under its identifier when the client comes back,
and what is new lines up behind what waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from amqtt.mqtt.constants import QOS_1
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.session import ApplicationMessage, IncomingApplicationMessage, OutgoingApplicationMessage, Session

WINDOW = 200
"""Messages under way to one client."""
RETRY_SECONDS = 10.0
"""For what has QoS 2, of which the platform has nothing."""


class Delivering(BrokerProtocolHandler):  # type: ignore[misc]
    """`session.inflight_out`: sent and not acknowledged. `session.retained_messages`: waiting for room, or for a client
    that is away; nothing bounds it, as in amqtt. take: hands a client's message on; False where the client has to go.
    """

    take: Callable[[Session, IncomingApplicationMessage], Awaitable[bool]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_open = False
        self._line = asyncio.Lock()

    async def handle_publish(self, publish_packet: PublishPacket) -> None:
        topic, data, qos = publish_packet.topic_name, publish_packet.data, publish_packet.qos
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

    async def start(self) -> None:
        await super().start()
        self._is_open = True
        await self._go_on()

    async def mqtt_publish(
        self, topic: str, data: bytes | bytearray, qos: int | None, retain: bool, ack_timeout: int | None = None
    ) -> OutgoingApplicationMessage:
        """With QoS 1: returns when it is on its way, or in line."""
        if qos != QOS_1:
            return await super().mqtt_publish(topic, data, qos, retain, ack_timeout)
        message = OutgoingApplicationMessage(None, topic, qos, data, retain)
        if self._is_open and self.session.retained_messages.empty() and self._has_room():
            await self._send(message)
        else:
            self.session.retained_messages.put_nowait(message)
        return message

    async def handle_puback(self, puback: PubackPacket) -> None:
        if puback.variable_header is not None:
            self.session.inflight_out.pop(puback.variable_header.packet_id, None)
            await self._go_on()

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

    async def _go_on(self) -> None:
        """With what waits, as far as there is room."""
        while self.session is not None and self._is_open and self._has_room():
            if self.session.retained_messages.empty():
                return
            kept: ApplicationMessage = self.session.retained_messages.get_nowait()
            if not isinstance(kept, OutgoingApplicationMessage):  # the broker's, for a client that was away
                kept = OutgoingApplicationMessage(None, kept.topic, QOS_1, kept.data, retain=False)
            await self._send(kept)

    async def _send(self, message: OutgoingApplicationMessage) -> None:
        # Up to the writer's lock without a wait: the order of calls is the order on the wire.
        message.packet_id = self.session.next_packet_id
        self.session.inflight_out[message.packet_id] = message
        message.publish_packet = message.build_publish_packet()
        await self._send_packet(message.publish_packet)

    def _has_room(self) -> bool:
        return len(self.session.inflight_out) < WINDOW
