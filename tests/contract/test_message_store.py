"""The message store port, over every implementation. The fake of the unit tests passes it too."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg
import pytest
from hazelcast.serialization.data import Data
from hazelcast.serialization.service import SerializationServiceV1

from backend.adapters.hazelcast import HazelcastStore
from backend.adapters.postgres import PostgresStore
from backend.core import store as port
from backend.core.store import Away, Entry, Full, Rejected, Store
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE, Command, Item, List, Notification
from tests.unit.backend.memory_store import MemoryStore

NOW = int(time.time() * 1000)
LIMIT = 1 << 20
ids = itertools.count(1)


@dataclass
class Subject:
    store: Store
    expire: Callable[[float], Awaitable[None]] | None = None
    """Let so many seconds pass, where the clock is ours."""
    fill: Callable[[], None] | None = None
    """Bring it to its size limit."""


async def _postgres(url: str) -> AsyncIterator[Subject]:
    ahead = 0.0
    store = PostgresStore(url, ttl=120, clock=lambda: time.time() + ahead)
    await store.start()

    async def expire(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    def fill() -> None:
        store._limit = 0

    yield Subject(store, expire, fill)
    await store.stop()


async def _memory() -> AsyncIterator[Subject]:
    store = MemoryStore()

    async def expire(seconds: float) -> None:
        store.now += seconds

    def fill() -> None:
        store.full = True

    yield Subject(store, expire, fill)


async def _hazelcast(engine: Any) -> AsyncIterator[Subject]:
    store = HazelcastStore(engine.members.split(","), engine.cluster)
    await _started(store)

    def fill() -> None:
        store._limit = 0

    yield Subject(store, None, fill)
    await store.stop()


async def _started(store: Store) -> None:
    """A client that was just made is not connected yet."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.start()
            except Away:
                await asyncio.sleep(0.1)


@pytest.fixture(params=["memory", "postgres", "hazelcast"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    async for subject in _subjects(request):
        yield subject


def _subjects(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "postgres":
        return _postgres(request.getfixturevalue("postgres_url"))
    if request.param == "hazelcast":
        return _hazelcast(request.getfixturevalue("hazelcast"))
    return _memory()


@pytest.fixture
def store(subject: Subject) -> Store:
    return subject.store


@pytest.fixture
def device() -> str:
    return f"device-{next(ids)}-{time.monotonic_ns()}"


def notification(device: str, at: int = 0, name: str = "t", network: int = 1, device_type: int = 1) -> Notification:
    return Notification(next(ids), name, device, network, device_type, NOW + at, b'{"v":1}')


def command(device: str, at: int = 0, name: str = "c", status: str | None = None) -> Command:
    return Command(next(ids), name, device, 1, 1, NOW + at, NOW + at, 1, b'{"v":1}', None, status)


def entry(
    message: Notification | Command, offset: int, *, born: int | None = None, log: str = "log", maybe: bool = False
) -> Entry:
    if isinstance(message, Notification):
        item = Item(0, offset, NOTIFICATION, notification=message)
    else:
        item = Item(0, offset, COMMAND, command=message)
    return Entry(item, log, offset if born is None else born, port.encode_item(item), maybe)


async def listed(store: Store, query: List, limit: int = LIMIT) -> list[int]:
    page = await store.list(query, limit)
    items = [port.decode_item(body) for body in page.items]
    assert all(item.kind == query.kind for item in items)
    return [port.message(item).id for item in items]


async def test_what_was_put_is_found_by_device_and_id(store: Store, device: str) -> None:
    first, second, third = notification(device), notification(device), command(device)
    await store.put([entry(first, 1), entry(second, 2), entry(third, 3)])

    found = await store.get(NOTIFICATION, [(device, first.id), (device, second.id), (device, 0), ("x", first.id)])

    assert {k: v.item.notification for k, v in found.items()} == {(device, m.id): m for m in (first, second)}
    held = (await store.get(COMMAND, [(device, third.id)]))[device, third.id]
    assert (held.item.command, held.item.offset, held.incarnation, held.born) == (third, 3, "log", 3)
    assert await store.get(NOTIFICATION, [(device, third.id)]) == {}


async def test_one_id_is_a_notification_and_a_command_at_once(store: Store, device: str) -> None:
    first = notification(device)
    second = command(device)
    second.id = first.id
    await store.put([entry(first, 1), entry(second, 2)])

    assert await listed(store, List(NOTIFICATION, [device])) == [first.id]
    assert await listed(store, List(COMMAND, [device])) == [first.id]


@pytest.mark.parametrize("maybe_offset", [5, 4])
async def test_the_same_or_an_earlier_record_replaces_nothing(store: Store, device: str, maybe_offset: int) -> None:
    stored = notification(device, at=0)
    await store.put([entry(stored, 5)])
    again = Notification(stored.id, "other", device, 1, 1, NOW + 77)
    await store.put([entry(again, maybe_offset, maybe=True)])

    found = await store.get(NOTIFICATION, [(device, stored.id)])
    assert found[device, stored.id].item.notification == stored
    assert await listed(store, List(NOTIFICATION, [device])) == [stored.id]
    assert await listed(store, List(NOTIFICATION, [device], start=NOW + 50)) == []


async def test_a_later_record_replaces_wherever_the_older_was(store: Store, device: str) -> None:
    first = command(device, status="new")
    await store.put([entry(first, 5)])
    done = Command(first.id, "c", device, 1, 1, NOW, NOW + 9, 1, None, None, "done", b"1", True)
    await store.put([entry(done, 6, born=5, maybe=True)])

    held = (await store.get(COMMAND, [(device, first.id)]))[device, first.id]
    assert (held.item.command, held.item.offset, held.born) == (done, 6, 5)
    assert await listed(store, List(COMMAND, [device])) == [first.id]
    assert await listed(store, List(COMMAND, [device], status="new")) == []
    assert await listed(store, List(COMMAND, [device], status="done")) == [first.id]


async def test_offsets_of_two_logs_are_not_compared(store: Store, device: str) -> None:
    first = notification(device)
    await store.put([entry(first, 500)])
    second = Notification(first.id, "t", device, 1, 1, NOW + 1)
    await store.put([entry(second, 3, log="new log", maybe=True)])

    found = await store.get(NOTIFICATION, [(device, first.id)])
    assert found[device, first.id].item.notification == second


async def test_bounds_are_exclusive(store: Store, device: str) -> None:
    made = [notification(device, at=i) for i in range(5)]
    await store.put([entry(m, i) for i, m in enumerate(made)])

    assert await listed(store, List(NOTIFICATION, [device], start=NOW + 1, end=NOW + 3)) == [made[2].id]
    assert await listed(store, List(NOTIFICATION, [device], start=NOW + 1)) == [m.id for m in made[2:]]
    assert await listed(store, List(NOTIFICATION, [device], start=NOW + 2, end=NOW + 2)) == []


async def test_ties_are_in_order_of_arrival_in_both_directions(store: Store, device: str) -> None:
    made = [notification(device, at=0) for _ in range(4)]
    made[0].id, made[3].id = made[3].id, made[0].id
    for i, m in enumerate(made):
        await store.put([entry(m, i + 10)])
    expected = [m.id for m in made]

    assert await listed(store, List(NOTIFICATION, [device])) == expected
    assert await listed(store, List(NOTIFICATION, [device], descending=True)) == expected
    assert await listed(store, List(NOTIFICATION, [device], take=1, skip=1)) == expected[1:2]


async def test_take_and_skip_cut_the_sorted_whole(store: Store, device: str) -> None:
    made = [notification(device, at=i) for i in range(6)]
    await store.put([entry(m, i) for i, m in enumerate(made)])
    expected = [m.id for m in reversed(made)]

    assert await listed(store, List(NOTIFICATION, [device], descending=True, take=2, skip=1)) == expected[1:3]
    assert await listed(store, List(NOTIFICATION, [device], take=0)) == []
    assert await listed(store, List(NOTIFICATION, [device], take=None, descending=True)) == expected


async def test_a_store_says_whether_it_shows_batches_while_they_are_written(store: Store, device: str) -> None:
    await store.put([entry(notification(device), 1)])
    assert (await store.list(List(NOTIFICATION, [device]), LIMIT)).loose == isinstance(store, HazelcastStore)


async def test_sorting_by_name_and_status(store: Store, device: str) -> None:
    made = [command(device, 0, "b", "x"), command(device, 1, "a", None), command(device, 2, "c", "a")]
    await store.put([entry(m, i) for i, m in enumerate(made)])
    one, two, three = (m.id for m in made)

    assert await listed(store, List(COMMAND, [device], sort="command")) == [two, one, three]
    assert await listed(store, List(COMMAND, [device], sort="status")) == [two, three, one]
    assert await listed(store, List(COMMAND, [device], sort="status", descending=True)) == [one, three, two]


async def test_commands_past_their_lifetime_are_expired(store: Store, device: str) -> None:
    made = [command(device, i, status=status) for i, status in enumerate(("a", "a", "a", "z", "Expired", None))]
    past, kept, updated, endless, late, huge = made
    past.timestamp, past.lifetime = NOW - 60_000, 59
    kept.lifetime = 100_000
    updated.timestamp, updated.lifetime, updated.is_updated = NOW - 60_000, 59, True
    endless.timestamp, endless.lifetime = NOW - 60_000, 0
    huge.lifetime = 2**62
    await store.put([entry(m, i) for i, m in enumerate(made)])

    assert await listed(store, List(COMMAND, [device], status="Expired")) == [past.id, late.id]
    assert await listed(store, List(COMMAND, [device], status="a")) == [updated.id, kept.id]
    by_status = [huge.id, past.id, late.id, kept.id, updated.id, endless.id]
    assert await listed(store, List(COMMAND, [device], sort="status")) == by_status
    assert await listed(store, List(COMMAND, [device], status="z")) == [endless.id]

    done = msgspec.structs.replace(past, status="a", is_updated=True)
    await store.put([entry(done, 9, born=0)])
    assert await listed(store, List(COMMAND, [device], status="Expired")) == [late.id]
    assert await listed(store, List(COMMAND, [device], status="a", sort="command")) == [past.id, kept.id, updated.id]


async def test_names_are_exact(store: Store, device: str) -> None:
    made = [notification(device, i, name) for i, name in enumerate(("a", "b", "A", "a%"))]
    await store.put([entry(m, i) for i, m in enumerate(made)])

    assert await listed(store, List(NOTIFICATION, [device], names=["a", "b"])) == [made[0].id, made[1].id]
    assert await listed(store, List(NOTIFICATION, [device], names=[])) == []


async def test_scopes_are_pairs_of_network_and_type(store: Store) -> None:
    base = next(ids) * 1000 + time.monotonic_ns() % 10**9 * 10**6
    made = {
        (n, t): notification(f"scoped-{base}", i, network=base + n, device_type=base + t)
        for i, (n, t) in enumerate(itertools.product((1, 2), (1, 2)))
    }
    await store.put([entry(m, i) for i, m in enumerate(made.values())])

    async def within(*scopes: tuple[int | None, int | None]) -> list[tuple[int, int]]:
        shifted = [(n and base + n, t and base + t) for n, t in scopes]
        found = await listed(store, List(NOTIFICATION, None, shifted, take=None))
        return [pair for m in found for pair, made_ in made.items() if made_.id == m]

    assert await within((1, 2), (2, 1)) == [(1, 2), (2, 1)]
    assert await within((1, None)) == [(1, 1), (1, 2)]
    assert await within((None, 1)) == [(1, 1), (2, 1)]
    assert await within((1, None), (None, 1)) == [(1, 1), (1, 2), (2, 1)]
    assert await within((None, None)) == list(made)
    assert await within() == []
    everything = await listed(store, List(NOTIFICATION, take=None))
    assert {m.id for m in made.values()} <= set(everything)


async def test_several_devices_are_one_list(store: Store, device: str) -> None:
    made = [notification(f"{device}-{i % 3}", i) for i in range(6)]
    await store.put([entry(m, i) for i, m in enumerate(made)])

    found = await listed(store, List(NOTIFICATION, [f"{device}-0", f"{device}-2"]))
    assert found == [made[i].id for i in (0, 2, 3, 5)]
    assert await listed(store, List(NOTIFICATION, [])) == []


async def test_updates_are_compared_by_when_they_were_updated(store: Store, device: str) -> None:
    made = [command(device, at=i) for i in range(3)]
    await store.put([entry(m, i) for i, m in enumerate(made)])
    for i, at in ((2, 10), (0, 20)):
        old = made[i]
        new = Command(old.id, "c", device, 1, 1, old.timestamp, NOW + at, 1, None, None, "ok", None, True)
        await store.put([entry(new, 10 + at, born=i)])

    assert await listed(store, List(UPDATE, [device])) == [made[2].id, made[0].id]
    assert await listed(store, List(UPDATE, [device], descending=True)) == [made[0].id, made[2].id]
    assert await listed(store, List(UPDATE, [device], start=NOW + 10)) == [made[0].id]
    assert await listed(store, List(UPDATE, None, [(1, None)], start=NOW + 19, end=NOW + 21)) == [made[0].id]


async def test_a_list_is_cut_at_the_limit_of_bytes(store: Store, device: str) -> None:
    made = [notification(device, at=i) for i in range(200)]
    entries = [entry(m, i) for i, m in enumerate(made)]
    await store.put(entries)
    size = len(entries[0].body)

    page = await store.list(List(NOTIFICATION, [device], take=None), 10 * size + size // 2)
    assert page.more
    assert 8 <= len(page.items) <= 10
    page = await store.list(List(NOTIFICATION, [device], take=None), 1)
    assert (len(page.items), page.more) == (1, True)
    page = await store.list(List(NOTIFICATION, [device], take=None), LIMIT)
    assert (len(page.items), page.more) == (200, False)


async def test_any_text_and_bytes_come_back_as_they_were(store: Store, device: str) -> None:
    made = Notification(2**53 - 1, "né\n\t'\"\\%🐝", device, 2**53 - 1, 0, NOW, bytes(range(256)) * 300)
    empty = Notification(next(ids), "", device, 0, 0, 0, None)
    await store.put([entry(made, 2**40), entry(empty, 2**40 + 1)])

    found = await store.get(NOTIFICATION, [(device, made.id), (device, empty.id)])
    assert found[device, made.id].item.notification == made
    assert found[device, empty.id].item.notification == empty


async def test_messages_expire_after_the_last_write(subject: Subject, device: str) -> None:
    if subject.expire is None:
        pytest.skip("its clock is not ours: see the engine's own test")
    store = subject.store
    kept, gone = command(device), command(device)
    await store.put([entry(kept, 1), entry(gone, 2)])
    await subject.expire(70)
    update = Command(kept.id, "c", device, 1, 1, NOW, NOW + 5, is_updated=True)
    await store.put([entry(update, 3, born=1)])
    await subject.expire(70)

    assert await listed(store, List(COMMAND, [device])) == [kept.id]
    assert set(await store.get(COMMAND, [(device, kept.id), (device, gone.id)])) == {(device, kept.id)}
    await subject.expire(51)
    assert await listed(store, List(COMMAND, [device])) == []
    await store.put([entry(gone, 9)])
    assert await listed(store, List(COMMAND, [device])) == [gone.id]


async def test_at_the_limit_writes_are_refused_and_reads_go_on(subject: Subject, device: str) -> None:
    made = notification(device)
    await subject.store.put([entry(made, 1)])
    assert subject.fill is not None
    subject.fill()

    with pytest.raises(Full):
        await subject.store.put([entry(notification(device), 2)])
    assert await listed(subject.store, List(NOTIFICATION, [device])) == [made.id]


async def test_reads_and_writes_at_once(store: Store, device: str) -> None:
    made = [notification(device, at=i) for i in range(200)]
    puts = [store.put([entry(m, i)]) for i, m in enumerate(made)]
    reads = [store.list(List(NOTIFICATION, [device]), LIMIT) for _ in range(20)]
    await asyncio.gather(*puts, *reads)

    assert await listed(store, List(NOTIFICATION, [device], take=None)) == [m.id for m in made]


async def test_it_is_healthy(store: Store) -> None:
    assert await store.healthy()


# -- PostgreSQL's own -------------------------------------------------------------------------------------------------


async def test_postgres_rejects_what_no_column_holds_and_goes_on(postgres_url: str, device: str) -> None:
    async for subject in _postgres(postgres_url):
        for bad in (notification(device, name="a\0b"), Notification(2**70, "n", device, 1, 1, 1)):
            item = Item(0, 1, NOTIFICATION, notification=bad)
            with pytest.raises(Rejected):
                await subject.store.put([Entry(item, "log", 1, b"\x95"), entry(notification(device), 2)])
        assert await listed(subject.store, List(NOTIFICATION, [device])) == []
        await subject.store.put([entry(notification(device), 3)])


async def test_postgres_drops_expired_slices(postgres_url: str, device: str) -> None:
    async for subject in _postgres(postgres_url):
        store = subject.store
        assert isinstance(store, PostgresStore)
        assert subject.expire is not None

        async def slices(store: PostgresStore = store) -> set[str]:
            async with store._keeper.use() as connection:
                cursor = await connection.execute(
                    "SELECT tablename FROM pg_tables WHERE schemaname = 'skep_messages' AND tablename <> 'entries'"
                )
                return {row[0] for row in await cursor.fetchall()}

        await store.put([entry(notification(device), 1)])
        before = await slices()
        await subject.expire(1000)
        await store.put([entry(notification(device), 2)])  # no slice for it yet: made at once
        await store._maintain()
        assert before.isdisjoint(await slices())
        assert len(await listed(store, List(NOTIFICATION, [device]))) == 1


async def test_two_postgres_stores_share_one_schema(postgres_url: str, device: str) -> None:
    one, two = PostgresStore(postgres_url), PostgresStore(postgres_url)
    await asyncio.gather(one.start(), two.start())
    made = notification(device)
    await asyncio.gather(one.put([entry(made, 1)]), two.put([entry(made, 1)]))
    assert await listed(one, List(NOTIFICATION, [device])) == [made.id]
    await asyncio.gather(one.stop(), two.stop())


# -- Hazelcast's own --------------------------------------------------------------------------------------------------


async def test_hazelcast_holds_nothing_pickled(hazelcast: Any, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes from the member has the type id of its serializer: -55 Compact, -11 string; -100 would be pickle."""
    types: list[int] = []
    original = SerializationServiceV1.to_object

    def spied(self: Any, data: Any) -> Any:
        if isinstance(data, Data):
            types.append(data.get_type())
        return original(self, data)

    monkeypatch.setattr(SerializationServiceV1, "to_object", spied)
    async for subject in _hazelcast(hazelcast):
        store = subject.store
        assert isinstance(store, HazelcastStore)
        made, asked = notification(device), command(device)
        made.parameters = bytes(range(256))
        await store.put([entry(made, 1), entry(asked, 2)])
        for entries in store._maps.values():
            found = await asyncio.to_thread(lambda entries=entries: list(entries.entry_set().result()))
            assert found
    assert set(types) == {-55, -11}


async def test_hazelcast_rejects_what_no_field_holds(hazelcast: Any, device: str) -> None:
    async for subject in _hazelcast(hazelcast):
        item = Item(0, 1, NOTIFICATION, notification=Notification(2**70, "n", device, 2**70, 1, 1))
        with pytest.raises(Rejected):
            await subject.store.put([Entry(item, "log", 1, b"x"), entry(notification(device), 2)])
        assert await listed(subject.store, List(NOTIFICATION, [device])) == []


async def test_hazelcast_counts_the_time_to_live_from_the_last_write(hazelcast: Any, device: str) -> None:
    async for subject in _hazelcast(hazelcast):
        store = subject.store
        assert isinstance(store, HazelcastStore)
        made = command(device)
        await store.put([entry(made, 1)])
        update = Command(made.id, "c", device, 1, 1, NOW, NOW + 5, is_updated=True)
        await store.put([entry(update, 2, born=1)])
        view = await asyncio.to_thread(store._maps[COMMAND].get_entry_view(f"{device}/{made.id}").result)
        assert view.ttl == 120_000
        assert view.expiration_time - view.last_update_time in range(119_000, 121_001)


async def test_hazelcast_that_is_away_is_said_to_be(unused_tcp_port: int) -> None:
    store = HazelcastStore([f"127.0.0.1:{unused_tcp_port}"], "nobody", timeout=0.5)
    with pytest.raises(Away):
        await store.start()
    await store.stop()


async def test_tables_of_before_lifetimes_are_taken_over(postgres_url: str, device: str) -> None:
    store = PostgresStore(postgres_url)
    await store.start()
    await store.put([entry(notification(device), 1)])
    await store.stop()
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        await connection.execute("ALTER TABLE skep_messages.entries DROP COLUMN lapses")
    store = PostgresStore(postgres_url)
    await store.start()
    made = command(device)
    made.timestamp, made.lifetime = NOW - 60_000, 59
    await store.put([entry(made, 2)])
    assert len(await listed(store, List(NOTIFICATION, [device]))) == 1
    assert await listed(store, List(COMMAND, [device], status="Expired")) == [made.id]
    await store.stop()
