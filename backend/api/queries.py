"""Answers `queries` from the store: concurrently, bounded, and only while somebody waits."""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec
from msgspec import MsgspecError, Raw, Struct

from backend.api.counters import Counters
from backend.core.store import LARGEST, Page, Store, as_of, encode_item, retagged, table
from skep import bus, errors
from skep.wire import topics
from skep.wire.messages import Call, Get, Query, decode_call, decode_query

log = logging.getLogger("backend.queries")
_pack = msgspec.msgpack.Encoder().encode


class _Found(Struct, array_like=True):
    """`skep.wire.messages.Found` with items that are encoded already."""

    items: list[Raw]
    more: bool = False
    loose: bool = False


class Queries:
    def __init__(self, link: bus.Bus, store: Store, at_once: int, counters: Counters) -> None:
        self._bus = link
        self._store = store
        self._slots = asyncio.Semaphore(at_once)
        self._limit = at_once
        self._counters = counters
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        # What waits here is what another backend could answer: no more than a few rounds.
        self._subscription = await self._bus.subscribe(topics.QUERIES, records=self._limit * 4)

    async def close(self) -> None:
        await self._subscription.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def follow(self) -> None:
        """Take queries; until cancelled. Raises bus.Closed."""
        while True:
            for event in await self._subscription.next():
                if isinstance(event, bus.Records):
                    for record in event.records:
                        await self._take(record.payload or b"")

    async def _take(self, payload: bytes) -> None:
        try:
            call = decode_call(payload)
        except MsgspecError as e:
            log.warning("not a call: %s", e)
            return
        await self._slots.acquire()
        task = asyncio.create_task(self._answer(call))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def _answer(self, call: Call) -> None:
        left = call.deadline / 1000 - time.time()
        if left <= 0:
            self._counters.late += 1
            return
        self._counters.queries += 1
        try:
            async with asyncio.timeout(left):
                found = await self._find(decode_query(call.body))
        except MsgspecError as e:
            self._bus.reply(call, errors.BadRequest.status, str(e))
        except TimeoutError:
            self._counters.late += 1
        except errors.SkepError as e:
            self._bus.reply(call, e.status, e.text)
        except Exception:
            log.exception("a query failed")
            self._bus.reply(call, errors.Internal.status, errors.Internal().text)
        else:
            self._bus.reply(call, body=Raw(_pack(found)))

    async def _find(self, query: Query) -> _Found:
        if isinstance(query, Get):
            kind = table(query.kind)
            held = await self._store.get(kind, [(query.device_id, query.id)])
            page = Page([retagged(encode_item(h.item), query.kind) for h in held.values()])
        else:
            page = await self._store.list(query, LARGEST)
        now = int(time.time() * 1000)
        return _Found([Raw(as_of(body, query.kind, now)) for body in page.items], page.more, page.loose)
