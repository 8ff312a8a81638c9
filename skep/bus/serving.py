"""Answers the calls of a spread topic (`auth.requests`, `plugin.requests`, `api.requests`)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from skep.bus.client import Bus
from skep.bus.errors import Closed
from skep.bus.events import Records
from skep.bus.subscription import Subscription
from skep.errors import BadRequest, Internal, SkepError
from skep.wire import messages

log = logging.getLogger("skep.bus")

MAX_AT_A_TIME = 500
RECORDS = 1_000
"""Calls that may wait here; the rest stays with the proxy, which spreads them over other processes."""
STOP_SECONDS = 1.0

Answer = Callable[[bytes], Awaitable[Any]]
"""The MessagePack of a call's body in, the reply's body out. SkepError becomes the reply's code and text, an error
of msgspec 400, any other 500."""


class Serving:
    """Runs from `start` to `stop`. What comes after its deadline is dropped: nobody waits for it."""

    def __init__(self, client: Bus, topic: str, answer: Answer) -> None:
        self._bus, self._topic, self._answer = client, topic, answer
        self._places = asyncio.Semaphore(MAX_AT_A_TIME)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._subscription: Subscription | None = None

    @property
    def running(self) -> bool:
        return self._loop is not None and not self._loop.done()

    async def start(self) -> None:
        """Raises Refused, TimedOut."""
        self._subscription = await self._bus.subscribe(self._topic, records=RECORDS)
        self._loop = asyncio.get_running_loop().create_task(self._take(self._subscription))

    async def stop(self) -> None:
        """No new calls; those that were taken are answered, for a second."""
        if self._subscription is not None:
            await self._subscription.close()
        if self._loop is not None:
            self._loop.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=STOP_SECONDS)
        for task in list(self._tasks):
            task.cancel()

    async def _take(self, subscription: Subscription) -> None:
        while True:
            try:
                events = await subscription.next()
            except Closed:
                return
            for event in events:
                if isinstance(event, Records):
                    for record in event.records:
                        await self._places.acquire()
                        self._spawn(record.payload or b"")

    def _spawn(self, payload: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._handle(payload))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places.release()

    async def _handle(self, payload: bytes) -> None:
        try:
            call = messages.decode_call(payload)
        except msgspec.MsgspecError:
            log.error("a malformed call on %s", self._topic)
            return
        remaining = call.deadline / 1000 - time.time()
        if remaining <= 0:
            return
        try:
            async with asyncio.timeout(remaining):
                made = await self._answer(bytes(call.body))
        except TimeoutError:
            return
        except SkepError as error:
            self._bus.reply(call, error.status, error.text, error.retry_after)
        except msgspec.MsgspecError:
            self._bus.reply(call, BadRequest.status, BadRequest().text)
        except Exception:
            log.exception("a call on %s failed", self._topic)
            self._bus.reply(call, Internal.status, Internal().text)
        else:
            self._bus.reply(call, body=made)
