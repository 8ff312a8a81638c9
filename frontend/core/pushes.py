"""A subscription of a socket: first what is stored, then what comes live, nothing twice, nothing left out."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from frontend.core import replay
from frontend.core.interests import Claim
from frontend.core.scope import Scope
from frontend.core.services import Services, now
from frontend.core.subscriptions import Holder, Watch
from skep.web import json
from skep.wire import views
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE, Command, Item, Notification

ACTIONS = {NOTIFICATION: b"notification", COMMAND: b"command", UPDATE: b"command"}
_HEADS = {
    NOTIFICATION: b'{"action":"notification/insert","notification":',
    COMMAND: b'{"action":"command/insert","command":',
    UPDATE: b'{"action":"command/update","command":',
}
BUFFER_MESSAGES = 1_000
BUFFER_BYTES = 1 << 20
_last: tuple[Item | None, bytes] = (None, b"")
_ids = itertools.count()


def new_id() -> int:
    """Rising, below 2^53: ms * 1000 and a rolling number, as the reference gives them."""
    global _ids
    first = now() * 1000
    id = next(_ids)
    if id < first:
        _ids = itertools.count(first + 1)
        id = first
    return id


def encode(item: Item) -> bytes:
    """The push without its end: subscription id and brace. Made once for all subscriptions it goes to."""
    global _last
    if _last[0] is not item:
        _last = (item, _HEADS[item.kind] + json.encode(views.message(item)) + b',"subscriptionId":')
    return _last[1]


class Subscription(Watch):
    """send(payload): to the socket. overflow(): what waits for the replay's end is past its bound.

    request: what was asked for, as subscription/list tells it. Where that names no place, the scope is all that the
    holder sees, and moves with it."""

    __slots__ = (
        "_buffer",
        "_claim",
        "_end",
        "_handled",
        "_overflow",
        "_seen",
        "_send",
        "_services",
        "_size",
        "id",
        "request",
    )

    def __init__(
        self,
        services: Services,
        holder: Holder,
        scope: Scope,
        request: dict[str, Any],
        send: Callable[[bytes], None],
        overflow: Callable[[], None],
    ) -> None:
        super().__init__(holder, scope)
        self.id = new_id()
        self.request = request
        self._end = str(self.id).encode() + b"}"
        self._services, self._send, self._overflow = services, send, overflow
        self._buffer: list[Item] | None = []
        self._size = 0
        self._seen: dict[tuple[str, int], Item] = {}
        self._claim: Claim | None = None
        self._handled: dict[int, int] = {}

    def begin(self) -> Any:
        """Register and ask for the interests. None, or the future that says they are in effect."""
        self._services.registry.add(self)
        self._handled = self._services.registry.positions()
        self._claim = self._services.interests.acquire(self.scope.filters())
        return self._claim.effect

    @property
    def is_due(self) -> Callable[[Item], bool]:
        """Whether a stored item belongs in the replay; once in effect."""
        assert self._claim is not None
        return replay.before(self._claim, self._handled)

    def end(self) -> None:
        """Once, after `begin`."""
        self._services.registry.remove(self)
        if self._claim is not None:
            self._services.interests.release(self._claim)
            self._claim = None

    def move(self, scope: Scope) -> None:
        """Follow rights that have changed. What comes before new interests are in effect is not sent."""
        before, self._claim = self._claim, self._services.interests.acquire(scope.filters())
        self._services.registry.remove(self)
        self.scope = scope
        self._services.registry.add(self)
        if self._claim.effect is not None:
            self._claim.effect.add_done_callback(self._moved)
        if before is not None:
            self._services.interests.release(before)

    def _moved(self, effect: asyncio.Future[Any]) -> None:
        failed = effect.cancelled() or effect.exception() is not None
        if failed and self._claim is not None and self._claim.effect is effect:
            self._overflow()

    def push(self, items: Iterable[Item]) -> None:
        """Send what was stored."""
        for item in items:
            self._seen[replay.id_of(item)] = item
            self._send(encode(item) + self._end)

    def go_live(self) -> None:
        """The replay is over: send what came meanwhile, but what it contained, and from now on what comes."""
        buffer, self._buffer = self._buffer or [], None
        for item in buffer:
            if not self._was_seen(item):
                self._send(encode(item) + self._end)
        # Only what the backends have stored but not yet sent can still come a second time.
        highest = self._services.registry.highest
        self._seen = {key: i for key, i in self._seen.items() if i.offset > highest(i.partition)}

    def take(self, item: Item, message: Notification | Command) -> None:
        if self._buffer is None:
            if not self._seen or not self._was_seen(item):
                self._send(encode(item) + self._end)
            return
        self._size += len(message.parameters or b"") + 200
        if len(self._buffer) >= BUFFER_MESSAGES or self._size > BUFFER_BYTES:
            self._overflow()
        else:
            self._buffer.append(item)

    def lost(self) -> None:
        self._overflow()

    def _was_seen(self, item: Item) -> bool:
        seen = self._seen.get(replay.id_of(item))
        if seen is None:
            return False
        if item.kind != UPDATE:  # inserted once, whatever updates the stored item has had since
            del self._seen[replay.id_of(item)]
            return True
        return item.partition == seen.partition and item.offset <= seen.offset
