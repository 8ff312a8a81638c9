"""Puts a plan's messages and answers on the bus and sees to their confirmation."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

from backend.api.counters import Counters
from backend.api.lanes import RETRY, Lanes
from backend.core import deliveries
from backend.core.batches import Answer, Failed, Plan, failure
from skep import bus
from skep.wire import proxy, topics
from skep.wire.messages import DeadLetter, encode
from skep.wire.proxy import Code

log = logging.getLogger("backend.publishing")
_LETTER = proxy.MAX_BODY - 8192
"""Most bytes of a payload in a dead letter."""
Confirmation = asyncio.Future[Any]


class _Sent:
    """A record on its way."""

    __slots__ = ("future", "payload", "topic")

    def __init__(self, topic: str, payload: bytes) -> None:
        self.topic = topic
        self.payload = payload
        self.future: Confirmation


class Publisher:
    def __init__(self, link: bus.Bus, counters: Counters) -> None:
        self._bus = link
        self._counters = counters
        self._lanes = Lanes(link, self._dropped)

    def publish(self, plan: Plan) -> asyncio.Task[None]:
        """Send everything in this loop turn. The task ends when it is confirmed, or refused for good."""
        sent: list[_Sent] = []
        derived: list[asyncio.Future[None]] = []
        for destination, messages in plan.deliveries.items():
            if destination.startswith(deliveries.EVENTS):
                sent += [self._send(destination, payload) for payload in deliveries.events(messages)]
            else:
                derived += self._lanes.put(destination, deliveries.derived(destination, messages))
        letters = [self._send(topics.DEAD_LETTERS, encode(_letter(f))) for f in plan.failed]
        answers = plan.answers + [a for f in plan.failed if (a := failure(f)) is not None]
        taken = self._answer(answers)
        return asyncio.create_task(self._confirm(sent, derived, letters, taken, plan.late_answers))

    async def _confirm(
        self,
        sent: list[_Sent],
        derived: list[asyncio.Future[None]],
        letters: list[_Sent],
        taken: set[Confirmation],
        late: list[Answer],
    ) -> None:
        for record in sent:
            await self._confirmed(record)
        for confirmed in derived:
            await confirmed
        taken |= self._answer(late)
        for record in letters:
            await self._confirmed(record)
        if taken:
            await asyncio.wait(taken)

    def _answer(self, answers: list[Answer]) -> set[Confirmation]:
        reply = self._bus.reply
        return {reply(a.call, a.code, a.message, a.body) for a in answers if a.call.reply_to}

    def _send(self, topic: str, payload: bytes) -> _Sent:
        record = _Sent(topic, payload)
        self._start(record)
        return record

    def _start(self, record: _Sent) -> None:
        """Without a deadline: the bus sends it until it has an answer. Frontends drop what is behind what they have, so
        a record that was given up and published again behind its successors would be lost."""
        try:
            record.future = self._bus.send(record.topic, record.payload, None, None, None, None)
        except bus.Refused as e:
            record.future = asyncio.get_running_loop().create_future()
            record.future.set_exception(e)

    async def _confirmed(self, record: _Sent) -> None:
        pause = 0.05
        while True:
            try:
                await record.future
                return
            except bus.Refused as e:
                # A stream that was cut is told so; whoever reads it comes back by timestamp. A log waits for us.
                if e.code not in RETRY or topics.is_short_lived(record.topic):
                    self._dropped(record.topic, len(record.payload), e)
                    return
            except bus.TimedOut as e:
                log.warning("%s: %s, publishing again", record.topic, e)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, 1.0)
            self._start(record)

    def _dropped(self, topic: str, size: int, error: bus.Refused) -> None:
        self._counters.dropped += 1
        if error.code not in (Code.NO_SUBSCRIBER, Code.NO_TOPIC):
            log.error("a record of %d bytes for %s is lost: %s", size, topic, error)


def _letter(failed: Failed) -> DeadLetter:
    record = failed.record
    payload, reason = record.payload or b"", failed.reason[:1000]
    if len(payload) > _LETTER:
        payload, reason = payload[:_LETTER], f"{reason} (payload cut, {len(payload)} bytes)"
    key = record.key[:1000] if record.key is not None else None
    return DeadLetter(topics.REQUESTS, failed.partition.number, record.offset, key, payload, reason, failed.tries)
