"""Calls and their answers: correlation, deadlines, replies collected for each destination."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from msgspec import MsgspecError, Raw

from skep import errors
from skep.bus.counters import Counters
from skep.bus.deadlines import Deadlines
from skep.bus.errors import Failed, Refused, TimedOut
from skep.bus.options import Options
from skep.bus.publisher import Publisher
from skep.wire import messages, proxy
from skep.wire.proxy import Code, Delivered

REPLY_TIMEOUT = 5.0
"""Seconds an answer may wait to be taken; whoever asked has gone by then."""
_ROOM = proxy.MAX_BODY - 4096
_ENVELOPE = 64

Question = tuple[str, bytes, bytes | None, int | None]
"""(topic, payload, key, partition) of a call that may be asked again."""


class Calls:
    """Both sides of calls. `reply_to` is the topic on which this run hears answers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: Options,
        counters: Counters,
        publisher: Publisher,
        reply_to: str,
    ) -> None:
        self._loop = loop
        self._options = options
        self._counters = counters
        self._publisher = publisher
        self._reply_to = reply_to
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._questions: dict[bytes, Question] = {}
        self._deadlines: Deadlines[bytes] = Deadlines(loop, self._expire)
        self._repeats: Deadlines[bytes] = Deadlines(loop, self._repeat)
        self._collected: dict[str, _Batch] = defaultdict(lambda: _Batch(loop.create_future()))

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    # -- asking --------------------------------------------------------------------------------------------------

    def call(
        self,
        topic: str,
        body: Any,
        key: bytes | None,
        partition: int | None,
        timeout: float,
        again: float | None,
    ) -> asyncio.Future[bytes]:
        if len(self._waiting) >= self._options.calls:
            raise Refused(Code.FULL, f"{len(self._waiting)} calls wait for their answers")
        now = self._loop.time()
        correlation = os.urandom(16)
        deadline = int((time.time() + timeout) * 1000)
        payload = messages.encode(messages.Call(correlation, self._reply_to, deadline, body))
        future: asyncio.Future[bytes] = self._loop.create_future()
        entry = self._publisher.entry(topic, payload, key, partition, None, future, confirms=False)
        self._publisher.accept(entry, now + timeout)
        self._waiting[correlation] = future
        self._counters.calls += 1
        self._deadlines.add(now + timeout, correlation)
        if again is not None and again < timeout:
            self._questions[correlation] = (topic, payload, key, partition)
            self._repeats.add(now + again, correlation)
        return future

    def answered(self, records: list[Delivered]) -> None:
        """Records of our replies topic."""
        for record in records:
            try:
                replies = messages.decode_replies(record.payload or b"").replies
            except MsgspecError:
                self._counters.unknown_replies += 1
                continue
            for reply in replies:
                self._answer(reply)

    def _answer(self, reply: messages.Reply) -> None:
        future = self._waiting.pop(reply.correlation, None)
        if future is None or future.done():
            self._counters.unknown_replies += 1
            return
        if self._questions:
            self._questions.pop(reply.correlation, None)
        if reply.code == 0:
            future.set_result(bytes(reply.body))
        else:
            future.set_exception(Failed(reply.code, reply.message))

    def _repeat(self, correlations: list[bytes]) -> None:
        for correlation in correlations:
            question = self._questions.pop(correlation, None)
            future = self._waiting.get(correlation)
            if question is None or future is None or future.done():
                continue
            topic, payload, key, partition = question
            entry = self._publisher.entry(topic, payload, key, partition, None, None, confirms=False)
            try:
                self._publisher.accept(entry, self._loop.time() + REPLY_TIMEOUT)
            except Refused:
                return  # no room: the first question still stands

    def _expire(self, correlations: list[bytes]) -> None:
        for correlation in correlations:
            future = self._waiting.pop(correlation, None)
            self._questions.pop(correlation, None)
            if future is not None and not future.done():
                self._counters.timed_out += 1
                future.set_exception(TimedOut("no answer before the deadline"))

    # -- answering -----------------------------------------------------------------------------------------------

    def reply(self, call: messages.Call, code: int, message: str, body: Any) -> asyncio.Future[bool]:
        if not call.reply_to:
            nobody: asyncio.Future[bool] = self._loop.create_future()
            nobody.set_result(False)
            return nobody
        encoded = body if isinstance(body, Raw) else Raw(messages.encode(body))
        size = len(bytes(encoded)) + len(message) * 4 + _ENVELOPE
        if size > _ROOM:
            code, message, encoded, size = 500, errors.Internal.__doc__ or "", Raw(b"\xc0"), _ENVELOPE
        batch = self._collected[call.reply_to]
        if batch.size + size > _ROOM:
            self._send(call.reply_to, self._collected.pop(call.reply_to))
            batch = self._collected[call.reply_to]
        batch.replies.append(messages.Reply(call.correlation, code, message, encoded))
        batch.size += size
        self._counters.replies += 1
        self._publisher.schedule()
        return batch.taken

    def flush(self) -> None:
        """One record for each destination; runs at the beginning of the publisher's flush."""
        if self._collected:
            collected = list(self._collected.items())
            self._collected.clear()
            for reply_to, batch in collected:
                self._send(reply_to, batch)

    def _send(self, reply_to: str, batch: _Batch) -> None:
        payload = messages.encode(messages.Replies(batch.replies))
        sent: asyncio.Future[Any] = self._loop.create_future()
        sent.add_done_callback(_tell(batch.taken))
        entry = self._publisher.entry(reply_to, payload, None, None, None, sent)
        self._publisher.queue(entry, self._loop.time() + REPLY_TIMEOUT)

    def close(self) -> None:
        """Whoever still waits gets TimedOut."""
        self._expire(list(self._waiting))
        self._deadlines.close()
        self._repeats.close()


class _Batch:
    __slots__ = ("replies", "size", "taken")

    def __init__(self, taken: asyncio.Future[bool]) -> None:
        self.replies: list[messages.Reply] = []
        self.size = 0
        self.taken = taken


def _tell(taken: asyncio.Future[bool]) -> Callable[[asyncio.Future[Any]], None]:
    """An asker who has gone is no error of the one who answers."""

    def done(sent: asyncio.Future[Any]) -> None:
        if not taken.done():
            taken.set_result(not sent.cancelled() and sent.exception() is None)

    return done
