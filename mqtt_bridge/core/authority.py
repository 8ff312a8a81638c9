"""The answers to a broker's questions, whatever form they come in."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable

from msgspec import Struct

from mqtt_bridge.core.acl import Acl, Client
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
    """The answers, for every form. Where nobody can tell they raise Unavailable: our broker lets what it is about come
    again; others want a yes or a no (`YesOrNo`).

    username, password: the bridge's own. session: with what the client ids of bridges
    begin, which nobody else may have: who takes one over gets all requests, passwords included."""

    def __init__(self, clients: Clients, acl: Acl, username: str, password: str, session: str) -> None:
        self._clients, self._acl = clients, acl
        self._username, self._password, self._session = username, password, session
        self._callbacks: list[Callable[[Client], bool]] = []

    def on_admitted(self, callback: Callable[[Client], bool]) -> None:
        """Called with everybody who may connect, but for bridges. False: not yet."""
        self._callbacks.append(callback)

    def is_bridge(self, username: str) -> bool:
        """Of a client that was let in."""
        return username == self._username

    async def owner(self, client_id: str) -> int | None:
        """The user whose client it is, as of now; None: nobody's. Raises Unavailable."""
        principal = (await self._clients.client(client_id)).principal
        return None if principal is None else principal.user_id

    async def may_connect(self, client_id: str, username: str, password: str, address: str) -> bool:
        """Raises Unavailable, TooManyRequests."""
        if self.is_bridge(username):
            return hmac.compare_digest(password.encode(), self._password.encode())
        if client_id.startswith(self._session):
            return False
        if not await self._clients.connect(client_id, username, password, address):
            return False
        client = await self._clients.client(client_id)
        # Asked last and at once: the end of its session may have been decided while it logged in.
        return client_id not in self._clients.ending and all(callback(client) for callback in self._callbacks)

    async def may(self, question: Question) -> bool:
        """Raises Unavailable."""
        if self.is_bridge(question.username):
            return True  # brokers ask for names they have let in only
        client = await self._clients.client(question.client_id)
        if question.access == PUBLISH:
            return await self._acl.may_publish(client, question.topic, question.retain)
        return await self._acl.may_subscribe(client, question.topic)


class YesOrNo:
    """As `Authority`; no where nobody can tell."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def may_connect(self, client_id: str, username: str, password: str, address: str) -> bool:
        return await or_no(self._authority.may_connect(client_id, username, password, address))

    async def may(self, question: Question) -> bool:
        return await or_no(self._authority.may(question))


async def or_no(answer: Awaitable[bool]) -> bool:
    """no where nobody can tell."""
    try:
        return await answer
    except errors.SkepError as error:
        log.warning("a broker's question is answered with no: %s", error.text)
        return False
