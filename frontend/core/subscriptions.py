"""Who in this process waits for messages: an index as the backend's, and at each delivery the rights as of now."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Protocol

from frontend.core.scope import Filter, Scope
from skep.access import Action, Principal
from skep.wire.messages import COMMAND, NOTIFICATION, Command, Events, Item, Notification

_Shape = tuple[bool, bool, bool, bool]
_SHAPES: tuple[_Shape, ...] = tuple(itertools.product((True, False), repeat=4))  # type: ignore[arg-type]


class Holder(Protocol):
    """Whose rights count."""

    @property
    def principal(self) -> Principal | None:
        """As of now; None where the token is of no use any more."""


class Watch:
    """Somebody who wants messages of a scope, as far as its holder may see them."""

    __slots__ = ("holder", "scope")

    def __init__(self, holder: Holder, scope: Scope) -> None:
        self.holder = holder
        self.scope = scope

    def wants(self, kind: int, message: Notification | Command, now: int) -> bool:
        """Whether a message that matches one of its filters is to be taken. now: ms since the epoch."""
        return (
            self.scope.holds(message)
            and may_see(self.holder.principal, kind, message, now)
            and is_current(kind, message, now)
        )

    def take(self, item: Item, message: Notification | Command) -> None:
        """A live message. Must not raise and must not wait."""
        raise NotImplementedError

    def lost(self) -> None:
        """Messages are missing from here on: the stream of events had a gap."""
        raise NotImplementedError


def action_of(kind: int) -> Action:
    """The permission to read messages of a kind."""
    return Action.GET_DEVICE_NOTIFICATION if kind == NOTIFICATION else Action.GET_DEVICE_COMMAND


def may_see(principal: Principal | None, kind: int, message: Notification | Command, now: int) -> bool:
    """now: ms since the epoch."""
    return (
        principal is not None
        and principal.expires >= now
        and action_of(kind) in principal.actions
        and principal.sees(message.network_id, message.device_type_id)
    )


def is_current(kind: int, message: Notification | Command, now: int) -> bool:
    """Whether it is to be delivered still: a command may have expired. now: ms since the epoch."""
    return kind != COMMAND or not isinstance(message, Command) or message.is_for_execution(now)


class Registry:
    """Subscribers of this process by filter; takes the events of this process's topic.

    now: ms since the epoch.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._index: dict[Filter, dict[Watch, None]] = {}
        self._shapes: dict[tuple[int, _Shape], int] = {}
        self._used: dict[int, tuple[_Shape, ...]] = {}
        self._incarnation = ""
        self._highest: dict[int, int] = {}
        self.delivered = 0
        self.repeated = 0

    def __len__(self) -> int:
        return len(self._watches())

    # -- who ------------------------------------------------------------------------------------------------------

    def add(self, watch: Watch) -> None:
        for filter_ in watch.scope.filters():
            watches = self._index.setdefault(filter_, {})
            if not watches:
                self._count(filter_, 1)
            watches[watch] = None

    def remove(self, watch: Watch) -> None:
        """Without effect for one that is not there."""
        for filter_ in watch.scope.filters():
            watches = self._index.get(filter_)
            if watches is not None and watches.pop(watch, self) is None and not watches:
                del self._index[filter_]
                self._count(filter_, -1)

    def lose(self) -> None:
        """A gap: tell everybody."""
        for watch in self._watches():
            watch.lost()

    def _watches(self) -> list[Watch]:
        return list({watch: None for watches in self._index.values() for watch in watches})

    def _count(self, filter_: Filter, by: int) -> None:
        kind, network, device_type, device, name = filter_
        shape = (network is not None, device_type is not None, device is not None, name is not None)
        self._shapes[kind, shape] = self._shapes.get((kind, shape), 0) + by
        self._used[kind] = tuple(s for s in _SHAPES if self._shapes.get((kind, s)))

    # -- what -----------------------------------------------------------------------------------------------------

    def dispatch(self, events: Events) -> None:
        """Give each item to those who want it, once, unless it was here before."""
        if events.incarnation != self._incarnation:
            self._incarnation = events.incarnation
            self._highest.clear()
        now = self._now()
        for item in events.items:
            if item.offset <= self._highest.get(item.partition, -1):
                self.repeated += 1
                continue
            self._highest[item.partition] = item.offset
            message = item.notification or item.command
            if message is not None:
                self._deliver(item, message, now)

    def highest(self, partition: int) -> int:
        """Offset of the last item that was handled, -1 before the first."""
        return self._highest.get(partition, -1)

    def positions(self) -> dict[int, int]:
        """`highest` of every partition as of now."""
        return dict(self._highest)

    def _deliver(self, item: Item, message: Notification | Command, now: int) -> None:
        kind = item.kind
        for watch in self._matching(kind, message):
            if watch.wants(kind, message, now):
                self.delivered += 1
                watch.take(item, message)

    def _matching(self, kind: int, message: Notification | Command) -> Iterable[Watch]:
        found: list[dict[Watch, None]] = []
        for n, t, d, m in self._used.get(kind, ()):
            watches = self._index.get(
                (
                    kind,
                    message.network_id if n else None,
                    message.device_type_id if t else None,
                    message.device_id if d else None,
                    message.name if m else None,
                )
            )
            if watches is not None:
                found.append(watches)
        if len(found) == 1:
            return list(found[0])
        return {watch: None for watches in found for watch in watches}
