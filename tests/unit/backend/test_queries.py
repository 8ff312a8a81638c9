import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from backend.api.counters import Counters
from backend.api.queries import Queries
from backend.core.store import Entry, encode_item
from skep import bus
from skep.wire import topics
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE, Found, Get, Item, List
from skep.wire.proxy import Delivered
from tests.unit.backend.build import command, notification, record
from tests.unit.backend.fake_bus import FakeBus
from tests.unit.backend.memory_store import MemoryStore


class World:
    def __init__(self, at_once: int = 4) -> None:
        self.bus = FakeBus()
        self.store = MemoryStore()
        self.counters = Counters()
        self.queries = Queries(self.bus, self.store, at_once, self.counters)  # type: ignore[arg-type]

    async def ask(self, *queries: Any, deadline: int | None = None) -> list[tuple[int, Any]]:
        """Codes and answers, as many as there are after everything settled."""
        if deadline is None:
            deadline = int(time.time() * 1000) + 5000
        made = [q if isinstance(q, Delivered) else record(q, i, deadline=deadline) for i, q in enumerate(queries)]
        self.bus.subscriptions[topics.QUERIES].give(bus.Records(0, "", made))
        for _ in range(50):
            await asyncio.sleep(0)
        return [
            (code, msgspec.msgpack.decode(b, type=Found) if b else None)
            for _, code, b in sorted(self.bus.replies, key=lambda r: r[0])
        ]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.queries.start()
    task = asyncio.create_task(world.queries.follow())
    yield world
    task.cancel()
    await asyncio.wait([task])
    await world.queries.close()


async def put(store: MemoryStore, item: Item) -> Item:
    await store.put([Entry(item, "log", item.offset, encode_item(item))])
    return item


async def test_one_and_many_are_found(world: World) -> None:
    made = notification()
    item = await put(world.store, Item(0, 3, NOTIFICATION, notification=made))
    answers = await world.ask(Get(NOTIFICATION, "d", made.id), Get(NOTIFICATION, "d", 0), List(NOTIFICATION, ["d"]))
    assert answers == [(0, Found([item])), (0, Found([])), (0, Found([item]))]


async def test_items_have_the_kind_asked_for(world: World) -> None:
    made = command()
    made.is_updated = True
    await put(world.store, Item(0, 3, COMMAND, command=made))
    answers = await world.ask(List(UPDATE, ["d"]), List(COMMAND, ["d"]), Get(UPDATE, "d", made.id))
    assert [found.items[0].kind for _, found in answers] == [UPDATE, COMMAND, UPDATE]


@pytest.mark.parametrize(
    ("lifetime", "age", "updated", "status"),
    [(5, 6, False, "Expired"), (5, 4, False, "new"), (5, 6, True, "new"), (0, 6, False, "new"), (-5, 6, False, "new")],
)
async def test_a_command_that_nobody_took_in_time_is_shown_expired(
    world: World, lifetime: int, age: int, updated: bool, status: str
) -> None:
    made = command()
    made.timestamp, made.lifetime, made.is_updated = int(time.time() * 1000) - age * 1000, lifetime, updated
    made.status = "new"
    await put(world.store, Item(0, 3, COMMAND, command=made))
    answers = await world.ask(List(COMMAND, ["d"]), Get(COMMAND, "d", made.id))
    assert [found.items[0].command.status for _, found in answers] == [status] * 2


async def test_past_its_deadline_a_query_is_dropped(world: World) -> None:
    assert await world.ask(List(NOTIFICATION, ["d"]), deadline=1) == []
    assert world.counters.late == 1


async def test_an_engine_that_is_away_is_503_and_nonsense_400(world: World) -> None:
    world.store.away = True
    bad = record([9, 9], 1, deadline=int(time.time() * 1000) + 5000)
    answers = await world.ask(List(NOTIFICATION, ["d"]), bad, Delivered(2, 0, 1, 2, None, b"?"))
    assert sorted(code for code, _ in answers) == [400, 503]


async def test_only_so_many_are_answered_at_a_time() -> None:
    world = World(at_once=2)
    running, most, free = 0, 0, asyncio.Event()

    async def listed(*_: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await free.wait()
        running -= 1
        return await MemoryStore().list(List(NOTIFICATION), 1)

    world.store.list = listed  # type: ignore[method-assign]
    await world.queries.start()
    task = asyncio.create_task(world.queries.follow())
    assert await world.ask(*(List(NOTIFICATION) for _ in range(6))) == []
    assert running == 2
    free.set()
    assert len(await world.ask()) == 6
    assert most == 2
    task.cancel()
    await world.queries.close()
