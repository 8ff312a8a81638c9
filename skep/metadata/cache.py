"""A cache of rows by id: bounded, loaded in batches, each key once at a time."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

from msgspec import Struct

from skep import errors

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

BATCH = 500
"""Most keys of one load."""
WAITING = 20_000
"""Most keys that may wait for a load; past it a miss is Unavailable."""
FRESH = 1.0
"""Seconds: a key is not read again for `fresh` before its entry is this old. So an app that keeps asking for what
it may not see costs the database one read a second."""


class Entry(Struct, Generic[V]):
    """What the database said at `time` (monotonic, when the read began); None: there is none."""

    value: V | None
    time: float
    weight: int


class Cache(Generic[K, V]):
    """`load` gives the rows that exist of many keys; `weigh` a row's bytes, roughly. `limit` is the sum of weights;
    what was used least recently goes first. Entries are served while at most `max_age` seconds old."""

    def __init__(
        self,
        load: Callable[[list[K]], Awaitable[dict[K, V]]],
        weigh: Callable[[V], int],
        limit: int,
        max_age: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._weigh = weigh
        self._limit = limit
        self._max_age = max_age
        self._clock = clock
        self._entries: OrderedDict[K, Entry[V]] = OrderedDict()
        self._weight = 0
        self._wanted: OrderedDict[K, asyncio.Future[V | None]] = OrderedDict()
        self._loading: dict[K, asyncio.Future[V | None]] = {}
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def peek(self, key: K) -> V | None:
        """The entry if it is here, without waiting; None also where it is known to be missing."""
        entry = self._valid(key)
        return None if entry is None else entry.value

    async def get(self, key: K, fresh: bool = False) -> V | None:
        """The row, None if there is none. fresh: read after this call, or at most FRESH seconds before it.

        Raises Unavailable where it is not here and can't be read; with `fresh`, what is here is served then."""
        entry = self._valid(key)
        if entry is not None and not (fresh and self._clock() - entry.time >= FRESH):
            return entry.value
        try:
            return await asyncio.shield(self._want(key, fresh))
        except errors.Unavailable:
            entry = self._valid(key)
            if entry is None:
                raise
            return entry.value

    def drop(self, keys: Iterable[K]) -> None:
        for key in keys:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self._weight -= entry.weight
            # What is being read may be from before the change: those who wait get it, nobody else.
            self._loading.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()
        self._loading.clear()
        self._weight = 0

    def _valid(self, key: K) -> Entry[V] | None:
        entry = self._entries.get(key)
        if entry is None or self._clock() - entry.time > self._max_age:
            return None
        self._entries.move_to_end(key)
        return entry

    def _want(self, key: K, fresh: bool) -> asyncio.Future[V | None]:
        if key in self._wanted:
            return self._wanted[key]
        if not fresh and key in self._loading:
            return self._loading[key]
        if len(self._wanted) >= WAITING:
            raise errors.Unavailable
        future: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_seen)
        self._wanted[key] = future
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return future

    async def _work(self) -> None:
        while self._wanted:
            count = min(BATCH, len(self._wanted))
            batch = dict(self._wanted.popitem(last=False) for _ in range(count))
            self._loading = dict(batch)
            began = self._clock()
            try:
                rows = await self._load(list(batch))
            except BaseException as error:
                self._failed(batch.values(), error)
                if not isinstance(error, Exception):
                    raise
            else:
                for key, future in batch.items():
                    value = rows.get(key)
                    if self._loading.get(key) is future:
                        self._keep(key, value, began)
                    if not future.done():
                        future.set_result(value)
            self._loading = {}

    def _failed(self, futures: Iterable[asyncio.Future[V | None]], error: BaseException) -> None:
        for future in futures:
            if not future.done():
                future.set_exception(error if isinstance(error, Exception) else errors.Unavailable())

    def _keep(self, key: K, value: V | None, time: float) -> None:
        weight = 200 + (self._weigh(value) if value is not None else 0)
        old = self._entries.pop(key, None)
        self._weight += weight - (old.weight if old is not None else 0)
        self._entries[key] = Entry(value, time, weight)
        while self._weight > self._limit and self._entries:
            _, entry = self._entries.popitem(last=False)
            self._weight -= entry.weight


def _seen(future: asyncio.Future[Any]) -> None:
    """Every waiter may have gone; the failure is nobody's then."""
    if not future.cancelled():
        future.exception()
