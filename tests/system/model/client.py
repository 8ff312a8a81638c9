"""One socket of a run: its requests with the replies that they must get, and its subscriptions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.system.model.oracle import Event, Message, Watch
from tests.system.model.peer import Peer
from tests.system.model.rights import Token

POLICY = 1008
Reply = dict[str, Any]


@dataclass(frozen=True)
class Refusal:
    code: int
    error: str


UNAUTHORIZED = Refusal(401, "Unauthorized")
DENIED = Refusal(403, "Access is denied")


@dataclass(eq=False)
class Ask:
    """A request. refusal: None where it must succeed, with the fields `gives` and nothing else. begin: before anything
    of its step is sent; succeeded: when the reply is read; settle: when all replies of its step are. judged: False
    where any reply will do. by: how it is asked elsewhere. index: its place in the step. order: of beginning. message,
    event: what it inserts, what it updates."""

    client: Client
    action: str
    body: dict[str, Any]
    refusal: Refusal | None = None
    gives: frozenset[str] = frozenset()
    request_id: object = None
    begin: Callable[[], None] = lambda: None
    succeeded: Callable[[Reply], None] = lambda reply: None
    settle: Callable[[], None] = lambda: None
    judged: bool = True
    by: Callable[[], Reply] | None = None
    index: int = 0
    order: int = 2
    message: Message | None = None
    event: Event | None = None
    reply: Reply | None = None
    dropped: bool = False

    @property
    def done(self) -> bool:
        return self.reply is not None or self.dropped

    @property
    def success(self) -> bool:
        return self.reply is not None and self.refusal is None

    async def send(self) -> None:
        if self.by is None:
            await self.client.send(self)
        else:
            self.take(self.by())

    def text(self) -> str:
        return json.dumps({"action": self.action, "requestId": self.request_id, **self.body})

    def take(self, reply: Reply) -> None:
        """Judge the reply: all of the envelope (reference 5.2)."""
        echo = {"action": self.action, "requestId": self.request_id}
        if not self.judged:
            pass
        elif self.refusal is not None:
            expected = {**echo, "status": "error", "code": self.refusal.code, "error": self.refusal.error}
            assert reply == expected, f"expected {expected}"
        else:
            expected = {**echo, "status": "success"}
            assert {k: reply.get(k) for k in expected} == expected, f"expected {expected}"
            assert reply.keys() == expected.keys() | self.gives, f"expected {expected} and {set(self.gives)}"
            self.succeeded(reply)
        self.reply = reply


@dataclass(eq=False)
class Client:
    """`token` is None while nobody is authenticated. changed(): something has come. failures: shared by all."""

    name: str
    messages: dict[int, Message]
    failures: list[str]
    changed: asyncio.Event
    token: Token | None = None
    before: Token | None = None
    """As the token was before a change that may not have come through yet."""
    watches: dict[int, Watch] = field(default_factory=dict)
    wanted: list[Watch] = field(default_factory=list)
    """Asked for and not yet answered."""
    asked: list[Ask] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    peer: Peer | None = None
    closing: bool = False
    overslept: bool = False
    """It was closed because nobody had authenticated for a while; the run was slower than that."""

    async def open(self, url: str, token: Token | None) -> None:
        """With the token in the handshake."""
        self.peer = await Peer.open(url, self._text, self._end, token.text if token else None)
        self.token = token

    @property
    def caller(self) -> Token | None:
        """Whom the platform takes it for."""
        return None if self.token is None or self.token.user.disabled else self.token

    def holders(self) -> list[Token | None]:
        """Whoever it may be taken for."""
        return [self.caller] if self.before is None else [self.caller, self.before]

    async def send(self, ask: Ask) -> None:
        assert self.peer is not None
        self.asked.append(ask)
        text = ask.text()
        self.log.append(f"> {text}")
        await self.peer.send(text)

    def live(self, entity: str | None = None) -> list[Watch]:
        """Its subscriptions."""
        return [w for w in self.watches.values() if not w.ended and entity in (None, w.entity)]

    # -- what comes --------------------------------------------------------------------------------------------------

    def _text(self, text: str) -> None:
        self.log.append(f"< {text}")
        try:
            self._judge(json.loads(text))
        except AssertionError as error:
            self.failures.append(f"{self.name}: {error}\n  {text}")
        self.changed.set()

    def _judge(self, frame: dict[str, Any]) -> None:
        if "status" not in frame:
            watch = self.watches.get(frame.get("subscriptionId", 0))
            assert watch is not None, "pushed for a subscription that nobody has told of"
            watch.take(frame, self.messages)
            return
        key = frame.get("requestId")
        ask = next((a for a in self.asked if _same(a.request_id, key)), None)
        assert ask is not None, "a reply that nobody waits for"
        self.asked.remove(ask)
        try:
            ask.take(frame)
        finally:
            ask.reply = frame

    def _end(self) -> None:
        assert self.peer is not None
        if not self.closing and self.caller is None and self.peer.close_code == POLICY:
            self.overslept = True
        elif not self.closing:
            self.failures.append(f"{self.name}: closed by the server with {self.peer.close_code}")
        for ask in self.asked:
            ask.dropped = True
        self.asked.clear()
        self.changed.set()

    async def close(self, abort: bool = False) -> None:
        """Its subscriptions are owed nothing any more."""
        self.closing = True
        assert self.peer is not None
        await (self.peer.abort() if abort else self.peer.close())
        for watch in self.watches.values():
            watch.ended = True
            watch.forgive()


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def shown(clients: Iterable[Client], lines: int = 400) -> str:
    """The last of what went over each socket."""
    parts = []
    for client in clients:
        parts += [f"-- {client.name}", *(line[:600] for line in client.log[-lines:])]
    return "\n".join(parts)
