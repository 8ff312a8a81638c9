"""The engine port (`ws_kafka_proxy/core/engine.py`): what holds on every engine."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from skep.wire import topics
from skep.wire.proxy import Assigned, Code, Failure, Record, Source, Start
from tests.contract.bus_support import Reading, positions, publish, records
from ws_kafka_proxy.adapters.kafka import KafkaEngine
from ws_kafka_proxy.adapters.postgres.engine import PostgresLog
from ws_kafka_proxy.adapters.postgres.options import Options
from ws_kafka_proxy.core.engine import Engine, Fenced, TopicDeleted

HOUR = 3_600_000


def now() -> int:
    return int(time.time() * 1000)


def make_postgres(request: pytest.FixtureRequest) -> Engine:
    options = Options(partitions=4, session_timeout=0.5, leaf=60, upkeep=60)
    return PostgresLog(request.getfixturevalue("postgres_url"), options, now)


def make_kafka(request: pytest.FixtureRequest) -> Engine:
    return KafkaEngine(request.getfixturevalue("kafka"), partitions=4)


ENGINES: dict[str, Callable[[pytest.FixtureRequest], Engine]] = {"postgres": make_postgres, "kafka": make_kafka}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.engines(name)) for name in ENGINES])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    made = ENGINES[request.param](request)
    async with asyncio.timeout(30):
        await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def topic(engine: Engine) -> str:
    name = f"plugin_topic_{uuid.uuid4()}"
    await engine.create(name, 4, HOUR)
    return name


Join = Callable[..., Awaitable[Reading]]


@pytest.fixture
async def join(engine: Engine, topic: str) -> AsyncIterator[Join]:
    """Readers of the topic, closed at the end; group "readers" where a member is named."""
    made: list[Reading] = []

    async def join(member: str = "", start: Start | None = None, of: str = topic, drain: bool = False) -> Reading:
        group = "readers" if member else None
        begin = start or Start("earliest")
        made.append(Reading(await engine.reader(of, group, member or "anybody", begin, drain)))
        return made[-1]

    yield join
    for reading in made:
        await reading.reader.close(leave=True)


# -- topics


async def test_the_catalogue_is_made_at_the_start(request: pytest.FixtureRequest, engine: Engine) -> None:
    # The engine is shared: a test before may have made these topics with other settings.
    for name in topics.DURABLE:
        await engine.delete(name)
    await engine.stop()
    engine = ENGINES[engine.name](request)
    await engine.start()
    requests = engine.partitions(topics.REQUESTS)
    made = {name: engine.partitions(name) for name in topics.DURABLE if topics.DURABLE[name].partitions}
    await engine.stop()
    assert requests == 4
    assert made == {topics.SUBSCRIPTIONS: 1, topics.METADATA_CHANGES: 1, topics.DEAD_LETTERS: 1}


async def test_a_topic_is_made_twice_deleted_twice(engine: Engine, topic: str) -> None:
    await engine.create(topic, 4, HOUR)
    incarnation, ends = await engine.describe(topic)
    assert ends == [(0, 0)] * 4
    await engine.delete(topic)
    await engine.delete(topic)
    assert engine.partitions(topic) is None
    with pytest.raises(KeyError):
        await engine.describe(topic)
    with pytest.raises(KeyError):
        await engine.reader(topic, None, "anybody", Start())
    [refused] = await engine.append(7, records(topic, b"late"))
    assert isinstance(refused, Failure)
    assert refused.code == Code.NO_TOPIC
    await engine.create(topic, 1, HOUR)
    again, ends = await engine.describe(topic)
    assert again != incarnation
    assert ends == [(0, 0)]


async def test_deleting_a_topic_ends_its_readers(engine: Engine, topic: str, join: Join) -> None:
    member, broadcast = await join("a"), await join()
    await member.holds(0, 1, 2, 3)
    await broadcast.holds(0, 1, 2, 3)
    waiting = [asyncio.create_task(reading.reader.read(10, 1000)) for reading in (member, broadcast)]
    await engine.delete(topic)
    async with asyncio.timeout(10):
        for task in waiting:
            with pytest.raises(TopicDeleted):
                await task


async def test_what_is_appended_while_a_topic_goes_is_answered(engine: Engine, topic: str) -> None:
    stays = f"{topic}.2"
    await engine.create(stays, 1, HOUR)
    calls = []

    async def write() -> None:
        for n in range(2_000):
            calls.append(engine.append(7, [Record(topic, b"k", b"x", n), Record(stays, b"k", b"x", n)]))
            await asyncio.sleep(0)

    async with asyncio.timeout(20):
        await asyncio.gather(write(), engine.delete(topic))
        answers = [await call for call in calls]
    codes = [first.code if isinstance(first, Failure) else None for first, _ in answers]
    assert set(codes) <= {None, Code.NO_TOPIC}
    gone = codes.index(Code.NO_TOPIC)
    assert set(codes[gone:]) == {Code.NO_TOPIC}, "nothing is written behind what was refused"
    assert [second for _, second in answers] == [(0, n) for n in range(2_000)]


# -- append


async def test_records_come_back_as_they_were(engine: Engine, topic: str, join: Join) -> None:
    source = Source("another log", 3, 1 << 40)
    sent = [
        Record(topic, b"key", b"\x00payload\xff", 1 << 60, 2, source),
        Record(topic, None, b"", 2, 2),
        Record(topic, b"", b"x" * (1 << 20), 3, 2),
    ]
    before = now()
    publisher = (1 << 63) - 1
    assert positions(await engine.append(publisher, sent)) == [(2, 0), (2, 1), (2, 2)]
    reading = await join()
    await reading.until(lambda: len(reading.records[2]) == 3)
    for offset, (record, got) in enumerate(zip(sent, reading.records[2], strict=True)):
        assert (got.offset, got.publisher, got.seq) == (offset, publisher, record.seq)
        assert (got.key, got.payload, got.source) == (record.key, record.payload, record.source)
        assert before - 1000 <= got.time <= now() + 1000


async def test_live_readers_get_records_as_they_were_too(engine: Engine, topic: str, join: Join) -> None:
    reading = await (await join()).holds(0, 1, 2, 3)
    source = Source("another log", 3, 4)
    await engine.append(9, [Record(topic, b"k", b"v", 5, 1, source)])
    await reading.has(b"v")
    got = reading.records[1][0]
    assert (got.publisher, got.seq, got.key, got.source) == (9, 5, b"k", source)


async def test_one_key_has_one_partition(engine: Engine, topic: str) -> None:
    sent = [Record(topic, b"k%d" % (n % 20), b"v", n) for n in range(100)]
    found = positions(await engine.append(7, sent))
    for key in range(20):
        places = [found[n] for n in range(key, 100, 20)]
        assert len({partition for partition, _ in places}) == 1
        assert places == sorted(places)
    assert len({partition for partition, _ in found}) == 4


async def test_overlapping_calls_keep_the_order_of_calls(engine: Engine, topic: str, join: Join) -> None:
    calls = [asyncio.ensure_future(engine.append(7, records(topic, b"%d" % n))) for n in range(200)]
    found = [positions(await call)[0] for call in calls]
    assert found == [(0, n) for n in range(200)]
    reading = await join()
    await reading.until(lambda: len(reading.payloads) == 200)
    assert reading.payloads == [b"%d" % n for n in range(200)]


async def test_a_refused_record_does_not_touch_its_neighbours(engine: Engine, topic: str, join: Join) -> None:
    sent = [
        Record(topic, None, b"a", 1, 0),
        Record("plugin_topic_none", None, b"b", 2, 0),
        Record(topic, None, b"c", 3, 4),
        Record(topics.SUBSCRIPTIONS, None, b"d", 4),
        Record(topic, None, None, 5, 0),
        Record(topic, None, b"f", 6, 0),
    ]
    found = await engine.append(7, sent)
    assert [f.code if isinstance(f, Failure) else f for f in found] == [
        (0, 0), Code.NO_TOPIC, Code.BAD, Code.BAD, Code.BAD, (0, 1),
    ]  # fmt: skip
    reading = await (await join()).has(b"a", b"f")
    assert [r.seq for r in reading.records[0]] == [1, 6]


async def test_describe_tells_the_ends(engine: Engine, topic: str) -> None:
    await publish(engine, topic, b"a", b"b", partition=1)
    assert (await engine.describe(topic))[1] == [(0, 0), (0, 2), (0, 0), (0, 0)]


# -- where a broadcast reader begins


async def test_latest_gets_what_comes_after(engine: Engine, topic: str, join: Join) -> None:
    await publish(engine, topic, b"before")
    reading = await join(start=Start("latest"))
    await publish(engine, topic, b"after")
    await reading.has(b"after")
    assert (reading.assigned(0).offset, reading.assigned(0).end) == (1, 1)


async def test_assigned_comes_first_and_tells_the_end(engine: Engine, topic: str, join: Join) -> None:
    await publish(engine, topic, b"a", b"b", b"c")
    reading = await (await join()).has(b"a", b"b", b"c")
    assert (reading.assigned(0).offset, reading.assigned(0).end, reading.assigned(0).state) == (0, 3, b"")
    assert reading.assigned(0).incarnation == (await engine.describe(topic))[0]
    assert reading.held == {0, 1, 2, 3}


async def test_offsets(engine: Engine, topic: str, join: Join) -> None:
    await publish(engine, topic, b"a", b"b", b"c")
    await publish(engine, topic, b"d", partition=1)
    reading = await join(start=Start("offsets", {0: 1, 1: 1}))
    await reading.has(b"b", b"c")


async def test_time(engine: Engine, topic: str, join: Join) -> None:
    await publish(engine, topic, *(b"old %d" % n for n in range(10)))
    await asyncio.sleep(0.005)  # the clock's next millisecond is what this is about
    await publish(engine, topic, b"new")
    probe = await join()
    await probe.until(lambda: len(probe.payloads) == 11)
    reading = await join(start=Start("time", time=probe.records[0][-1].time))
    await reading.has(b"new")
    later = await join(start=Start("time", time=now() + HOUR))
    await later.holds(0, 1, 2, 3)
    assert later.assigned(0).offset == 11


async def test_every_broadcast_reader_gets_all(engine: Engine, topic: str, join: Join) -> None:
    readings = [await join(start=Start("latest")) for _ in range(3)]
    for partition in range(4):
        await publish(engine, topic, b"%d" % partition, partition=partition)
    for reading in readings:
        await reading.has(b"0", b"1", b"2", b"3")


# -- reading


async def test_a_reader_far_behind_catches_up_while_others_write(engine: Engine, topic: str, join: Join) -> None:
    total = 3_000
    live = await (await join()).holds(0, 1, 2, 3)
    behind = await join()
    for start in range(0, total, 500):
        await publish(engine, topic, *(b"%d" % n for n in range(start, start + 500)))
        await live.until(lambda start=start: len(live.payloads) >= start + 500)
    await behind.until(lambda: len(behind.payloads) == total)
    assert behind.payloads == live.payloads == [b"%d" % n for n in range(total)]


async def test_size_bounds_what_is_read_at_once(engine: Engine, topic: str, join: Join) -> None:
    await publish(engine, topic, *(b"x" * 100_000 for _ in range(20)))
    reading = await (await join()).holds(0, 1, 2, 3)
    sizes = []
    async with asyncio.timeout(10):
        while sum(sizes) < 20:
            for event in await reading.reader.read(1_000, 250_000):
                sizes.append(len(event.records))  # type: ignore[union-attr]
    assert max(sizes) <= 4


async def test_cancelling_a_read_loses_nothing(engine: Engine, topic: str, join: Join) -> None:
    reading = await (await join()).holds(0, 1, 2, 3)

    async def write() -> None:
        for n in range(100):
            await publish(engine, topic, b"%d" % n)

    writing = asyncio.create_task(write())
    while len(reading.payloads) < 100:
        task = asyncio.create_task(reading.reader.read(5, 1000))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        done = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(done, list):
            reading._take(done)
        else:
            await asyncio.wait([writing], timeout=0.001)
            reading._take(await reading.reader.read(5, 1000) if len(reading.payloads) < 100 else [])
    await writing
    assert reading.payloads == [b"%d" % n for n in range(100)]


# -- groups


async def test_a_group_begins_where_its_start_says_and_goes_on_where_it_committed(
    engine: Engine, topic: str, join: Join
) -> None:
    await publish(engine, topic, b"a", b"b", b"c")
    first = await (await join("a")).has(b"a", b"b", b"c")
    first.reader.commit(0, 2, b"\x00state")
    await first.reader.close(leave=True)
    second = await (await join("b", Start("latest"))).has(b"c")
    assert (second.assigned(0).offset, second.assigned(0).end, second.assigned(0).state) == (2, 3, b"\x00state")
    assert second.assigned(1).state == b""


async def test_two_members_share_and_a_leaver_gives_all_back(engine: Engine, topic: str, join: Join) -> None:
    first = await (await join("a")).holds(0, 1, 2, 3)
    second = await join("b")
    await asyncio.gather(first.holds_count(2), second.holds_count(2))
    assert first.held | second.held == {0, 1, 2, 3}
    for partition in range(4):
        await publish(engine, topic, b"%d" % partition, partition=partition)
    mine = [b"%d" % p for p in sorted(first.held)]
    await first.has(*mine)
    await second.reader.close(leave=True)
    await first.holds(0, 1, 2, 3)
    await first.has(b"0", b"1", b"2", b"3")


async def test_a_member_that_dies_loses_its_partitions_after_the_timeout(join: Join) -> None:
    first, second = await join("a"), await join("b")
    await asyncio.gather(first.holds_count(2), second.holds_count(2))
    began = time.monotonic()
    await second.reader.close(leave=False)
    await first.holds(0, 1, 2, 3)
    assert time.monotonic() - began >= 0.4


async def test_a_member_that_comes_back_has_its_partitions_and_nobody_else_noticed(
    engine: Engine, topic: str, join: Join
) -> None:
    first, second = await join("a"), await join("b")
    await asyncio.gather(first.holds_count(2), second.holds_count(2))
    held = second.held
    await second.reader.close(leave=False)
    again = await (await join("b")).holds(*held)
    for partition in range(4):
        await publish(engine, topic, b"%d" % partition, partition=partition)
    await again.has(*(b"%d" % p for p in sorted(held)))
    await first.has(*(b"%d" % p for p in sorted({0, 1, 2, 3} - held)))
    assert len(first.held) == 2


async def test_a_draining_member_keeps_what_it_has_read_until_it_is_committed(
    engine: Engine, topic: str, join: Join
) -> None:
    for partition in range(4):
        await publish(engine, topic, *(b"%d" % n for n in range(5)), partition=partition)
    first = await (await join("a", drain=True)).until_count(20)
    second = await join("b", drain=True)
    await publish(engine, topic, *(b"later" for _ in range(5)), partition=0)
    for partition in range(4):
        first.reader.commit(partition, 4, b"")
    # Nothing is told to either for as long as a rebalance takes; what stays goes on.
    with pytest.raises(TimeoutError):
        await second.holds_count(1, timeout=1.5)
    with pytest.raises(TimeoutError):
        await first.holds_count(3, timeout=0.5)
    for partition in range(4):
        first.reader.commit(partition, first.records[partition][-1].offset + 1, b"mark")
    await asyncio.gather(first.holds_count(2), second.holds_count(2))
    assert first.held | second.held == {0, 1, 2, 3}
    for partition in second.held:
        assert second.assigned(partition).offset == first.records[partition][-1].offset + 1
        assert second.assigned(partition).state == b"mark"
    mine = min(second.held)
    await publish(engine, topic, b"for the second", partition=mine)
    await second.until(lambda: bool(second.records[mine]) and second.records[mine][-1].payload == b"for the second")


async def test_a_draining_member_that_leaves_owes_nothing(engine: Engine, topic: str, join: Join) -> None:
    await publish(engine, topic, b"1", b"2", partition=0)
    first = await (await join("a", drain=True)).has(b"1", b"2")
    first.reader.commit(0, 1, b"")
    second = await join("b", drain=True)
    await first.reader.close(leave=True)
    await second.holds(0, 1, 2, 3)
    await second.has(b"2")


async def test_what_a_draining_member_was_given_before_it_came_back_counts(
    engine: Engine, topic: str, join: Join
) -> None:
    await publish(engine, topic, b"1", b"2", b"3", partition=3)
    former = await (await join("a", drain=True)).has(b"1", b"2", b"3")
    former.reader.commit(3, 1, b"")
    await former.reader.close(leave=False)
    first = await (await join("a", Start("offsets", {3: 3}), drain=True)).holds(0, 1, 2, 3)
    second = await join("b", drain=True)
    with pytest.raises(TimeoutError):
        await second.holds_count(2, timeout=1.5)
    first.reader.commit(3, 3, b"")
    await first.reader.settled()
    assert (await engine.positions(topic))["readers"][3] == 3
    await asyncio.gather(second.holds(2, 3), first.holds(0, 1))


async def test_the_same_name_twice_fences_the_older(engine: Engine, topic: str, join: Join) -> None:
    older = await (await join("a")).holds(0, 1, 2, 3)
    newer = await (await join("a")).holds(0, 1, 2, 3)
    with pytest.raises(Fenced):
        await older.until(lambda: False)
    await older.reader.close(leave=False)
    await publish(engine, topic, b"x")
    await newer.has(b"x")


async def test_commits_of_partitions_that_are_not_ours_are_void(engine: Engine, topic: str, join: Join) -> None:
    await publish(engine, topic, b"a", b"b")
    older = await (await join("a")).has(b"a", b"b")
    newer = await (await join("a")).has(b"a", b"b")
    with pytest.raises(Fenced):
        await older.until(lambda: False)
    older.reader.commit(0, 2, b"older")
    newer.reader.commit(0, 1, b"newer")
    await older.reader.close(leave=False)
    await newer.reader.close(leave=True)
    last = await (await join("b")).has(b"b")
    assert (last.assigned(0).offset, last.assigned(0).state) == (1, b"newer")


async def test_groups_and_broadcast_do_not_disturb_each_other(engine: Engine, topic: str, join: Join) -> None:
    member, broadcast = await join("a"), await join()
    other = Reading(await engine.reader(topic, "others", "a", Start("earliest")))
    await publish(engine, topic, b"x")
    for reading in (member, broadcast, other):
        await reading.has(b"x")
        assert isinstance(reading.events[0], Assigned)
    await other.reader.close(leave=True)


async def test_lag_counts_what_is_not_acknowledged(engine: Engine, topic: str, join: Join) -> None:
    reading = await join("a")
    await publish(engine, topic, b"a", b"b", b"c")
    await reading.has(b"a", b"b", b"c")
    reading.reader.commit(0, 1, b"")
    async with asyncio.timeout(15):
        while engine.lag().get(f"readers/{topic}") != 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_positions_of_groups_are_told_and_stay_without_members(engine: Engine, topic: str, join: Join) -> None:
    await publish(engine, topic, b"1", b"2", b"3", partition=2)
    reading = await (await join("a")).has(b"1", b"2", b"3")
    await join()  # a broadcast reader is no group
    reading.reader.commit(2, 2, b"")
    await reading.reader.close(leave=True)
    async with asyncio.timeout(10):
        while (found := await engine.positions(topic)) != {"readers": {0: 0, 1: 0, 2: 2, 3: 0}}:
            assert found.keys() <= {"readers"}
            await asyncio.sleep(0.02)
    other = f"{topic}.2"
    await engine.create(other, 1, HOUR)
    assert await engine.positions(other) == {}
    with pytest.raises(KeyError):
        await engine.positions(f"{topic}.3")


async def test_healthy(engine: Engine) -> None:
    assert await engine.healthy()


# -- compacted


async def test_tombstones_and_keys_of_a_compacted_topic(engine: Engine, join: Join) -> None:
    key = uuid.uuid4().bytes
    end = (await engine.describe(topics.SUBSCRIPTIONS))[1][0][1]
    await engine.append(7, [Record(topics.SUBSCRIPTIONS, key, b"v", 1), Record(topics.SUBSCRIPTIONS, key, None, 2)])
    reading = await join(start=Start("offsets", {0: end}), of=topics.SUBSCRIPTIONS)
    await reading.until(lambda: len(reading.records[0]) == 2)
    assert [(r.key, r.payload) for r in reading.records[0]] == [(key, b"v"), (key, None)]
