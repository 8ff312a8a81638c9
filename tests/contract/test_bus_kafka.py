"""What only the Kafka engine does: static membership across proxies, incremental rebalances, broker faults."""

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiokafka.protocol.admin import DeleteRecordsRequest, DescribeConfigsRequest

from deploy import kafka as kafka_engine
from deploy import ports, process
from skep.wire.proxy import Assigned, Failure, Gap, Record, Revoked, Start
from tests.contract.bus_support import Reading, publish
from ws_kafka_proxy.adapters.kafka import KafkaEngine
from ws_kafka_proxy.adapters.kafka.client import Client, started
from ws_kafka_proxy.core.engine import Chunk, EngineLost, Fenced, TopicDeleted

pytestmark = pytest.mark.engines("kafka")
HOUR = 3_600_000
Make = Callable[[], Awaitable[KafkaEngine]]


@pytest.fixture
async def make(kafka: str) -> AsyncIterator[Make]:
    """Engines on one cluster: each is what one proxy has."""
    engines: list[KafkaEngine] = []

    async def make() -> KafkaEngine:
        engine = KafkaEngine(kafka, partitions=4)
        engines.append(engine)
        await engine.start()
        return engine

    yield make
    for engine in engines:
        await engine.stop()


@pytest.fixture
async def engine(make: Make) -> KafkaEngine:
    return await make()


@pytest.fixture
async def topic(engine: KafkaEngine) -> AsyncIterator[str]:
    name = f"plugin_topic_{uuid.uuid4()}"
    await engine.create(name, 4, HOUR)
    yield name
    await engine.delete(name)


async def member(engine: KafkaEngine, topic: str, name: str) -> Reading:
    return Reading(await engine.reader(topic, "readers", name, Start("earliest")))


async def committed(reading: Reading, partition: int, offset: int, state: bytes) -> None:
    reading.reader.commit(partition, offset, state)
    await reading.reader.close(leave=False)


# -- topics that another proxy made


async def test_a_client_that_is_closed_leaves_no_connection(kafka: str) -> None:
    client = await started(lambda: Client(kafka, {}))
    [broker] = client.cluster.brokers()
    before = asyncio.create_task(client._get_conn(broker.nodeId, group="before"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(client.close())
    await asyncio.wait([before, closing])
    after = await client._get_conn(broker.nodeId, group="after")
    assert [conn for conn in (before.result(), after) if conn is not None and conn.connected()] == []


async def test_nothing_overtakes_what_waits_for_an_unknown_topic(make: Make, engine: KafkaEngine) -> None:
    other = await make()
    name = f"plugin_topic_{uuid.uuid4()}"
    await engine.create(name, 1, HOUR)
    calls = []
    while len(calls) < 3000 and not (calls and calls[0].done()):
        calls.append(other.append(7, [Record(name, b"k", b"", len(calls))]))
        await asyncio.sleep(0)  # a loop turn: the topic becomes known between two of them
    offsets = [position[1] for [position] in await asyncio.gather(*calls)]
    await engine.delete(name)
    assert offsets == sorted(offsets)


# -- static membership


async def test_the_same_name_at_another_proxy_takes_over_at_once(make: Make, engine: KafkaEngine, topic: str) -> None:
    first = await (await member(engine, topic, "backend-1")).holds(0, 1, 2, 3)
    await publish(engine, topic, b"a", b"b")
    await first.until(lambda: first.payloads == [b"a", b"b"])
    await committed(first, 0, 1, b"\x00state")
    other = await make()
    began = time.monotonic()
    second = await (await member(other, topic, "backend-1")).holds(0, 1, 2, 3)
    await second.until(lambda: second.payloads == [b"b"])
    assert time.monotonic() - began < 1
    assert (second.assigned(0).offset, second.assigned(0).end, second.assigned(0).state) == (1, 2, b"\x00state")
    await second.reader.close(leave=True)


async def test_who_was_replaced_is_fenced_and_commits_nothing(make: Make, engine: KafkaEngine, topic: str) -> None:
    first = await (await member(engine, topic, "backend-1")).holds(0, 1, 2, 3)
    await publish(engine, topic, b"a", b"b")
    second = await (await member(await make(), topic, "backend-1")).holds(0, 1, 2, 3)
    first.reader.commit(0, 2, b"")
    with pytest.raises(Fenced):
        await first.until(lambda: False, 5)
    await first.reader.close(leave=True)
    await second.reader.close(leave=False)
    third = await (await member(engine, topic, "backend-1")).holds(0, 1, 2, 3)
    assert third.assigned(0).offset == 0
    await third.reader.close(leave=True)


async def test_a_member_that_does_not_return_is_out_after_its_session(
    make: Make, engine: KafkaEngine, topic: str
) -> None:
    first = await (await member(engine, topic, "backend-1")).holds_count(4)
    second = await member(await make(), topic, "backend-2")
    await first.holds_count(2)
    await second.holds_count(2)
    await first.reader.close(leave=False)
    began = time.monotonic()
    await second.holds(0, 1, 2, 3)
    assert 1 < time.monotonic() - began < 4
    await second.reader.close(leave=True)


async def test_a_rebalance_takes_away_only_what_moves(make: Make, engine: KafkaEngine, topic: str) -> None:
    first = await (await member(engine, topic, "backend-1")).holds_count(4)
    kept = set(first.held)
    second = await member(engine, topic, "backend-2")
    await first.holds_count(2)
    await second.holds_count(2)
    assert not first.held & second.held
    assert first.held | second.held == kept
    revoked = [e for e in first.events if isinstance(e, Revoked)]
    assert sum(len(e.partitions) for e in revoked) == 2
    await second.reader.close(leave=True)
    await first.holds(0, 1, 2, 3)
    assert len([e for e in first.events if isinstance(e, Assigned)]) == 6
    await first.reader.close(leave=True)


async def test_a_group_that_began_at_latest_does_not_skip_what_came_meanwhile(engine: KafkaEngine, topic: str) -> None:
    first = Reading(await engine.reader(topic, "readers", "backend-1", Start("latest")))
    await first.holds_count(4)
    await first.reader.close(leave=True)
    await publish(engine, topic, b"meanwhile")
    second = Reading(await engine.reader(topic, "readers", "backend-1", Start("latest")))
    await second.until(lambda: second.payloads == [b"meanwhile"])
    await second.reader.close(leave=True)


# -- the log


async def test_what_retention_removed_is_told_as_a_gap(engine: KafkaEngine, topic: str) -> None:
    await publish(engine, topic, b"1", b"2", b"3")
    cluster = engine._cluster
    request = DeleteRecordsRequest([(topic, [(0, 2)])], 5_000)
    response = await cluster.client.send(cluster.leader(topic, 0), request, group="test")
    assert response.topics[0][1][0][2] == 0
    reading = Reading(await engine.reader(topic, None, "x", Start("offsets", dict.fromkeys(range(4), 0))))
    await reading.until(lambda: reading.payloads == [b"3"])
    gaps = [e for e in reading.events if isinstance(e, Gap)]
    assert [(g.partition, g.start, g.end) for g in gaps] == [(0, 0, 2)]
    assert reading.assigned(0).offset == 2
    await reading.reader.close(leave=True)


async def test_a_topics_retention_can_be_changed(make: Make, engine: KafkaEngine, topic: str) -> None:
    await publish(engine, topic, b"1")
    await engine.create(topic, 8, 2 * HOUR)
    request = DescribeConfigsRequest([(2, topic, ["retention.ms", "segment.ms", "message.timestamp.type"])])
    response = await engine._cluster.ask(request)
    found = {name: value for name, value, *_ in response.resources[0][4]}
    quarter = str(HOUR // 2)
    assert found == {"retention.ms": str(2 * HOUR), "segment.ms": quarter, "message.timestamp.type": "LogAppendTime"}
    assert engine.partitions(topic) == 4
    reading = await Reading(await engine.reader(topic, None, "x", Start("earliest"))).has(b"1")
    await reading.reader.close(leave=True)


async def test_a_reader_of_a_topic_made_anew_must_begin_again(engine: KafkaEngine) -> None:
    name = f"plugin_topic_{uuid.uuid4()}"
    await engine.create(name, 1, HOUR)
    incarnation, _ = await engine.describe(name)
    reading = await Reading(await engine.reader(name, None, "x", Start())).holds(0)
    await engine.delete(name)
    await engine.create(name, 1, HOUR)
    assert (await engine.describe(name))[0] != incarnation
    with pytest.raises((EngineLost, TopicDeleted)):
        await reading.until(lambda: False, 5)
    await reading.reader.close(leave=True)
    await engine.delete(name)


async def test_a_record_of_a_foreign_program_is_delivered(engine: KafkaEngine, topic: str, kafka: str) -> None:
    from aiokafka import AIOKafkaProducer

    reading = await Reading(await engine.reader(topic, None, "x", Start())).holds_count(4)
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        await producer.send_and_wait(topic, b"foreign", partition=2)
    await reading.until(lambda: bool(reading.records))
    (record,) = reading.records[2]
    assert (record.payload, record.publisher, record.seq) == (b"foreign", 0, 1)
    await reading.reader.close(leave=True)


async def test_where_the_outcome_is_unknown_nobody_is_answered_and_later_calls_work(
    engine: KafkaEngine, topic: str
) -> None:
    await publish(engine, topic, b"1")
    engine._writer._lanes[topic, 0].seq += 5  # as after a broker that lost its memory of us
    overtaking: list[asyncio.Future[object]] = []
    first = engine.append(7, [Record(topic, None, b"2", 2, 0)])
    first.add_done_callback(
        lambda _: overtaking.append(engine.append(8, [Record(topic, None, b"before it could hear", 1, 1)]))
    )
    with pytest.raises(EngineLost):
        await first
    with pytest.raises(EngineLost):
        await overtaking[0]
    await asyncio.sleep(0)
    await publish(engine, topic, b"again")
    reading = Reading(await engine.reader(topic, None, "x", Start("earliest")))
    await reading.until(lambda: b"again" in reading.payloads)
    assert reading.payloads == [b"1", b"again"]
    await reading.reader.close(leave=True)


async def test_without_credit_only_the_membership_is_told(engine: KafkaEngine, topic: str) -> None:
    await publish(engine, topic, b"1", b"2")
    reader = await engine.reader(topic, "readers", "backend-1", Start("earliest"))
    assert {type(e) for e in await reader.read(0, 0)} == {Assigned}
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(0, 0), 0.5)
    (chunk,) = await reader.read(1, 100)
    assert isinstance(chunk, Chunk)
    assert [r.payload for r in chunk.records] == [b"1"]
    await reader.close(leave=True)


async def test_lag_counts_what_groups_have_not_acknowledged(engine: KafkaEngine, topic: str) -> None:
    reading = await (await member(engine, topic, "backend-1")).holds_count(4)
    await publish(engine, topic, b"1", b"2", b"3")
    await reading.until(lambda: len(reading.payloads) == 3)
    await committed(reading, 0, 1, b"")
    assert (await engine._measure())[f"readers/{topic}"] == 2


# -- the broker dies


@pytest.fixture
def broker(engine_data: Path, java_engines: None) -> kafka_engine.Broker:
    return kafka_engine.Broker(engine_data / "kafka-killed", *ports.free(2))


@pytest.fixture
def killed(broker: kafka_engine.Broker) -> Iterator[Callable[[], None]]:
    """Kills the broker and starts it again on what it has on disk."""
    spec = broker.spec()
    child = process.spawn(spec)
    process.wait(spec, child)

    def again() -> None:
        nonlocal child
        child.kill()
        child.wait(10)
        child = process.spawn(spec)
        process.wait(spec, child)

    yield again
    child.kill()
    child.wait(10)


async def test_a_killed_broker_loses_and_repeats_nothing(
    broker: kafka_engine.Broker, killed: Callable[[], None]
) -> None:
    engine = KafkaEngine(broker.bootstrap, partitions=4)
    await engine.start()
    topic = f"plugin_topic_{uuid.uuid4()}"
    await engine.create(topic, 4, HOUR)
    group = await (await member(engine, topic, "backend-1")).holds_count(4)
    stop = asyncio.Event()
    confirmed: dict[int, list[int]] = defaultdict(list)

    async def write(partition: int) -> None:
        seq = 0
        while not stop.is_set():
            records = [Record(topic, None, b"%d" % (seq + i), seq + i, partition) for i in range(1, 11)]
            seq += 10
            for result in await engine.append(partition, records):
                assert not isinstance(result, Failure)
                confirmed[partition].append(result[1])

    writers = [asyncio.create_task(write(p)) for p in range(4)]
    await group.until(lambda: len(group.records) == 4)
    await asyncio.to_thread(killed)
    goal = {p: len(confirmed[p]) + 100 for p in range(4)}
    async with asyncio.timeout(30):
        await group.until(lambda: all(len(confirmed[p]) > goal[p] for p in range(4)), 30)
    stop.set()
    await asyncio.gather(*writers)
    reading = Reading(await engine.reader(topic, None, "x", Start("earliest")))
    await reading.until(lambda: all(len(reading.records[p]) >= len(confirmed[p]) for p in range(4)))
    for partition in range(4):
        log = reading.records[partition]
        assert [r.seq for r in log] == list(range(1, len(log) + 1))
        assert [r.offset for r in log] == confirmed[partition]
        assert [r.time for r in log] == sorted(r.time for r in log)
    # The member has read on; whether its session outlived the outage or not.
    await group.until(
        lambda: all({r.seq for r in group.records[p]} == {r.seq for r in reading.records[p]} for p in range(4)), 20
    )
    await group.reader.close(leave=True)
    await reading.reader.close(leave=True)
    await engine.stop()


async def test_an_engine_that_stops_waits_for_readers_that_are_given_up(
    make: Make, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that ends does not wait for what it had begun; its connections would be left open."""
    engine = await make()
    begun, release = asyncio.Event(), asyncio.Event()

    async def slowly_closed(connect: Callable[[], Client]) -> Client:
        try:
            begun.set()
            return await asyncio.get_running_loop().create_future()
        finally:
            await release.wait()

    monkeypatch.setattr("ws_kafka_proxy.adapters.kafka.engine.started", slowly_closed)
    opening = asyncio.create_task(engine.reader(topic, None, "m", Start("latest")))
    await begun.wait()
    opening.cancel()
    stopping = asyncio.create_task(engine.stop())
    await asyncio.sleep(0.1)
    assert not stopping.done()
    release.set()
    await stopping
    assert opening.cancelled()
