"""What only the PostgreSQL log does: one writer, retention by tables, compaction, the size limit, a killed server."""

import asyncio
import logging
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy import postgres, process
from skep.wire import topics
from skep.wire.proxy import Code, Failure, Record, Start
from tests.contract.bus_support import Reading, positions, publish, records
from ws_kafka_proxy.adapters.postgres.engine import PostgresLog
from ws_kafka_proxy.adapters.postgres.options import Options
from ws_kafka_proxy.core.engine import EngineLost, TopicDeleted

pytestmark = pytest.mark.engines("postgres")
HOUR = 3_600_000
TOPIC = "plugin_topic_t"


class Clock:
    """Goes on by itself, and jumps when told."""

    def __init__(self) -> None:
        self.jumped = 0

    def __call__(self) -> int:
        return int(time.time() * 1000) + self.jumped


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(postgres_server: postgres.Server) -> Iterator[str]:
    """A fresh one for each test."""
    name = f"bus_{secrets.token_hex(8)}"
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_server.url(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


Make = Callable[..., PostgresLog]


@pytest.fixture
async def make(database: str, clock: Clock) -> AsyncIterator[Make]:
    made: list[PostgresLog] = []

    def make(
        url: str = database, standby: Callable[[bool], None] = lambda waiting: None, **changed: Any
    ) -> PostgresLog:
        options: dict[str, Any] = {"partitions": 4, "session_timeout": 0.5, "leaf": 60, "upkeep": 3600, **changed}
        made.append(PostgresLog(url, Options(**options), clock, standby))
        return made[-1]

    yield make
    for engine in made:
        await engine.stop()


async def started(engine: PostgresLog) -> PostgresLog:
    async with asyncio.timeout(20):
        await engine.start()
    return engine


async def read(engine: PostgresLog, topic: str, start: Start | None = None) -> Reading:
    return Reading(await engine.reader(topic, None, "anybody", start or Start("earliest")))


def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


# -- one writer


async def test_positions_offsets_and_incarnation_survive_a_restart(make: Make) -> None:
    first = await started(make())
    await first.create(TOPIC, 2, HOUR)
    await publish(first, TOPIC, b"a", b"b")
    reading = await Reading(await first.reader(TOPIC, "g", "m", Start("earliest"))).has(b"a", b"b")
    reading.reader.commit(0, 1, b"state")
    incarnation = (await first.describe(TOPIC))[0]
    await first.stop()
    second = await started(make())
    assert await second.describe(TOPIC) == (incarnation, [(0, 2), (0, 0)])
    assert await publish(second, TOPIC, b"c") == [(0, 2)]
    again = await Reading(await second.reader(TOPIC, "g", "m", Start("earliest"))).has(b"b", b"c")
    assert again.assigned(0).state == b"state"


async def test_after_a_restart_the_members_of_before_are_expected_back(make: Make) -> None:
    first = await started(make())
    await first.create(TOPIC, 4, HOUR)
    a, b = [Reading(await first.reader(TOPIC, "g", name, Start("earliest"))) for name in "ab"]
    await asyncio.gather(a.holds_count(2), b.holds_count(2))
    await first.stop()
    second = await started(make())
    back = Reading(await second.reader(TOPIC, "g", "b", Start("earliest")))
    await back.holds(*b.held)
    began = time.monotonic()
    await back.holds(0, 1, 2, 3)
    assert time.monotonic() - began < 5


async def test_a_second_proxy_waits_says_so_and_takes_over(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    first = await started(make())
    await publish(first, topics.DEAD_LETTERS, b"a")
    told: list[bool] = []
    waiting = asyncio.Event()

    def standby(on: bool) -> None:
        told.append(on)
        waiting.set()

    second = make(standby=standby)
    with caplog.at_level(logging.WARNING):
        starting = asyncio.create_task(second.start())
        async with asyncio.timeout(10):
            await waiting.wait()
    assert told == [True]
    assert not second.ready
    assert not await second.healthy()
    await first.stop()
    async with asyncio.timeout(10):
        await starting
    assert told == [True, False]
    assert await publish(second, topics.DEAD_LETTERS, b"b") == [(0, 1)]
    assert len([r for r in caplog.records if "another proxy writes" in r.getMessage()]) == 1


async def test_another_writer_while_we_were_away_ends_our_readers(make: Make, database: str) -> None:
    engine = await started(make())
    await engine.create(TOPIC, 1, HOUR)
    reading = await (await read(engine, TOPIC)).holds(0)
    query(database, "UPDATE skep_bus.writer SET epoch = epoch + 1")
    query(database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '% writer'")
    with pytest.raises(EngineLost):
        await reading.until(lambda: False)


async def test_positions_of_a_former_writer_are_void(make: Make, database: str) -> None:
    engine = await started(make())
    await engine.create(TOPIC, 1, HOUR)
    await publish(engine, TOPIC, b"a", b"b")
    reading = await Reading(await engine.reader(TOPIC, "g", "m", Start("earliest"))).has(b"a", b"b")
    reading.reader.commit(0, 1, b"")
    await reading.reader.close(leave=False)
    query(database, "UPDATE skep_bus.writer SET epoch = epoch + 1")
    again = await Reading(await engine.reader(TOPIC, "g", "m", Start("earliest"))).has(b"b")
    again.reader.commit(0, 2, b"")
    await again.reader.close(leave=False)
    assert query(database, "SELECT off FROM skep_bus.positions") == [(1,)]


# -- retention


async def test_retention_drops_tables_and_tells_the_gap(
    make: Make, clock: Clock, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await started(make())
    await engine.create(TOPIC, 1, HOUR)
    await publish(engine, TOPIC, b"old", b"old too")
    reading = Reading(await engine.reader(TOPIC, "g", "m", Start("earliest")))
    await reading.has(b"old", b"old too")
    reading.reader.commit(0, 1, b"")
    await reading.reader.close(leave=True)
    before = query(database, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'skep_bus.records'::regclass")
    clock.jumped = HOUR + 120_000
    await publish(engine, TOPIC, b"new")
    with caplog.at_level(logging.WARNING):
        await engine._upkeep.round()
    assert "retention removes 1 records of plugin_topic_t/0 that group g has not read" in caplog.text
    assert query(database, "SELECT payload FROM skep_bus.records") == [(b"new",)]
    assert before[0][0] >= 2
    assert (await engine.describe(TOPIC))[1] == [(2, 3)]
    again = await Reading(await engine.reader(TOPIC, "g", "m", Start("earliest"))).has(b"new")
    assert again.assigned(0).offset == 2
    assert [(g.partition, g.start, g.end) for g in again.gaps] == [(0, 1, 2)]


async def test_a_reader_that_retention_overtakes_is_told(make: Make, clock: Clock) -> None:
    engine = await started(make())
    await engine.create(TOPIC, 1, HOUR)
    behind = await (await read(engine, TOPIC)).holds(0)
    await publish(engine, TOPIC, b"old")
    engine.topics[next(i for i, t in engine.topics.items() if t.name == TOPIC)].partitions[0].forget()
    clock.jumped = HOUR + 120_000
    await publish(engine, TOPIC, b"new")
    await engine._upkeep.round()
    await behind.has(b"new")
    assert [(g.start, g.end) for g in behind.gaps] == [(0, 1)]


async def test_offsets_never_begin_again_when_all_records_are_gone(make: Make, clock: Clock) -> None:
    engine = await started(make())
    await engine.create(TOPIC, 1, HOUR)
    await publish(engine, TOPIC, b"a", b"b")
    clock.jumped = HOUR + 120_000
    await engine._upkeep.round()
    await engine.stop()
    second = await started(make())
    assert await publish(second, TOPIC, b"c") == [(0, 2)]


async def test_topics_of_any_retention_share_the_tables(make: Make, clock: Clock) -> None:
    engine = await started(make())
    await engine.create(TOPIC, 1, HOUR)
    await engine.create(TOPIC + "2", 1, 3 * HOUR)
    await publish(engine, TOPIC, b"short")
    await publish(engine, TOPIC + "2", b"long")
    await engine.append(7, [Record(topics.SUBSCRIPTIONS, b"k", b"ever", 1)])
    clock.jumped = 2 * HOUR
    await engine._upkeep.round()
    ends = [(await engine.describe(t))[1][0] for t in (TOPIC, TOPIC + "2", topics.SUBSCRIPTIONS)]
    assert ends == [(1, 1), (0, 1), (0, 1)]


@pytest.mark.parametrize("hours", [1, 5], ids=["shorter", "longer"])
async def test_a_changed_retention_counts_from_then_on_and_survives_a_restart(
    make: Make, clock: Clock, hours: int
) -> None:
    engine = await started(make())
    await engine.create(TOPIC, 1, 3 * HOUR)
    await publish(engine, TOPIC, b"before")
    await engine.create(TOPIC, 9, hours * HOUR)
    await publish(engine, TOPIC, b"after")
    await engine.stop()
    again = await started(make())
    await publish(again, TOPIC, b"after a restart")
    clock.jumped = 2 * HOUR
    await again._upkeep.round()
    # Nothing is read in front of what is gone.
    assert (await again.describe(TOPIC))[1] == [(3, 3) if hours == 1 else (0, 3)]


async def test_another_width_of_tables_fits_beside_the_old_ones(make: Make, clock: Clock) -> None:
    first = await started(make(leaf=60))
    await first.create(TOPIC, 1, HOUR)
    await publish(first, TOPIC, b"a")
    await first.stop()
    second = await started(make(leaf=7))
    for step in range(20):
        clock.jumped = step * 10_000
        await publish(second, TOPIC, b"b")
    await second.stop()
    third = await started(make(leaf=3600))
    clock.jumped = HOUR
    await publish(third, TOPIC, b"c")
    reading = await read(third, TOPIC)
    await reading.until(lambda: len(reading.payloads) == 22)


# -- compaction


async def test_compaction_keeps_the_newest_of_each_key(make: Make, clock: Clock, database: str) -> None:
    engine = await started(make())
    name = topics.SUBSCRIPTIONS
    sent = [(b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"c", b"1"), (b"c", None), (b"a", b"3")]
    await engine.append(7, [Record(name, key, value, n) for n, (key, value) in enumerate(sent)])
    await engine._upkeep.round()
    newest = [(1, b"b", b"1"), (4, b"c", None), (5, b"a", b"3")]
    rows = "SELECT off, key, payload FROM skep_bus.records ORDER BY off"
    assert query(database, rows) == newest
    reading = await read(engine, name)
    await reading.until(lambda: len(reading.payloads) == 3)
    assert [(r.offset, r.key, r.payload) for r in reading.records[0]] == newest
    clock.jumped = HOUR + 1_000
    await engine._upkeep.round()
    assert query(database, rows) == [newest[0], newest[2]]
    live = await read(engine, name, Start("offsets", {0: 3}))
    await engine.append(7, [Record(name, b"d", b"1", 9)])
    await live.until(lambda: len(live.payloads) == 2)
    assert [r.offset for r in live.records[0]] == [5, 6]
    assert live.gaps == []


async def test_no_offset_is_given_twice_after_compaction(make: Make, clock: Clock) -> None:
    """Readers that stay hold positions: behind them they would pass new records over."""
    engine = await started(make())
    name = topics.SUBSCRIPTIONS
    await engine.append(7, [Record(name, b"a", b"1", 1), Record(name, b"a", None, 2)])
    clock.jumped = HOUR + 1_000
    await engine._upkeep.round()
    await engine.stop()
    again = await started(make())
    assert positions(await again.append(8, [Record(name, b"b", b"1", 3)])) == [(0, 2)]
    reading = await (await read(again, name, Start("offsets", {0: 2}))).holds(0)
    await reading.has(b"1")


# -- the size limit


async def test_past_the_limit_publishes_are_refused_and_nothing_is_deleted(make: Make, clock: Clock) -> None:
    engine = await started(make(limit=4 << 20))
    await engine.create(TOPIC, 1, HOUR)
    sent = 0
    while True:
        [result] = await engine.append(7, [Record(TOPIC, None, secrets.token_bytes(500_000), sent)])
        if isinstance(result, Failure):
            break
        sent += 1
        assert sent < 100
    assert result.code == Code.FULL
    reading = await read(engine, TOPIC)
    await reading.until(lambda: len(reading.payloads) == sent)
    clock.jumped = HOUR + 120_000
    await engine._upkeep.round()
    positions(await engine.append(7, records(TOPIC, b"room again")))


# -- a server that dies


class Crashing:
    """A PostgreSQL of our own that is killed and started again."""

    def __init__(self, server: postgres.Server) -> None:
        self.server = server
        self.child = None
        self.start()

    def start(self) -> None:
        spec = self.server.spec()
        self.child = process.spawn(spec)
        process.wait(spec, self.child)

    def kill(self) -> None:
        """Immediate: the server's processes die at once, as with `kill -9`, and recovery runs at the next start."""
        process.end(self.child, signal.SIGQUIT, 20)


@pytest.fixture
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashing]:
    data: Path = tmp_path_factory.mktemp("crashing")
    made = Crashing(postgres.server(data, secrets.token_urlsafe(24)))
    yield made
    made.kill()
    postgres.remove(data)


async def test_killed_in_the_middle_nothing_is_lost_and_nothing_wrongly_confirmed(
    crashing: Crashing, make: Make
) -> None:
    """A publisher as `skep.bus` is: what got no answer is sent again, in order. Three kills."""
    engine = await started(make(crashing.server.url("postgres")))
    await engine.create(TOPIC, 1, HOUR)
    live = await (await read(engine, TOPIC)).holds(0)
    confirmed: dict[int, int] = {}
    lost = 0
    seq = 0

    async def burst(count: int) -> None:
        """Calls that overlap, until every one is confirmed."""
        nonlocal seq, lost
        waiting = list(range(seq, seq + count))
        seq += count
        while waiting:
            calls = [engine.append(7, [Record(TOPIC, None, b"%d" % n, n)]) for n in waiting]
            results = await asyncio.gather(*calls, return_exceptions=True)
            failed = [n for n, result in zip(waiting, results, strict=True) if isinstance(result, EngineLost)]
            for n, result in zip(waiting, results, strict=True):
                if n not in failed:
                    [(_, confirmed[n])] = positions(result)
            assert failed == [] or failed == waiting[waiting.index(failed[0]) :]
            lost += len(failed)
            waiting = failed

    done = asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            await burst(20)

    writing = asyncio.create_task(write())
    async with asyncio.timeout(60):
        for _ in range(3):
            goal = len(confirmed) + 100
            await live.until(lambda goal=goal: len(live.payloads) >= goal)
            await asyncio.to_thread(crashing.kill)
            assert not await engine.healthy()
            await asyncio.to_thread(crashing.start)
        done.set()
        await writing
    await publish(engine, TOPIC, b"end")
    await live.until(lambda: live.payloads[-1] == b"end")
    every = await read(engine, TOPIC)
    await every.until(lambda: every.payloads[-1:] == [b"end"])
    assert lost > 0
    kept = {r.offset: r.payload for r in every.records[0]}
    assert all(kept[offset] == b"%d" % n for n, offset in confirmed.items())
    assert len(confirmed) == seq
    first: list[bytes | None] = list(dict.fromkeys(every.payloads))
    assert first == [b"%d" % n for n in range(seq)] + [b"end"]
    assert live.payloads == every.payloads


async def test_an_append_while_the_server_is_away_waits(crashing: Crashing, make: Make) -> None:
    engine = await started(make(crashing.server.url("postgres")))
    await engine.create(TOPIC, 1, HOUR)
    reading = await Reading(await engine.reader(TOPIC, "g", "m", Start("earliest"))).holds(0)
    await asyncio.to_thread(crashing.kill)
    async with asyncio.timeout(10):
        while engine.ready:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    waiting = engine.append(7, records(TOPIC, b"waited"))
    reading.reader.commit(0, 0, b"written late")
    await asyncio.to_thread(crashing.start)
    async with asyncio.timeout(20):
        assert positions(await waiting) == [(0, 0)]
    await reading.has(b"waited")
    await engine._positions.flushed()
    rows = query(crashing.server.url("postgres"), "SELECT state FROM skep_bus.positions")
    assert rows == [(b"written late",)]


async def test_too_much_waiting_is_refused(crashing: Crashing, make: Make) -> None:
    engine = await started(make(crashing.server.url("postgres"), queue_records=10))
    await engine.create(TOPIC, 1, HOUR)
    await asyncio.to_thread(crashing.kill)
    async with asyncio.timeout(10):
        while engine.ready:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    kept = engine.append(7, records(TOPIC, *[b"x"] * 11))
    [refused] = await engine.append(7, records(TOPIC, b"y"))
    assert isinstance(refused, Failure)
    assert refused.code == Code.UNAVAILABLE
    await asyncio.to_thread(crashing.start)
    async with asyncio.timeout(20):
        assert len(positions(await kept)) == 11


async def test_calls_made_before_the_callers_could_hear_of_the_loss_fail_too(make: Make, database: str) -> None:
    """Otherwise the record after the lost one would overtake it."""
    engine = await started(make())
    await engine.create(TOPIC, 1, HOUR)
    appender = engine._appender
    first = engine.append(7, records(TOPIC, b"a"))
    appender._lose("pulled the plug")
    second = engine.append(7, records(TOPIC, b"b"))
    for call in (first, second):
        with pytest.raises(EngineLost):
            await call
    await asyncio.sleep(0)  # the rest of the loop turn
    positions(await engine.append(7, records(TOPIC, b"c")))


async def test_deleted_records_leave_the_table(make: Make, database: str) -> None:
    engine = await started(make())
    await engine.create(TOPIC, 1, HOUR)
    await publish(engine, TOPIC, b"a")
    reading = await (await read(engine, TOPIC)).has(b"a")
    await engine.delete(TOPIC)
    with pytest.raises(TopicDeleted):
        await reading.until(lambda: False)
    await engine._upkeep.round()
    assert query(database, "SELECT count(*) FROM skep_bus.records") == [(0,)]
