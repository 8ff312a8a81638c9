"""The answers to a broker's questions, whatever form they come in."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable

from msgspec import Struct

from mqtt_bridge.core.acl import Acl
from mqtt_bridge.core.clients import Clients
from skep import errors

log = logging.getLogger("mqtt_bridge")

PUBLISH, SUBSCRIBE = "publish", "subscribe"


class Question(Struct, frozen=True):
    """Whether a connected client may publish to a topic, or subscribe to a filter."""

    client_id: str
    username: str
    access: str
    topic: str
    retain: bool = False


class Authority:
    """The answers, for every form."""

    def __init__(self, clients: Clients, acl: Acl, username: str, password: str) -> None:
        self._clients, self._acl = clients, acl
        self._username, self._password = username, password

    async def may_connect(self, client_id: str, username: str, password: str, address: str) -> bool:
        if username == self._username:
            return hmac.compare_digest(password.encode(), self._password.encode())
        return await _or_no(self._clients.connect(client_id, username, password, address))

    async def may(self, question: Question) -> bool:
        if question.username == self._username:
            return True  # brokers ask for names they have let in only
        return await _or_no(self._may(question))

    async def _may(self, question: Question) -> bool:
        client = await self._clients.client(question.client_id)
        if question.access == PUBLISH:
            return await self._acl.may_publish(client, question.topic, question.retain)
        return await self._acl.may_subscribe(client, question.topic)


async def _or_no(answer: Awaitable[bool]) -> bool:
    try:
        return await answer
    except errors.SkepError as error:
        log.warning("a broker's question is answered with no: %s", error.text)
        return False
