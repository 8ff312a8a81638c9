"""Polls that do not wait (`waitTimeout=0`) come hundreds of times a second: where nothing can be new, nothing is read.

A scope that is polled again within `SOON` becomes an interest, as for a subscription. A read made while that is in
effect and finding nothing later than T holds for later polls, whoever asks, because it looked at the scope and not at
the reader's rights. It ends with

- an event of the scope, a gap in the events or a lost lease;
- an acknowledgement on its way through this process to somebody who wrote into the scope. There is no order between
  replies and events: each topic has its own credit at the proxy, and events queue here once more. So the
  acknowledgement counts as an event, before its receiver hears of it, and the receiver's next poll reads;
- `MAX_AGE`. Of an acknowledgement through another frontend nothing is known here, and its event may still be on its
  way: a poll of this frontend finds such a message at most that much later. So does it what is stored without an event
  (a command past its deadline).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from frontend.core.interests import Claim, Interests
from frontend.core.scope import Scope
from frontend.core.subscriptions import Registry, Watch
from skep.access import Principal
from skep.metadata.rows import Device
from skep.wire.messages import Command, Item, Notification

MAX_AGE = 0.2
SOON = 1.0
IDLE = 5.0
"""Seconds after its last poll that a scope is forgotten."""
SWEEP = 1.0
MAX_SCOPES = 1_000
MAX_COMMANDS = 100
"""Most commands of a device that are remembered as not updated."""
MAX_FILTERS = 16
"""A scope of more interests is read at every poll."""

_Place = tuple[int, int | None, int | None, str | None]


class _Everybody:
    """Rights are the reader's business."""

    principal: Principal | None = None


class Reading(NamedTuple):
    """A read that is about to begin: when, and how many messages of its scope had come."""

    began: float
    touched: int


class QuietScope(Watch):
    """A scope that is polled. `since`: nothing later than that was stored when the read of `read_at` began."""

    __slots__ = ("_owner", "_unchanged", "claim", "effective", "read_at", "since", "touched", "used")

    def __init__(self, owner: QuietScopes, scope: Scope, now: float) -> None:
        super().__init__(_Everybody(), scope)
        self._owner = owner
        self.claim: Claim | None = None
        self.effective = False
        self.since: int | None = None
        self.read_at = 0.0
        self.touched = 0
        self.used = now
        self._unchanged: dict[int, float] = {}
        """Commands that were not updated yet when the read of then began."""

    def covers(self, since: int) -> bool:
        """Whether a poll for what is later than `since` need not read."""
        return self.since is not None and self.since <= since and self._owner.time() - self.read_at <= MAX_AGE

    def begin(self) -> Reading | None:
        """Before a read; None where its outcome will not be good for others."""
        return Reading(self._owner.time(), self.touched) if self.effective else None

    def found_nothing(self, since: int, reading: Reading) -> None:
        """Of the whole scope, whoever may see it."""
        if self.effective and self.touched == reading.touched:
            self.since, self.read_at = since, reading.began

    def is_unchanged(self, command_id: int) -> bool:
        """Whether a command need not be read to know that it is not updated; of a scope of updates."""
        return self._owner.time() - self._unchanged.get(command_id, -MAX_AGE) <= MAX_AGE

    def found_unchanged(self, command_id: int, reading: Reading) -> None:
        if self.effective and self.touched == reading.touched:
            if len(self._unchanged) >= MAX_COMMANDS:
                self._unchanged.clear()
            self._unchanged[command_id] = reading.began

    def touch(self) -> None:
        self.since = None
        self._unchanged.clear()
        self.touched += 1

    def wants(self, kind: int, message: Notification | Command, now: int) -> bool:
        """Never: it only takes note."""
        if self.scope.holds(message):
            self.touch()
        return False

    def take(self, item: Item, message: Notification | Command) -> None: ...

    def lost(self) -> None:
        self._owner.forget(self)


class QuietScopes:
    """The scopes that are polled without waiting; those polled least recently go first. time: seconds."""

    def __init__(self, registry: Registry, interests: Interests, time: Callable[[], float] = time.monotonic) -> None:
        self._registry, self._interests = registry, interests
        self._scopes: OrderedDict[Scope, QuietScope] = OrderedDict()
        self._places: dict[_Place, dict[QuietScope, None]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self.time = time

    def __len__(self) -> int:
        return len(self._scopes)

    def polled(self, scope: Scope) -> QuietScope:
        """To be called at every poll."""
        now = self.time()
        quiet = self._scopes.get(scope)
        if quiet is None:
            quiet = self._scopes[scope] = QuietScope(self, scope, now)
            if len(self._scopes) > MAX_SCOPES:
                self.forget(next(iter(self._scopes.values())))
            if self._sweep is None:
                self._sweep = asyncio.get_running_loop().call_later(SWEEP, self._forget_old)
            return quiet
        self._scopes.move_to_end(scope)
        if quiet.claim is None and now - quiet.used <= SOON:
            self._watch(quiet)
        quiet.used = now
        return quiet

    def acknowledged(self, kind: int, device: Device) -> None:
        """A message for the device is stored, and whoever sent it is about to be told."""
        if self._places:
            network, device_type = device.network_id, device.device_type_id
            for place in (
                (kind, None, None, device.id),
                (kind, network, None, None),
                (kind, None, device_type, None),
                (kind, None, None, None),
            ):
                for quiet in self._places.get(place, ()):
                    quiet.touch()

    def forget(self, quiet: QuietScope) -> None:
        """Without effect for one that is forgotten."""
        if self._scopes.get(quiet.scope) is not quiet:
            return
        del self._scopes[quiet.scope]
        quiet.touch()
        quiet.effective = False
        if quiet.claim is None:
            return
        self._registry.remove(quiet)
        self._interests.release(quiet.claim)
        for place in _places(quiet.scope):
            there = self._places.get(place, {})
            there.pop(quiet, None)
            if not there:
                self._places.pop(place, None)

    def _watch(self, quiet: QuietScope) -> None:
        filters = quiet.scope.filters()
        if len(filters) > MAX_FILTERS:
            return
        self._registry.add(quiet)
        for place in _places(quiet.scope):
            self._places.setdefault(place, {})[quiet] = None
        quiet.claim = self._interests.acquire(filters)
        if quiet.claim.effect is None:
            quiet.effective = True
        else:
            quiet.claim.effect.add_done_callback(lambda effect: self._in_effect(quiet, effect))

    def _in_effect(self, quiet: QuietScope, effect: asyncio.Future[Any]) -> None:
        if effect.cancelled() or effect.exception() is not None:
            self.forget(quiet)
        elif self._scopes.get(quiet.scope) is quiet:
            quiet.effective = True

    def _forget_old(self) -> None:
        self._sweep = None
        old = self.time() - IDLE
        while self._scopes and (first := next(iter(self._scopes.values()))).used < old:
            self.forget(first)
        if self._scopes:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP, self._forget_old)


def _places(scope: Scope) -> Iterator[_Place]:
    return ((kind, network, device_type, device) for kind, network, device_type, device, _ in scope.filters())
