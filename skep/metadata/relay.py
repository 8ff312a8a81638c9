"""The relay: outbox -> bus, and `metadata-changes` -> caches.

One relay works at a time, whichever service it is in: it holds an advisory lock while it publishes a batch, so
rows reach the bus in the order of their ids, and a device's rows were written in the order of its saves. What was
published but not deleted is published again: every row is one that may come twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable
from typing import Any, Protocol

from msgspec import MsgspecError
from sqlalchemy import Row, delete, func, select, text

from skep import errors
from skep.wire import messages, proxy, topics

from .caches import Caches
from .database import Transaction
from .devices import Saved
from .lists import within
from .metadata import Metadata
from .tables import outbox

log = logging.getLogger("skep.metadata")

LOCK = 0x536B6570_00000002
ROWS = 200
BYTES = 2 << 20
"""One batch: at most so many rows and, but for the first row, so many bytes."""
POLL = 3.0
"""Seconds between looks without a kick: rows whose relay died, commits that were not heard of."""
PUBLISH_TIMEOUT = 5.0
PASS_TIMEOUT = 12.0
"""Seconds for waiting for the lock (bounded by the statement timeout), publishing and deleting a batch."""
BACKOFF_FIRST, BACKOFF_LAST = 0.1, 2.0
HOPELESS = (proxy.Code.TOO_LARGE, proxy.Code.BAD)
"""Refusals that no further try can change."""


class Stream(Protocol):
    """`skep.bus.Subscription` as it is used here."""

    async def next(self) -> list[Any]: ...
    async def close(self) -> None: ...


class Bus(Protocol):
    """`skep.bus.Bus` as it is used here."""

    def send(
        self, topic: str, payload: bytes | None, key: bytes | None = None, *, timeout: float
    ) -> asyncio.Future[Any]: ...
    async def request(self, topic: str, body: Any, key: bytes | None = None, *, timeout: float) -> bytes: ...
    async def subscribe(self, topic: str) -> Any: ...


class Relay:
    """Runs from `start` to `stop`, through outages of the bus and of PostgreSQL; none of its methods waits for
    either to come back. Kicked by every commit of its own process."""

    def __init__(self, metadata: Metadata, bus: Bus, caches: Caches | None = None, poll: float = POLL) -> None:
        self._database = metadata.database
        self._bus = bus
        self._caches = caches
        self._poll = poll
        self._kicked = asyncio.Event()
        self._flushes: list[asyncio.Future[None]] = []
        self._publishes: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._database.on_commit(lambda changes: self.kick())

    async def start(self) -> None:
        self._tasks.append(asyncio.create_task(self._keep(self._publish_all)))
        if self._caches is not None:
            self._tasks.append(asyncio.create_task(self._keep(self._follow)))

    async def stop(self) -> None:
        """What is in the outbox stays there for the next relay."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for future in self._flushes + self._publishes:
            future.cancel()

    def kick(self) -> None:
        """There is something in the outbox."""
        self._kicked.set()

    async def handled(self, saved: Saved, timeout: float = 5.0) -> bool:
        """Whether the save's notification is stored, so that a read finds it, within `timeout` seconds. False is no
        failure of the save: the notification comes later."""
        try:
            async with asyncio.timeout(timeout):
                await self._next(self._publishes)
                # Published, by whichever service. A marker behind it on the same partition is answered after it.
                key = saved.device_id.encode()
                await self._bus.request(topics.REQUESTS, messages.Marker(0), key, timeout=timeout)
        except (TimeoutError, errors.SkepError):
            return False
        return True

    async def flushed(self) -> None:
        """Returns when all that is committed by now has left the outbox."""
        await self._next(self._flushes)

    async def _next(self, waiting: list[asyncio.Future[None]]) -> None:
        """waiting: `_flushes`, until all that is committed by now has left the outbox, or `_publishes`, until it is on
        the bus."""
        future = asyncio.get_running_loop().create_future()
        waiting.append(future)
        self.kick()
        try:
            await future
        finally:
            with contextlib.suppress(ValueError):
                waiting.remove(future)

    async def _keep(self, work: Any) -> None:
        """`work` again and again, with back-off and jitter where it fails."""
        delay = BACKOFF_FIRST
        while True:
            try:
                await work()
                delay = BACKOFF_FIRST
                continue
            except errors.SkepError as error:
                log.warning("%s: %s; trying again", work.__name__.strip("_"), error.__cause__ or error)
            except Exception:
                log.exception("%s failed; trying again", work.__name__.strip("_"))
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - spread, not secret
            delay = min(2 * delay, BACKOFF_LAST)

    # -- outbox -> bus -----------------------------------------------------------------------------------------------

    async def _publish_all(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll):
                await self._kicked.wait()
        self._kicked.clear()
        flushes, publishes = list(self._flushes), list(self._publishes)
        try:
            more, left = True, False
            while more and not left:
                more, left = await self._database.hold(lambda t: self._batch(t, publishes), PASS_TIMEOUT)
            if left:
                raise errors.Unavailable("the bus does not take the outbox")
        except Exception:
            self.kick()  # look again after the back-off, not after the poll
            raise
        _done(flushes)

    async def _batch(self, t: Transaction, publishes: Iterable[asyncio.Future[None]] = ()) -> tuple[bool, bool]:
        """Publish the oldest rows and delete those that are on the bus: whether there may be more rows, and any of
        these are left. publishes: told when all rows are on the bus; that they are deleted they need not know."""
        await t.value(select(func.pg_advisory_xact_lock(LOCK)))
        rows = await t.all(_oldest())
        more = len(rows) >= ROWS or sum(len(row.payload or b"") for row in rows) >= BYTES
        gone = await self._publish(rows)
        left = len(gone) < len(rows)
        if not more and not left:
            _done(publishes)
        if gone:
            await t.run(delete(outbox).where(within(outbox.c.id, gone)))
        return more, left

    async def _publish(self, rows: Iterable[Row[Any]]) -> list[int]:
        """Ids of the rows that need no further try."""
        sent = []
        for row in rows:
            try:
                future = self._bus.send(row.topic, row.payload, row.key, timeout=PUBLISH_TIMEOUT)
            except errors.SkepError as error:
                if not _hopeless(row, error):
                    break  # what follows would overtake it
                future = asyncio.get_running_loop().create_future()
                future.set_result(None)
            sent.append((row, future))
        results = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
        gone = []
        for (row, _), result in zip(sent, results, strict=True):
            if not isinstance(result, BaseException) or _hopeless(row, result):
                gone.append(row.id)
        return gone

    # -- metadata-changes -> caches ------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        assert self._caches is not None
        stream: Stream = await self._bus.subscribe(topics.METADATA_CHANGES)
        try:
            while True:
                for event in await stream.next():
                    self._told(self._caches, event)
        finally:
            # Whatever ended it, changes are missed from here to the next subscription.
            self._caches.clear()
            with contextlib.suppress(errors.SkepError):
                await stream.close()

    def _told(self, caches: Caches, event: Any) -> None:
        records = getattr(event, "records", None)
        if records is None:  # Assigned, Revoked, Gap: what was said before may be missing here
            caches.clear()
            return
        for record in records:
            try:
                caches.apply(messages.decode_changed(record.payload or b""))
            except MsgspecError:
                log.error("%s: a record at offset %s is malformed", topics.METADATA_CHANGES, record.offset)
                caches.clear()


def _done(futures: Iterable[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _hopeless(row: Row[Any], error: BaseException) -> bool:
    if getattr(error, "code", None) not in HOPELESS:
        return False
    log.error("outbox row %s for %s is refused for good and dropped: %s", row.id, row.topic, error)
    return True


def _oldest() -> Any:
    first = select(outbox).order_by(outbox.c.id).limit(ROWS).subquery()
    length = func.coalesce(func.length(first.c.payload), 0)
    size = func.sum(length).over(order_by=first.c.id)
    sized = select(first, (size - length).label("before")).subquery()
    columns = [sized.c[name] for name in ("id", "topic", "key", "payload")]
    return select(*columns).where(sized.c.before < text(str(BYTES))).order_by(sized.c.id)
