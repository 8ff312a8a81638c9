"""Calls and their answers: correlation, deadlines, replies collected for each destination."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from functools import partial
from typing import Any

import msgspec
from msgspec import MsgspecError, Raw

from skep import errors
from skep.bus.counters import Counters
from skep.bus.deadlines import Deadlines
from skep.bus.errors import Failed, Refused, TimedOut
from skep.bus.options import Options
from skep.bus.publisher import Publisher
from skep.wire import messages, proxy
from skep.wire.proxy import Code, Delivered

REPLY_TIMEOUT = (5.0, 60.0)
"""Seconds an answer waits to be taken: until the last asker's deadline, but at least and at most so long."""
RETRIES, RETRY = 4, 0.4
"""Answers to an asker who is away are offered again so often, at this interval (s): its connection may be a new one."""
MOST_ABSENT = 1_000
"""Most records of answers kept for that."""
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
        self._absent = 0
        self._closed = False
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
            future.set_exception(Failed(reply.code, reply.message, _seconds(reply.body)))

    def _repeat(self, correlations: list[bytes]) -> None:
        for correlation in correlations:
            question = self._questions.pop(correlation, None)
            future = self._waiting.get(correlation)
            if question is None or future is None or future.done():
                continue
            topic, payload, key, partition = question
            entry = self._publisher.entry(topic, payload, key, partition, None, None, confirms=False)
            try:
                self._publisher.accept(entry, self._loop.time() + REPLY_TIMEOUT[0])
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
        batch.deadline = max(batch.deadline, call.deadline)
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
        sent.add_done_callback(partial(self._sent, reply_to, batch))
        entry = self._publisher.entry(reply_to, payload, None, None, None, sent)
        least, most = REPLY_TIMEOUT
        timeout = min(max(batch.deadline / 1000 - time.time(), least), most)
        self._publisher.queue(entry, self._loop.time() + timeout)

    def _sent(self, reply_to: str, batch: _Batch, sent: asyncio.Future[Any]) -> None:
        """An asker who has gone is no error of the one who answers; perhaps it is only connecting again."""
        error = None if sent.cancelled() else sent.exception()
        if not batch.taken.done():
            batch.taken.set_result(not sent.cancelled() and error is None)
        absent = isinstance(error, Refused) and error.code == Code.NO_SUBSCRIBER
        if absent and batch.tries < RETRIES and self._absent < MOST_ABSENT:
            batch.tries += 1
            self._absent += 1
            self._loop.call_later(RETRY, self._send_again, reply_to, batch)

    def _send_again(self, reply_to: str, batch: _Batch) -> None:
        self._absent -= 1
        if not self._closed:
            self._send(reply_to, batch)

    def close(self) -> None:
        """Whoever still waits gets TimedOut."""
        self._closed = True
        self._expire(list(self._waiting))
        self._deadlines.close()
        self._repeats.close()


class _Batch:
    __slots__ = ("deadline", "replies", "size", "taken", "tries")

    def __init__(self, taken: asyncio.Future[bool]) -> None:
        self.replies: list[messages.Reply] = []
        self.size = 0
        self.taken = taken
        self.tries = 0
        self.deadline = 0


def _seconds(body: Raw) -> int | None:
    try:
        return msgspec.msgpack.decode(body, type=int | None)
    except MsgspecError:
        return None
