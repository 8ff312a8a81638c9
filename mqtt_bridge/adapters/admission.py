"""Who comes in at amqtt 0.12.1, and what one may there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.contexts import Action, BaseContext
from amqtt.errors import AMQTTError, MQTTError
from amqtt.mqtt.connack import ConnackPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from mqtt_bridge.adapters.delivery import Delivering, Waiting
from mqtt_bridge.core.authority import PUBLISH, SUBSCRIBE, Authority, Question

CONNECT_SECONDS = 10.0
ACCEPTED, UNAVAILABLE, BAD_LOGIN = 0, 3, 4
"""Codes of a CONNACK (MQTT 3.1.1, 3.2.2.3)."""


class Rights(BaseAuthPlugin, BaseTopicPlugin):  # type: ignore[misc]
    """amqtt makes it by its name; `Broker` hands it the authority, whose Unavailable passes through amqtt."""

    authority: Authority

    def __init__(self, context: BaseContext) -> None:
        BaseAuthPlugin.__init__(self, context)
        self.topic_config = None

    async def authenticate(self, *, session: Session) -> bool | None:
        return True  # decided at CONNECT, before this

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool | None:
        if session is None or topic is None:
            return False
        if action == Action.RECEIVE:
            return True  # judged as it is handed out
        access = PUBLISH if action == Action.PUBLISH else SUBSCRIBE
        return await self.authority.may(Question(session.client_id or "", session.username or "", access, topic))


class Handler(Delivering):
    """Asks who a client is as soon as its CONNECT is read."""

    admit: Callable[[Session], Awaitable[int]]
    end_older: Callable[[Session], Awaitable[None]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ended = asyncio.Event()

    @classmethod
    async def init_from_connect(
        cls, reader: ReaderAdapter, writer: WriterAdapter, plugins_manager: Any, loop: Any = None
    ) -> tuple[BrokerProtocolHandler, Session]:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                handler, session = await super().init_from_connect(reader, writer, plugins_manager, loop)
        except TimeoutError as error:
            raise MQTTError("no CONNECT") from error
        except AMQTTError as error:  # amqtt would leave it open
            raise MQTTError(str(error)) from error
        session.retained_messages = Waiting()
        session.keep_alive += session.keep_alive // 2  # so long it may be silent
        code = await cls.admit(session)
        if code != ACCEPTED:
            await ConnackPacket.build(0, code).to_stream(writer)
            await writer.close()
            raise MQTTError("refused")
        await cls.end_older(session)
        return handler, session
