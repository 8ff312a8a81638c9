"""Random frames at the plugin proxy: nothing but a plugin's own stream is ever asked for, and nothing breaks."""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from skep.wire.proxy import Start
from skep.wire.topics import METADATA_CHANGES
from tests.cases.plugin_frames import Frames
from tests.contract.json_support import HOUR, Json, Manager, plugin_token, running_core, running_plugins
from ws_kafka_proxy.app import Core, Plugins
from ws_kafka_proxy.core.engine import Reader

EXAMPLES, FRAMES = 400, 50
"""20,000 frames."""
LEGITIMATE = {1000, 1007, 1008, 1009}
T = TypeVar("T")


class Recorder:
    """The topics port, and what was asked of it."""

    def __init__(self, topics: Any) -> None:
        self._topics = topics
        self.asked: Counter[tuple[object, ...]] = Counter()

    async def reader(self, topic: str, group: str | None, member: str, start: Start, drain: bool = False) -> Reader:
        self.asked["reader", topic, group] += 1
        reader: Reader = await self._topics.reader(topic, group, member, start, drain)
        return reader

    async def healthy(self) -> bool:
        well: bool = await self._topics.healthy()
        return well

    def __getattr__(self, name: str) -> Any:
        self.asked[name,] += 1
        return getattr(self._topics, name)


class World:
    """Everything in a loop that runs only while a batch is sent: hypothesis is not asynchronous, and minds when
    somebody uses `random` while it draws."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self.topic = f"plugin_topic_{uuid.uuid4()}"
        self.stream = f"{self.topic}.1"
        self.token = plugin_token(self.topic, HOUR / 1000)
        self.codes: Counter[int] = Counter()
        self.engine_calls: Counter[str] = Counter()
        self.plugins: Plugins
        self.recorder: Recorder

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(asyncio.wait_for(work, 60))

    def start(self) -> None:
        self.run(self._stack.enter_async_context(self._all()))

    def stop(self) -> None:
        self.run(self._stack.aclose())
        self._loop.close()

    @asynccontextmanager
    async def _all(self) -> AsyncIterator[None]:
        async with running_core(self._request) as core, Manager(core).running() as manager:
            await core._engine.create(self.stream, 4, HOUR)
            manager.streams[self.topic] = self.stream
            async with running_plugins(core, PLUGIN_RATE="0", PLUGIN_BYTE_RATE="0") as self.plugins:
                self.recorder = Recorder(self.plugins._topics)
                self.plugins._topics = self.recorder  # type: ignore[assignment]
                self._watch(core)
                self._core = core
                self._connections = len(core._sockets)
                yield

    def _watch(self, core: Core) -> None:
        """What reaches the engine from now on."""
        for name in ("append", "create", "delete", "reader"):
            self._count(core._engine, name)

    def _count(self, engine: Any, name: str) -> None:
        call: Callable[..., Any] = getattr(engine, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            self.engine_calls[name if name != "reader" else f"reader {arguments[0]}"] += 1
            return call(*arguments, **named)

        setattr(engine, name, counted)

    # -- clients

    async def send(self, sent: list[str | bytes], authenticated: bool) -> None:
        """On a socket of its own; afterwards the listener still answers."""
        url = f"ws://127.0.0.1:{self.plugins.listener.port}"
        async with connect(url, proxy=None, max_queue=None) as socket:
            if authenticated:
                answer = await Json(socket).ask("plugin", "authenticate", {"token": self.token})
                assert answer["s"] == 0 or "Too many" in answer["p"]["m"], answer
            try:
                for frame in sent:
                    await socket.send(frame)
                await self._answered(socket)
            except ConnectionClosed:
                pass
        self.codes[socket.close_code or 0] += 1
        async with connect(url, proxy=None) as other:
            assert (await Json(other).ask("health"))["s"] == 0

    async def quiet(self) -> None:
        """Until no socket, and no connection made for one, is left."""
        while True:
            if not self.plugins._sockets and len(self._core._sockets) <= self._connections:
                break
            await asyncio.sleep(0.05)
        assert len(self.plugins._attending.attendance) == 0
        assert self.plugins._topics._topics._taken == set()  # type: ignore[attr-defined]

    async def _answered(self, socket: ClientConnection) -> None:
        """Until everything before this is handled: requests are answered in order, but for health."""
        await socket.send('{"id":"the last","t":"what"}')
        async with asyncio.timeout(30):
            while '"the last"' not in await socket.recv():
                pass


@pytest.fixture(scope="module", params=[pytest.param("postgres", marks=pytest.mark.engines("postgres"))])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(request)
    made.start()
    yield made
    made.stop()


def test_random_frames_reach_nothing_but_the_own_stream(world: World) -> None:
    sent = 0

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.integers(0, 2**64), st.booleans())
    def check(seed: int, authenticated: bool) -> None:
        nonlocal sent
        frames = Frames(random.Random(seed), world.topic, world.stream, world.token)
        batch = [frames.frame() for _ in range(FRAMES)]
        sent += len(batch)
        world.run(world.send(batch, authenticated))
        judge(world)

    check()
    assert sent >= EXAMPLES * FRAMES
    assert world.recorder.asked.total() > 20, "some of them got through"
    assert world.codes.keys() <= LEGITIMATE, world.codes
    world.run(world.quiet())


def judge(world: World) -> None:
    for asked in world.recorder.asked:
        assert asked[0] == "reader", f"{asked} was asked for"
        _, topic, group = asked
        assert topic == world.stream
        assert isinstance(group, str)
        assert group.startswith(f"plugin-{world.topic}.")
    # The proxy itself follows the changes of plugins.
    allowed = {f"reader {world.stream}", f"reader {METADATA_CHANGES}"}
    assert set(world.engine_calls) <= allowed, world.engine_calls
