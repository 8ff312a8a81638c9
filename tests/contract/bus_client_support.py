"""A real proxy as a process, and flows of numbered records over it that know when something is lost or repeated."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy import ports, process
from skep import bus
from skep.wire import messages, topics

ROOT = Path(__file__).parents[2]
SECRET = "the secret of the bus, long enough for tests"
DEADLINE = 45.0
"""Seconds; past it a test has failed, whatever it waits for."""


ENGINES = [
    pytest.param("postgres", marks=pytest.mark.engines("postgres")),
    pytest.param("kafka", marks=pytest.mark.engines("kafka")),
]


def engine_settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """The proxy's settings for the engine that is the fixture's parameter."""
    if request.param == "kafka":
        return {"BUS_ENGINE": "kafka", "KAFKA_BOOTSTRAP": request.getfixturevalue("kafka")}
    return {"BUS_ENGINE": "postgres", "DATABASE_URL": request.getfixturevalue("postgres_url")}


def fresh_topic() -> str:
    return f"plugin_topic_{uuid.uuid4().hex}"


@dataclass
class Proxy:
    """One proxy on its own port, the same over restarts."""

    engine: dict[str, str]
    log: Path
    port: int = field(default_factory=lambda: ports.free(1)[0])
    _child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def start(self, wait: bool = False) -> None:
        ready = self.log.with_suffix(".ready")
        ready.unlink(missing_ok=True)
        own = {"PROXY_PORT": str(self.port), "READY_FILE": str(ready), "SKEP_PROFILE": "development"}
        secrets = {"BUS_SECRET": SECRET, "JWT_SECRET": SECRET}
        environment = {"PATH": os.environ["PATH"], **own, **secrets, **self.engine}
        command = [sys.executable, "-m", "ws_kafka_proxy"]
        spec = process.Spec("the proxy", command, lambda: environment, ready.exists, folder=str(ROOT))
        with self.log.open("ab") as log:
            self._child = process.spawn(spec, log.fileno())
        if wait:
            process.wait(spec, self._child)

    def signal(self, number: signal.Signals) -> None:
        assert self._child is not None
        self._child.send_signal(number)

    def kill(self) -> None:
        assert self._child is not None
        self._child.kill()
        self._child.wait(5)

    def stop(self) -> None:
        if self._child is not None:
            process.end(self._child, signal.SIGTERM, 5)

    @classmethod
    def serving(cls, engine: dict[str, str], folder: Path) -> Iterator[Proxy]:
        """For a fixture: up and ready, stopped at the end."""
        one = cls(engine, folder / f"proxy-{uuid.uuid4().hex}.log")
        try:
            one.start(wait=True)
            yield one
        except process.Failed as error:
            raise AssertionError(f"{error}\n{one.log.read_text()[-2000:]}") from error
        finally:
            one.stop()


@contextlib.asynccontextmanager
async def running(urls: list[str], instance: str, service: str = "tool", **options: float) -> AsyncIterator[bus.Bus]:
    client = bus.Bus(urls, service, instance, SECRET, options=bus.Options(**options))  # type: ignore[arg-type]
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def until(condition: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    """Wait for something that only shows in a value."""
    try:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not in {DEADLINE:.0f} s: {what()}") from None


@dataclass
class Seen:
    """What one subscriber was handed, acknowledged at once. numbers: of each partition. places: (partition, offset)
    of each number, however often it came."""

    subscription: bus.Subscription
    numbers: dict[int, list[int]] = field(default_factory=dict)
    places: dict[int, set[tuple[int, int]]] = field(default_factory=dict)
    _next: dict[int, int] = field(default_factory=dict)
    others: list[bus.Event] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def start(self) -> Seen:
        self.task = asyncio.create_task(self._run())
        return self

    async def _run(self) -> None:
        with contextlib.suppress(bus.Closed):
            while True:
                for event in await self.subscription.next():
                    if isinstance(event, bus.Records):
                        self._handle(event)
                        self.subscription.ack(event.partition, event.records[-1].offset + 1, b"state")
                    else:
                        self.others.append(event)
                        if isinstance(event, bus.Assigned):
                            self._next[event.partition] = event.offset

    def _handle(self, event: bus.Records) -> None:
        for record in event.records:
            if event.incarnation:
                assert record.offset >= self._next[event.partition], "handed over twice"
                self._next[event.partition] = record.offset + 1
            number = int(record.payload or b"-1")
            self.numbers.setdefault(event.partition, []).append(number)
            self.places.setdefault(number, set()).add((event.partition, record.offset))

    @property
    def count(self) -> int:
        return sum(map(len, self.numbers.values()))

    def all(self) -> list[int]:
        return sorted(n for numbers in self.numbers.values() for n in numbers)

    def in_order(self) -> bool:
        return all(numbers == sorted(numbers) for numbers in self.numbers.values())

    async def stop(self) -> None:
        """Raises what went wrong in handling."""
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task


def check_shared(members: Sequence[Seen], count: int) -> None:
    """A partition that moved: what the last owner had not acknowledged may come to the next one too, from the same
    place in the log. A number at two places is a repetition that should have been dropped."""
    places: dict[int, set[tuple[int, int]]] = {}
    for member in members:
        for number, found in member.places.items():
            places.setdefault(number, set()).update(found)
    assert sorted(places) == list(range(count))
    assert {number: found for number, found in places.items() if len(found) > 1} == {}
    log = sorted((place, number) for number, found in places.items() for place in found)
    for partition in {place[0] for place, _ in log}:
        numbers = [number for place, number in log if place[0] == partition]
        assert numbers == sorted(numbers)


class Flow:
    """Numbered records to one topic, a handful each few milliseconds, until stopped."""

    def __init__(self, client: bus.Bus, topic: str, batch: int = 20, pause: float = 0.01) -> None:
        self._client = client
        self._topic = topic
        self._batch = batch
        self._pause = pause
        self._futures: list[asyncio.Future[tuple[int, int]]] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            for _ in range(self._batch):
                number = len(self._futures)
                key = b"device-%d" % (number % 16)
                self._futures.append(self._client.send(self._topic, b"%d" % number, key=key, timeout=30))
            await asyncio.sleep(self._pause)

    @property
    def sent(self) -> int:
        return len(self._futures)

    async def stop(self) -> int:
        """Waits until all are confirmed; how many there are. Raises what the first that was refused did."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*self._futures)
        return len(self._futures)

    async def outcome(self) -> tuple[set[int], set[int]]:
        """`stop`, with the numbers that were confirmed and those that were refused."""
        with contextlib.suppress(bus.Refused):
            await self.stop()
        results = await asyncio.gather(*self._futures, return_exceptions=True)
        refused = {number for number, result in enumerate(results) if isinstance(result, bus.Refused)}
        confirmed = {number for number, result in enumerate(results) if isinstance(result, tuple)}
        other = {number: repr(result) for number, result in enumerate(results) if number not in confirmed | refused}
        assert other == {}
        return confirmed, refused


class Echo:
    """Answers questions with their own body, and counts them."""

    def __init__(self, client: bus.Bus, subscription: bus.Subscription) -> None:
        self._client = client
        self._subscription = subscription
        self.asked: list[bytes] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        with contextlib.suppress(bus.Closed):
            while True:
                for event in await self._subscription.next():
                    for record in event.records if isinstance(event, bus.Records) else []:
                        call = messages.decode_call(record.payload or b"")
                        self.asked.append(bytes(call.body))
                        self._client.reply(call, body=call.body)


class Questions:
    """A steady stream of numbered questions, each with the answer it must get."""

    def __init__(self, client: bus.Bus) -> None:
        self._client = client
        self._asked: list[tuple[messages.Get, asyncio.Future[bytes]]] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            question = messages.Get(0, "device", len(self._asked))
            self._asked.append((question, self._client.call(topics.QUERIES, question, timeout=30)))
            await asyncio.sleep(0.005)

    async def stop(self, refusals: bool = False) -> int:
        """Waits for all answers; how many there are. refusals: that nobody heard a question is an answer too."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        answers = await asyncio.gather(*(answer for _, answer in self._asked), return_exceptions=True)
        wrong = [
            (question.id, answer)
            for (question, _), answer in zip(self._asked, answers, strict=True)
            if answer != messages.encode(question) and not (refusals and isinstance(answer, bus.Refused))
        ]
        assert wrong == []
        return sum(isinstance(answer, bytes) for answer in answers)
