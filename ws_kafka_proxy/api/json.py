"""Drives a `core.json_dialect.Dialect` with a socket and what has the topics: the engine, or the core proxy.

A tool's socket; what is different for a plugin's is in `plugin.py`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Protocol, assert_never

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from skep import logs
from skep.wire import topics
from skep.wire.proxy import Failure, Record, Start
from ws_kafka_proxy.core import json_dialect as core
from ws_kafka_proxy.core import json_frames as frames
from ws_kafka_proxy.core.counters import Counters
from ws_kafka_proxy.core.engine import EngineLost, Fenced, Reader, TopicDeleted
from ws_kafka_proxy.core.json_pushes import Batch, Subscription
from ws_kafka_proxy.core.json_roles import Role
from ws_kafka_proxy.core.rate import Excess

log = logs.get("bus.json")

NORMAL, POLICY, TOO_BIG, INTERNAL, TRY_AGAIN = 1000, 1008, 1009, 1011, 1013
READ_RECORDS, READ_BYTES = 500, 256 << 10
"""A batch of pushes: what is handed over with one ping."""
HANDED_OVER = 60.0
"""Longest wait for the pong behind a batch, seconds: so long a client may be busy with it."""
OPEN = 20.0
"""Longest wait for a subscription to be in effect, seconds."""
PING = 30.0
"""Seconds between pings, and for their answers."""
OVERDUE = 1.0
"""Seconds between looks at what has run out: the role's token, the wait for acknowledgements."""
CREATED = topics.Durable(1, topics.HOUR)
"""How a topic is kept that was created here."""


class Topics(Protocol):
    """What is needed of an engine."""

    def append(self, publisher: int, records: list[Record]) -> Awaitable[list[tuple[int, int] | Failure]]: ...

    async def reader(self, topic: str, group: str | None, member: str, start: Start, drain: bool = False) -> Reader: ...

    async def create(self, topic: str, partitions: int, retention: int) -> None: ...

    def names(self) -> list[str]: ...

    async def healthy(self) -> bool: ...


class JsonSocket:
    """One socket. `run` returns when it is closed."""

    def __init__(
        self,
        socket: ServerConnection,
        role: Role,
        bus: Topics,
        limits: core.Limits,
        clock: Callable[[], int],
        counters: Counters,
    ) -> None:
        self._socket = socket
        self._limits = limits
        self._counters = counters
        self._role = role
        self._bus = bus
        self._clock = clock
        self._wake = asyncio.Event()
        self._eased = asyncio.Event()
        self._dialect = core.Dialect(role, limits, self._wake.set)
        self._publisher = secrets.randbits(63) or 1
        self._name = f"json-{secrets.token_hex(8)}"
        self._end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pumps: dict[Subscription, asyncio.Task[None]] = {}
        self._unsettled: dict[Subscription, list[core.Slot]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()
        self._members = 0

    async def run(self) -> None:
        # Clients of this dialect may be busy for a while, services may not.
        self._socket.ping_interval = self._socket.ping_timeout = PING
        self._spawn(self._read())
        self._spawn(self._write())
        self._spawn(self._watch())
        code, reason = NORMAL, ""
        try:
            code, reason = await self._end
        finally:
            # Nobody comes back under the name of a socket, so its members leave their groups.
            for subscription in list(self._pumps):
                self._close(subscription)
            for task in self._tasks:
                task.cancel()
            if code not in (NORMAL, TRY_AGAIN):
                log.info("socket closed with %d: %s", code, reason)
            await self._socket.close(code, reason.encode()[:120].decode(errors="ignore"))
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._all_closed()

    def finish(self, code: int, reason: str) -> None:
        if not self._end.done():
            self._end.set_result((code, reason))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        match None if task.cancelled() else task.exception():
            case None:
                pass
            case core.TooLarge() as error:
                self.finish(TOO_BIG, str(error))
            case Excess():
                self._counters.limited += 1
                self.finish(POLICY, "too many messages")
            case ConnectionClosed():
                self.finish(NORMAL, "")
            case EngineLost() | Fenced() | TimeoutError() as error:
                self.finish(TRY_AGAIN, str(error))
            case TopicDeleted() as error:
                self.finish(POLICY, str(error))
            case error:
                log.error("a JSON socket failed", exc_info=error)
                self.finish(INTERNAL, "internal error")

    # -- the socket

    async def _read(self) -> None:
        async for data in self._socket:
            self._do(self._dialect.receive(data, self._clock()))
            while self._dialect.full:
                self._eased.clear()
                await self._eased.wait()
        self.finish(NORMAL, "")

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._send()
            self._eased.set()

    async def _send(self, pushes: Iterable[frames.Frame] = ()) -> None:
        """Replies that are there first: a push never overtakes the reply to its subscribe."""
        async with self._sending:
            for frame in (*self._dialect.take(), *pushes):
                await self._socket.send(frames.encode(frame), text=True)

    async def _watch(self) -> None:
        while True:
            now = self._clock()
            reason = self._role.overdue(now)
            if reason is not None:
                self.finish(POLICY, reason)
            if any(s.since is not None and now - s.since > self._limits.silence for s in self._pumps):
                self.finish(TRY_AGAIN, "pushes were not acknowledged in time")
            await asyncio.sleep(OVERDUE)

    # -- what the dialect wants

    def _do(self, effects: list[core.Effect]) -> None:
        for effect in effects:
            match effect:
                case core.Append():
                    appending = asyncio.ensure_future(self._bus.append(self._publisher, effect.records))
                    appending.add_done_callback(partial(self._appended, effect))
                case core.Open():
                    self._spawn(self._open(effect))
                case core.Close():
                    self._close(effect.subscription)
                case core.Make():
                    self._spawn(self._make(effect))
                case core.List():
                    self._do(self._dialect.listed(effect.slot, self._bus.names(), self._clock()))
                case core.Health():
                    self._spawn(self._health(effect.slot))
                case core.Enter():
                    self._spawn(self._enter(effect))
                case core.Commit():
                    self._commit(effect)
                case _:
                    assert_never(effect)

    def _appended(self, append: core.Append, appending: asyncio.Future[list[tuple[int, int] | Failure]]) -> None:
        error = None if appending.cancelled() else appending.exception()
        if appending.cancelled() or isinstance(error, EngineLost):
            self.finish(TRY_AGAIN, f"the engine can't tell what it wrote: {error}")
        elif error is not None:
            log.error("append for a JSON socket failed", exc_info=error)
            self.finish(INTERNAL, "internal error")
        elif not self._end.done():
            self._do(self._dialect.appended(append, appending.result(), self._clock()))

    async def _make(self, make: core.Make) -> None:
        failure = None
        there = set(self._bus.names())
        for name in make.names:
            if name in there:
                continue
            if not self._role.may_create(name):
                failure = f"No permissions to create {name}"
                break
            await self._bus.create(name, CREATED.partitions, CREATED.retention)
        self._do(self._dialect.made(make.slot, failure, self._clock()))

    async def _health(self, slot: core.Slot) -> None:
        self._dialect.healthy(slot, await self._bus.healthy())

    async def _enter(self, enter: core.Enter) -> None:
        raise AssertionError("tools don't authenticate")

    # -- subscriptions

    async def _open(self, open_: core.Open) -> None:
        failure = None
        opened: list[Reader] = []
        try:
            for subscription in open_.subscriptions:
                async with asyncio.timeout(OPEN):
                    subscription.reader = await self._reader(subscription)
                opened.append(subscription.reader)
        except KeyError as error:
            failure = f"Topic {error.args[0]} does not exist"
        except TimeoutError:
            failure = "The topic could not be subscribed to in time"
        except BaseException:
            await close_all(opened)
            raise
        if failure is not None:
            await close_all(opened)
        effects = self._dialect.opened(open_, failure, self._clock())
        if failure is None:
            for subscription in open_.subscriptions:
                self._pumps[subscription] = self._spawn(self._pump(subscription))
        self._do(effects)

    async def _reader(self, subscription: Subscription) -> Reader:
        """In effect when it returns. Raises KeyError, TimeoutError."""
        self._members += 1
        member = f"{self._name}-{self._members}"
        group = subscription.group
        return await self._bus.reader(subscription.topic, group, member, Start("latest"), group is not None)

    async def _allowed(self) -> None:
        """Until pushing is allowed."""

    async def _pump(self, subscription: Subscription) -> None:
        """Read, push, wait until it is handed over, commit."""
        reader = subscription.reader
        assert reader is not None
        room = asyncio.Event()
        subscription.eased = room.set
        while True:
            while (count := min(READ_RECORDS, self._dialect.room(subscription))) <= 0:
                room.clear()
                await room.wait()
            events = await reader.read(count, READ_BYTES)
            await self._allowed()
            batch = subscription.push(events, self._clock())
            self._count(subscription, batch)
            if batch.broken:
                # Others have it now. Whoever opens a new socket knows that it has confirmed nothing.
                self.finish(TRY_AGAIN, "the group took its share away before it was acknowledged")
                return
            await self._send(batch.frames)
            if batch.places:
                if batch.frames and not subscription.acknowledges:
                    await self._handed_over()
                for partition, offset in batch.places.items():
                    reader.commit(partition, offset, b"")
                self._counters.confirmed += 1

    def _count(self, subscription: Subscription, batch: Batch) -> None:
        self._counters.pushed += len(batch.frames)
        if batch.missed:
            self._counters.missed += batch.missed
            log.warning("%s: retention removed %d messages before they were pushed", subscription.topic, batch.missed)

    async def _handed_over(self) -> None:
        """The client's library has read everything before this ping."""
        async with asyncio.timeout(HANDED_OVER):
            await (await self._socket.ping())

    def _commit(self, commit: core.Commit) -> None:
        subscription = commit.subscription
        self._counters.confirmed += 1
        if subscription.reader is not None:
            subscription.reader.commit(commit.partition, commit.offset, b"")
        waiting = self._unsettled.get(subscription)
        if waiting is not None:
            waiting.append(commit.slot)
        else:
            self._unsettled[subscription] = [commit.slot]
            self._spawn(self._settle(subscription))

    async def _settle(self, subscription: Subscription) -> None:
        """Answer acknowledgements when they won't be forgotten, those together that came together."""
        while slots := self._unsettled[subscription]:
            self._unsettled[subscription] = []
            if subscription.reader is not None:
                await subscription.reader.settled()
            self._do(self._dialect.acknowledged(slots, self._clock()))
        del self._unsettled[subscription]

    def _close(self, subscription: Subscription) -> None:
        """It is pushed to no more; its reader closes behind our back."""
        pump = self._pumps.pop(subscription, None)
        if pump is not None:
            pump.cancel()
        reader, subscription.reader = subscription.reader, None
        if reader is not None:
            closing = asyncio.create_task(close_all([reader]))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _all_closed(self) -> None:
        """Not `gather`: who is cancelled while it waits must not take the closing with it."""
        if self._closing:
            await asyncio.wait(self._closing)


async def close_all(readers: list[Reader]) -> None:
    for reader in readers:
        try:
            await reader.close(leave=True)
        except Exception:
            log.exception("closing a subscription failed")
