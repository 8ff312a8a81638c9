"""Drives a `core.session.Session` with a socket and the engine.

Per socket: one task that reads, one that writes all that came together since its last turn, one for each durable
subscription. No task and no future for a record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, assert_never

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from skep import logs
from skep.wire import proxy as wire
from skep.wire.proxy import Code, Failure
from ws_kafka_proxy.core import session as core
from ws_kafka_proxy.core.engine import Engine, EngineLost, Fenced, Reader, ReaderEvent, TopicDeleted
from ws_kafka_proxy.core.streams import Streams

log = logs.get("bus.service")

READ_BYTES = 1 << 20
"""About this much is read of a subscription at once."""
INTERNAL = 1011


class ServiceSocket:
    """One socket of a service. `run` returns when it is closed."""

    def __init__(
        self,
        socket: ServerConnection,
        identity: tuple[str, str],
        about: core.About,
        engine: Engine,
        streams: Streams,
        limits: core.Limits,
        clock: Callable[[], int],
    ) -> None:
        self._socket = socket
        self._engine = engine
        self._streams = streams
        self._clock = clock
        self._started = about.started
        self._wake = asyncio.Event()
        self._eased = asyncio.Event()
        self._session = core.Session(*identity, about, streams, limits, self._wake.set)
        self._instance = identity[1]
        self._name = "/".join(identity)
        self._end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._pumps: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        self._spawn(self._read())
        self._spawn(self._write())
        code, reason = core.NORMAL, ""
        try:
            code, reason = await self._end
        finally:
            closing = self._session.close(self._clock())
            for task in (*self._tasks, *self._pumps.values()):
                task.cancel()
            for close in closing:
                self._close_later(close)
            if code not in (core.NORMAL, core.TRY_AGAIN):
                log.warning("socket of %s closed with %d: %s", self._name, code, reason)
            await self._socket.close(code, reason.encode()[:120].decode(errors="ignore"))

    def finish(self, code: int, reason: str) -> None:
        """From now on nothing from this socket is looked at."""
        if not self._end.done():
            self._end.set_result((code, reason))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        match error:
            case None:
                pass
            case core.ProtocolError():
                self.finish(error.code, error.reason)
            case ConnectionClosed():
                self.finish(core.NORMAL, "")
            case EngineLost():
                self.finish(core.TRY_AGAIN, str(error))
            case _:
                log.error("socket of %s failed", self._name, exc_info=error)
                self.finish(INTERNAL, "internal error")

    # -- the socket

    async def _read(self) -> None:
        session = self._session
        async for data in self._socket:
            if self._end.done():
                return
            for effect in session.receive(data, self._clock()):
                self._do(effect)
            while session.full:
                self._eased.clear()
                await self._eased.wait()
        self.finish(core.NORMAL, "")

    async def _write(self) -> None:
        socket, session = self._socket, self._session
        while True:
            await self._wake.wait()
            self._wake.clear()
            for frame in session.take():
                await socket.send(wire.encode(frame))
            self._eased.set()

    # -- the engine

    def _do(self, effect: core.Effect) -> None:
        match effect:
            case core.Append():
                appending = asyncio.ensure_future(self._engine.append(effect.publisher, effect.records))
                appending.add_done_callback(partial(self._appended, effect))
            case core.Open():
                pump = self._spawn(self._pump(effect))
                self._pumps[effect.subscription.sid] = pump
                pump.add_done_callback(partial(self._pumped, effect.subscription.sid))
            case core.Close():
                self._close_later(effect)
            case core.Create():
                self._spawn(self._create(effect.frame))
            case core.Delete():
                self._spawn(self._delete(effect.frame))
            case core.Describe():
                self._spawn(self._describe(effect.frame))
            case core.Health():
                self._spawn(self._health(effect.id))
            case _:
                assert_never(effect)

    def _appended(self, append: core.Append, appending: asyncio.Future[list[tuple[int, int] | Failure]]) -> None:
        error = None if appending.cancelled() else appending.exception()
        if appending.cancelled() or isinstance(error, EngineLost):
            # Whether it was written is unknown: no answer is the only right one, and the client sends it again.
            self.finish(core.TRY_AGAIN, f"the engine can't tell what it wrote: {error}")
        elif error is not None:
            log.error("append for %s failed", self._name, exc_info=error)
            self.finish(INTERNAL, "internal error")
        elif not self._end.done():
            self._session.appended(append, appending.result())
            self._eased.set()

    async def _pump(self, open_: core.Open) -> None:
        subscription = open_.subscription
        try:
            reader = await self._engine.reader(
                subscription.topic, subscription.group, self._instance, subscription.start, subscription.drain
            )
        except KeyError:
            self._session.opened(open_, Failure(Code.NO_TOPIC, f"no topic {subscription.topic}"))
            return
        if not self._session.opened(open_, reader):
            await reader.close(True)
            return
        more = asyncio.Event()
        subscription.more = more.set
        try:
            while True:
                more.clear()
                self._session.read(subscription, await self._next(subscription, reader, more))
        except Fenced as error:
            self._session.ended(subscription, Failure(Code.FENCED, str(error)))
        except TopicDeleted as error:
            self._session.ended(subscription, Failure(Code.NO_TOPIC, str(error)))

    async def _next(self, subscription: core.Durable, reader: Reader, more: asyncio.Event) -> list[ReaderEvent]:
        """Records within the credit; without credit what else there is to tell."""
        if subscription.ready:
            return await reader.read(min(subscription.records, wire.MAX_BATCH), min(subscription.bytes, READ_BYTES))
        reading = asyncio.create_task(reader.read(0, 0))
        credit = asyncio.create_task(more.wait())
        try:
            await asyncio.wait((reading, credit), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                reading.cancel()
            with suppress(asyncio.CancelledError):
                return await reading
            return []
        finally:
            reading.cancel()
            credit.cancel()

    def _pumped(self, sid: int, pump: asyncio.Task[None]) -> None:
        if self._pumps.get(sid) is pump:
            del self._pumps[sid]

    def _close_later(self, close: core.Close) -> None:
        pump = self._pumps.pop(close.subscription.sid, None)
        reader = close.subscription.reader
        if pump is not None:
            pump.cancel()
        if reader is not None:
            _keep(asyncio.create_task(self._close(reader, close.leave)))

    async def _close(self, reader: Reader, leave: bool) -> None:
        try:
            await reader.close(leave)
        except Exception:
            log.exception("closing a subscription of %s failed", self._name)

    # -- questions

    async def _create(self, frame: wire.CreateTopic) -> None:
        await self._engine.create(frame.topic, frame.partitions, frame.retention)
        self._session.send(wire.Done(frame.id))

    async def _delete(self, frame: wire.DeleteTopic) -> None:
        await self._engine.delete(frame.topic)
        self._session.send(wire.Done(frame.id))

    async def _describe(self, frame: wire.Describe) -> None:
        try:
            incarnation, partitions = await self._engine.describe(frame.topic)
            groups = await self._engine.positions(frame.topic) if frame.groups else {}
        except KeyError:
            failure = Failure(Code.NO_TOPIC, f"no topic {frame.topic}")
            self._session.send(wire.Described(frame.id, failure=failure))
        else:
            self._session.send(wire.Described(frame.id, partitions, incarnation, groups=groups))

    async def _health(self, id: int) -> None:
        available = await self._engine.healthy()
        uptime = self._clock() - self._started
        self._session.send(
            wire.HealthReport(id, self._engine.name, available, self._engine.lag(), self._streams.waiting(), uptime)
        )


_closing: set[asyncio.Task[None]] = set()


def _keep(task: asyncio.Task[None]) -> None:
    """Closing outlives the socket; the loop itself holds tasks only weakly."""
    _closing.add(task)
    task.add_done_callback(_closing.discard)
