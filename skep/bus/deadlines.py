"""One timer for many deadlines: a wheel of slots instead of a handle for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")

TICK = 0.05
"""Seconds between two looks; a deadline is told at most so much late."""


class Deadlines(Generic[K]):
    """`expired(keys)` is called once the deadline of `keys` has passed. Keys aren't removed: who is told of one
    that has ended looks it up and finds nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[list[K]], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._slots: dict[int, list[K]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, when: float, key: K) -> None:
        """when: in the loop's time."""
        slot = int(when / TICK) + 1
        keys = self._slots.get(slot)
        if keys is None:
            self._slots[slot] = [key]
            if self._timer is None:
                self._timer = self._loop.call_later(TICK, self._tick)
        else:
            keys.append(key)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._slots.clear()

    def _tick(self) -> None:
        now = int(self._loop.time() / TICK)
        due = sorted(slot for slot in self._slots if slot <= now)
        keys = [key for slot in due for key in self._slots.pop(slot)]
        self._timer = self._loop.call_later(TICK, self._tick) if self._slots else None
        if keys:
            self._expired(keys)
