"""The bus client against the real proxy, on each bus engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.client import connect

from skep import bus, tokens
from skep.wire import messages, proxy, topics
from tests.contract.bus_client_support import ENGINES, SECRET, Echo, Proxy, engine_settings, fresh_topic, running, until


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> dict[str, str]:
    return engine_settings(request)


@pytest.fixture(scope="module")
def shared(engine: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    yield from Proxy.serving(engine, tmp_path_factory.mktemp("proxy"))


@pytest.fixture
async def a(shared: Proxy) -> AsyncIterator[bus.Bus]:
    async with running([shared.url], "a-1") as client:
        yield client


@pytest.fixture
async def b(shared: Proxy) -> AsyncIterator[bus.Bus]:
    async with running([shared.url], "b-1") as client:
        yield client


def bodies(events: list[bus.Event]) -> list[bytes | None]:
    return [r.payload for e in events if isinstance(e, bus.Records) for r in e.records]


async def take(subscription: bus.Subscription, count: int) -> list[bus.Event]:
    """Events until so many records have come."""
    events: list[bus.Event] = []
    async with asyncio.timeout(20):
        while len(bodies(events)) < count:
            events += await subscription.next()
    return events


# -- publishing and subscribing --------------------------------------------------------------------------------------


async def test_a_group_goes_on_where_it_acknowledged(a: bus.Bus, b: bus.Bus) -> None:
    topic = fresh_topic()
    await a.create_topic(topic)
    subscription = await b.subscribe(topic, group="g", start=bus.Start("earliest"))
    positions = [await a.publish(topic, b"%d" % i) for i in range(5)]
    assert positions == [(0, positions[0][1] + i) for i in range(5)]
    events = await take(subscription, 5)
    assert isinstance(events[0], bus.Assigned)
    assert bodies(events) == [b"0", b"1", b"2", b"3", b"4"]
    subscription.ack(0, positions[2][1] + 1, b"so far")
    await subscription.close()
    with pytest.raises(bus.Closed):
        await subscription.next()

    subscription = await b.subscribe(topic, group="g")
    events = await take(subscription, 2)
    assigned = events[0]
    assert isinstance(assigned, bus.Assigned)
    assert (assigned.offset, assigned.end, assigned.state) == (positions[3][1], positions[4][1] + 1, b"so far")
    assert bodies(events) == [b"3", b"4"]
    assert await subscription.owned([0, 7]) == {0}


async def test_broadcast_starts(a: bus.Bus, b: bus.Bus) -> None:
    topic = fresh_topic()
    await a.create_topic(topic, partitions=2)
    old = [await a.publish(topic, b"old-%d" % i, partition=i % 2) for i in range(4)]
    latest = await b.subscribe(topic)
    earliest = await b.subscribe(topic, start=bus.Start("earliest"))
    offsets = await a.subscribe(topic, start=bus.Start("offsets", {0: old[2][1], 1: old[3][1] + 1}))
    await a.publish(topic, b"new", partition=0)
    assert bodies(await take(latest, 1)) == [b"new"]
    assert sorted(map(str, bodies(await take(earliest, 5)))) == sorted(
        map(str, (b"old-0", b"old-1", b"old-2", b"old-3", b"new"))
    )
    assert bodies(await take(offsets, 2)) == [b"old-2", b"new"]
    described = await a.describe(topic)
    assert [last - first for first, last in described.partitions] == [3, 2]
    assert described.incarnation
    assert described.groups == {}
    await b.subscribe(topic, "g", bus.Start("earliest"))
    assert (await a.describe(topic, groups=True)).groups == {"g": {0: old[0][1], 1: old[1][1]}}


async def test_keys_sources_and_tombstones_arrive(a: bus.Bus, b: bus.Bus) -> None:
    subscription = await b.subscribe(topics.SUBSCRIPTIONS)
    source = bus.Source("log", 3, 4)
    await a.publish(topics.SUBSCRIPTIONS, b"x", key=b"k", source=source)
    await a.publish(topics.SUBSCRIPTIONS, None, key=b"k")
    events = await take(subscription, 2)
    records = [r for e in events if isinstance(e, bus.Records) for r in e.records]
    assert [(r.key, r.payload, r.source) for r in records] == [(b"k", b"x", source), (b"k", None, None)]
    with pytest.raises(bus.Refused) as refused:
        await a.publish(topics.SUBSCRIPTIONS, b"no key")
    assert refused.value.code == bus.Code.BAD


async def test_refusals(a: bus.Bus, shared: Proxy) -> None:
    with pytest.raises(bus.Refused) as refused:
        await a.publish("plugin_topic_missing", b"x")
    assert refused.value.code == bus.Code.NO_TOPIC
    with pytest.raises(bus.Refused) as refused:
        await a.subscribe("plugin_topic_missing")
    assert refused.value.code == bus.Code.NO_TOPIC
    async with running([shared.url], "frontend-1", service="frontend") as frontend:
        with pytest.raises(bus.Refused) as refused:
            await frontend.publish(topics.DEAD_LETTERS, b"x")
        assert refused.value.code == bus.Code.FORBIDDEN
        with pytest.raises(bus.Refused) as refused:
            await frontend.subscribe(topics.REQUESTS)
        assert refused.value.code == bus.Code.FORBIDDEN
        with pytest.raises(bus.Refused) as refused:
            await frontend.create_topic(fresh_topic())
        assert refused.value.code == bus.Code.FORBIDDEN


async def test_a_wrong_secret_is_told_at_the_start(shared: Proxy) -> None:
    client = bus.Bus([shared.url], "tool", "a-1", "another secret, also long enough for a test")
    with pytest.raises(bus.Refused, match="FORBIDDEN"):
        await client.start()


async def test_nobody_there_is_told_at_the_start(tmp_path: Path) -> None:
    nobody = Proxy({}, tmp_path / "log")
    client = bus.Bus([nobody.url], "tool", "a-1", SECRET, options=bus.Options(start_timeout=0.3))
    with pytest.raises(bus.TimedOut):
        await client.start()


async def test_a_deleted_topic_ends_its_subscriptions(a: bus.Bus, b: bus.Bus) -> None:
    topic = fresh_topic()
    await a.create_topic(topic)
    subscription = await b.subscribe(topic)
    await a.delete_topic(topic)
    await subscription.next()  # Assigned
    with pytest.raises(bus.Closed, match="NO_TOPIC"):
        await asyncio.wait_for(subscription.next(), 20)


async def test_health_tells_the_lag(a: bus.Bus, b: bus.Bus, engine: dict[str, str]) -> None:
    report = await a.health()
    assert (report.engine, report.available) == (engine["BUS_ENGINE"], True)


async def test_a_large_batch_is_split_and_stays_in_order(a: bus.Bus, b: bus.Bus) -> None:
    topic = fresh_topic()
    await a.create_topic(topic)
    subscription = await b.subscribe(topic)
    payload = b"x" * 600_000
    futures = [a.send(topic, payload, timeout=20) for _ in range(12)]
    futures += [a.send(topic, b"%d" % i, timeout=20) for i in range(12_000)]
    await asyncio.gather(*futures)
    found = bodies(await take(subscription, 12_012))
    assert found == [payload] * 12 + [b"%d" % i for i in range(12_000)]


async def test_a_slow_caller_bounds_what_waits_for_it(a: bus.Bus, b: bus.Bus) -> None:
    topic = fresh_topic()
    await a.create_topic(topic)
    subscription = await b.subscribe(topic, group="g", start=bus.Start("earliest"), records=10)
    await asyncio.gather(*[a.send(topic, b"%d" % i) for i in range(200)])
    await until(lambda: b.counters.received >= 10)
    await b.health()  # whatever else was on its way would be here now
    found = bodies(await subscription.next())
    assert len(found) <= 10
    found += bodies(await take(subscription, 200 - len(found)))
    assert found == [b"%d" % i for i in range(200)]


async def test_a_stream_nobody_takes_from_is_cut(a: bus.Bus, b: bus.Bus) -> None:
    topic, gaps = topics.events(b.run), []
    b.on_gap = gaps.append
    subscription = await b.subscribe(topic, records=10)
    results = await asyncio.gather(*[a.send(topic, b"%d" % i) for i in range(50)], return_exceptions=True)
    refused = [r for r in results if isinstance(r, bus.Refused)]
    assert 0 < len(refused) <= 40
    assert {r.code for r in refused} == {bus.Code.FULL}
    await until(lambda: gaps == [topic])
    events = await take(subscription, 10)
    assert bodies(events)[:10] == [b"%d" % i for i in range(10)]


# -- calls -------------------------------------------------------------------------------------------------------------


async def test_request_and_reply(a: bus.Bus, b: bus.Bus) -> None:
    Echo(b, await b.subscribe(topics.QUERIES))
    question = messages.Get(1, "device", 7)
    assert messages.decode_query(await a.request(topics.QUERIES, question)) == question
    raw = msgspec.Raw(messages.encode(question))
    assert messages.decode_query(await a.request(topics.QUERIES, raw)) == question
    answers = await asyncio.gather(*[a.call(topics.QUERIES, messages.Get(0, "d", i)) for i in range(500)])
    assert [messages.decode_query(x) for x in answers] == [messages.Get(0, "d", i) for i in range(500)]


async def test_failed_late_and_missing_answers(a: bus.Bus, b: bus.Bus) -> None:
    subscription = await b.subscribe(topics.QUERIES)
    asking = asyncio.ensure_future(a.request(topics.QUERIES, messages.Get(0, "d", 1)))
    (record,) = [r for e in await take(subscription, 1) if isinstance(e, bus.Records) for r in e.records]
    call = messages.decode_call(record.payload or b"")
    assert await b.reply(call, 404, "no such message")
    with pytest.raises(bus.Failed, match="no such message") as failed:
        await asking
    assert failed.value.status == 404
    assert await b.reply(call, 404, "again")
    await until(lambda: a.counters.unknown_replies == 1)
    with pytest.raises(bus.TimedOut):
        await a.request(topics.QUERIES, messages.Get(0, "d", 1), timeout=0.2)
    gone = messages.Call(b"?" * 16, topics.replies("nobody.1"), 0, msgspec.Raw(b"\xc0"))
    assert not await b.reply(gone)


async def test_a_read_is_asked_again(a: bus.Bus, b: bus.Bus) -> None:
    subscription = await b.subscribe(topics.QUERIES)
    asking = asyncio.ensure_future(a.request(topics.QUERIES, messages.Get(0, "d", 1), again=0.1))
    records = [r for e in await take(subscription, 2) if isinstance(e, bus.Records) for r in e.records]
    b.reply(messages.decode_call(records[1].payload or b""), body="second")
    assert msgspec.msgpack.decode(await asking) == "second"


async def test_a_question_nobody_hears_is_refused(a: bus.Bus) -> None:
    with pytest.raises(bus.Refused) as refused:
        await a.request(topics.PLUGIN_REQUESTS, None, timeout=10)
    assert refused.value.code == bus.Code.NO_SUBSCRIBER


# -- repetitions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("handled", "left"), [(8, [b"9", b"10", b"11", b"12"]), (10, [b"11", b"12"])])
async def test_a_member_that_takes_over_knows_what_was_handled(
    a: bus.Bus, b: bus.Bus, shared: Proxy, handled: int, left: list[bytes]
) -> None:
    """A publisher that repeats itself, by hand: the second half comes when another member has the partition."""
    topic, publisher = fresh_topic(), 4711
    await a.create_topic(topic)
    token = tokens.encode_service("tool", "by-hand", SECRET, 1 << 42)
    first = await a.subscribe(topic, group="g", start=bus.Start("earliest"))
    async with connect(
        shared.url,
        subprotocols=[proxy.SUBPROTOCOL],  # type: ignore[list-item]
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=None,
    ) as socket:

        async def publish(*seqs: int) -> None:
            records = [proxy.Record(topic, None, b"%d" % seq, seq) for seq in seqs]
            await socket.send(proxy.encode(proxy.Publish(1, records)))
            assert isinstance(proxy.decode_proxy(await socket.recv(decode=False)), proxy.Published)

        await socket.send(proxy.encode(proxy.Hello(1, publisher)))
        await socket.recv()
        await publish(*range(1, 11))
        events = await take(first, 10)
        assert bodies(events) == [b"%d" % i for i in range(1, 11)]
        last = events[-1]
        assert isinstance(last, bus.Records)
        first.ack(0, last.records[-1].offset - 9 + handled)
        second = await b.subscribe(topic, group="g")
        await first.close()
        await publish(6, 7, 8, 9, 10, 11)
        await publish(11, 12)
        assert bodies(await take(second, len(left))) == left
