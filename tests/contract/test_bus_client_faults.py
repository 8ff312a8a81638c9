"""Faults of the proxy under flows of numbered records: to the caller's eyes nothing is lost or repeated."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from skep import bus
from skep.wire import topics
from tests.contract.bus_client_support import (
    ENGINES,
    SECRET,
    Echo,
    Flow,
    Proxy,
    Questions,
    Seen,
    check_shared,
    engine_settings,
    fresh_topic,
    running,
    until,
)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> dict[str, str]:
    return engine_settings(request)


@pytest.fixture
def own(engine: dict[str, str], tmp_path: Path) -> Iterator[Proxy]:
    """A proxy to kill."""
    yield from Proxy.serving(engine, tmp_path)


async def test_the_proxy_is_killed_again_and_again(own: Proxy) -> None:
    topic = fresh_topic()
    async with running([own.url], "a-1") as a, running([own.url], "b-1") as b, running([own.url], "c-1") as c:
        await a.create_topic(topic, partitions=4)
        group = [Seen(await x.subscribe(topic, group="g", start=bus.Start("earliest"))).start() for x in (b, c)]
        alone = Seen(await b.subscribe(topic, group="alone", start=bus.Start("earliest"))).start()
        broadcast = Seen(await b.subscribe(topic, start=bus.Start("earliest"))).start()
        events = Seen(await b.subscribe(topics.events(b.run))).start()
        Echo(b, await b.subscribe(topics.QUERIES))
        durable, short = Flow(a, topic), Flow(a, topics.events(b.run))
        questions = Questions(a)
        for _ in range(5):
            sent = durable.sent
            await until(lambda sent=sent: durable.sent > sent + 500 and events.count > 0)  # type: ignore[misc]
            own.kill()
            await asyncio.sleep(0.1)
            connects = c.counters.connects
            own.start()
            await until(lambda n=connects: c.counters.connects > n)  # type: ignore[misc]
        count, short_count, asked = await durable.stop(), await short.stop(), await questions.stop()
        assert asked > 100
        await until(lambda: broadcast.count >= count and events.count >= short_count)
        await until(lambda: alone.count >= count and len({n for m in group for n in m.places}) >= count)
        for seen in (alone, broadcast):
            assert seen.all() == list(range(count))
            assert seen.in_order()
            assert [type(e) for e in seen.others] == [bus.Assigned] * 4
        check_shared(group, count)
        assert events.all() == list(range(short_count))
        assert events.in_order()
        assert events.others == []
        assert a.counters.resent > 0
        for seen in (*group, alone, broadcast, events):
            await seen.stop()


async def test_a_member_takes_over_in_mid_stream(own: Proxy) -> None:
    """One leaves, another joins, connections are cut, the proxy is killed."""
    topic = fresh_topic()
    async with running([own.url], "a-1") as a, running([own.url], "c-1") as c:
        await a.create_topic(topic, partitions=4)
        flow, members = Flow(a, topic), []
        staying = Seen(await c.subscribe(topic, group="g", start=bus.Start("earliest"))).start()
        for turn in range(3):
            async with running([own.url], f"b-{turn}") as b:
                joining = Seen(await b.subscribe(topic, group="g", start=bus.Start("earliest"))).start()
                members.append(joining)
                await until(lambda m=joining: m.count > 300, lambda m=joining: m.others)  # type: ignore[misc]
                cut(a)
                sent = flow.sent
                await until(lambda sent=sent: flow.sent > sent + 200)  # type: ignore[misc]
                if turn == 1:
                    own.kill()
                    own.start()
                count = joining.count
                await until(lambda m=joining, n=count: m.count > n + 300)  # type: ignore[misc]
                await joining.subscription.close()
        count = await flow.stop()
        await until(lambda: len({n for m in (staying, *members) for n in m.places}) >= count)
        check_shared((staying, *members), count)
        for seen in (staying, *members):
            await seen.stop()


async def test_a_member_that_vanishes_leaves_only_what_it_did_not_acknowledge(own: Proxy) -> None:
    topic = fresh_topic()
    async with running([own.url], "a-1") as a, running([own.url], "c-1") as c:
        await a.create_topic(topic, partitions=2)
        b = bus.Bus([own.url], "tool", "b-1", SECRET)
        await b.start()
        vanishing = Seen(await b.subscribe(topic, group="g", start=bus.Start("earliest"))).start()
        flow = Flow(a, topic)
        await until(lambda: vanishing.count > 500)
        await asyncio.gather(*(link.stop() for link in b._links))
        staying = Seen(await c.subscribe(topic, group="g")).start()
        count = await flow.stop()
        await until(lambda: len({*vanishing.places, *staying.places}) >= count)
        check_shared((vanishing, staying), count)
        await vanishing.stop()
        await staying.stop()
        await b.close()


async def test_connections_are_cut_while_the_proxy_lives(own: Proxy) -> None:
    """Of the publisher and of the consumer; a member keeps its partitions without its caller noticing."""
    topic = fresh_topic()
    async with running([own.url], "a-1") as a, running([own.url], "b-1") as b:
        await a.create_topic(topic, partitions=4)
        member = Seen(await b.subscribe(topic, group="g", start=bus.Start("earliest"))).start()
        broadcast = Seen(await b.subscribe(topic)).start()
        flow = Flow(a, topic)
        for _ in range(6):
            count = broadcast.count
            await until(lambda n=count: broadcast.count > n + 200)  # type: ignore[misc]
            cut(a)
            await until(lambda n=broadcast.count: broadcast.count > n + 200)  # type: ignore[misc]
            cut(b)
        count = await flow.stop()
        await until(
            lambda: broadcast.count >= count and member.count >= count,
            lambda: (set(range(count)) - set(broadcast.all()), set(range(count)) - set(member.all()), member.others),
        )
        for seen in (broadcast, member):
            assert seen.all() == list(range(count))
            assert seen.in_order()
            assert [type(e) for e in seen.others] == [bus.Assigned] * 4
            await seen.stop()
        assert await member.subscription.owned(range(4)) == {0, 1, 2, 3}


async def test_a_paused_proxy(own: Proxy) -> None:
    """All connections are new after it. What is published to a stream before its subscriber is back is refused, and
    the subscriber is told of a gap; nothing else is lost."""
    topic = fresh_topic()
    async with running([own.url], "a-1") as a, running([own.url], "b-1") as b:
        await a.create_topic(topic, partitions=4)
        member = Seen(await b.subscribe(topic, group="g", start=bus.Start("earliest"))).start()
        events = Seen(await b.subscribe(topics.events(b.run))).start()
        Echo(b, await b.subscribe(topics.QUERIES))
        flow, short, questions = Flow(a, topic), Flow(a, topics.events(b.run)), Questions(a)
        await until(lambda: member.count > 500 and events.count > 500)
        own.signal(signal.SIGSTOP)
        await asyncio.sleep(5)
        own.signal(signal.SIGCONT)
        held, shown = member.count, events.count
        await until(lambda: member.count > held + 500 and events.count > shown + 500)
        count, (confirmed, refused) = await flow.stop(), await short.outcome()
        assert await questions.stop(refusals=True) > 10
        await until(lambda: member.count >= count and confirmed <= set(events.all()))
        assert member.all() == list(range(count))
        assert len(events.all()) == len(set(events.all()))
        assert bool(events.others) >= bool(refused - set(events.all()))
        assert member.in_order()
        assert events.in_order()
        await member.stop()
        await events.stop()


async def test_owned_waits_for_a_proxy_that_comes_back(own: Proxy) -> None:
    topic = fresh_topic()
    async with running([own.url], "a-1") as a:
        await a.create_topic(topic, partitions=2)
        subscription = await a.subscribe(topic, group="g")
        assigned: list[bus.Event] = []
        while len(assigned) < 2:
            assigned += await subscription.next()
        own.kill()
        await until(lambda: not a.connected)
        asking = asyncio.ensure_future(subscription.owned([0, 1]))
        await asyncio.sleep(0)
        assert not asking.done()
        own.start()
        assert await asking == {0, 1}


async def test_without_a_proxy_deadlines_hold_and_what_expired_unsent_stays_away(own: Proxy) -> None:
    topic = fresh_topic()
    async with running([own.url], "a-1") as a:
        await a.create_topic(topic)
        subscription = await a.subscribe(topic)
        own.kill()
        await until(lambda: not a.connected)
        loop = asyncio.get_running_loop()
        start = loop.time()
        waiting = a.send(topic, b"patient", timeout=30)
        with pytest.raises(bus.TimedOut):
            await a.publish(topic, b"hasty", timeout=0.3)
        with pytest.raises(bus.TimedOut):
            await a.request(topics.QUERIES, None, timeout=0.3)
        assert loop.time() - start < 2
        own.start()
        await waiting
        await a.publish(topic, b"later", timeout=30)
        found: list[bytes | None] = []
        while len(found) < 2:
            events = await asyncio.wait_for(subscription.next(), 20)
            found += [r.payload for e in events if isinstance(e, bus.Records) for r in e.records]
        assert found == [b"patient", b"later"]


async def test_of_several_proxies_one_may_be_away(own: Proxy, tmp_path: Path) -> None:
    away = Proxy({}, tmp_path / "away.log")
    async with running([away.url, own.url], "a-1") as a:
        subscription = await a.subscribe(topics.events(a.run))
        await a.publish(topics.events(a.run), b"x")
        assert any(isinstance(e, bus.Records) for e in await subscription.next())


async def test_publishers_move_to_another_proxy(engine: dict[str, str], own: Proxy, tmp_path: Path) -> None:
    """Several proxies serve one Kafka; of those on a PostgreSQL log one serves and the others stand by."""
    if engine["BUS_ENGINE"] != "kafka":
        pytest.skip("one proxy at a time serves the PostgreSQL log")
    topic, serving = fresh_topic(), Proxy.serving(engine, tmp_path)
    other = next(serving)
    urls = [own.url, other.url]
    async with running(urls, "a-1") as a, running(urls, "b-1") as b:
        await a.create_topic(topic, partitions=4)
        member = Seen(await b.subscribe(topic, group="g", start=bus.Start("earliest"))).start()
        broadcast = Seen(await b.subscribe(topic, start=bus.Start("earliest"))).start()
        events = Seen(await b.subscribe(topics.events(b.run))).start()
        flow, short = Flow(a, topic), Flow(a, topics.events(b.run))
        for proxy in (own, other) * 2:
            counts = member.count, events.count
            await until(
                lambda n=counts: member.count > n[0] + 300 and events.count > n[1] + 300,  # type: ignore[misc]
                lambda: (member.count, events.count, member.others, a.gauges(), b.gauges()),
            )
            connects = a.counters.connects + b.counters.connects
            proxy.kill()
            proxy.start()
            await until(lambda n=connects: a.counters.connects + b.counters.connects >= n + 2)  # type: ignore[misc]
        count, short_count = await flow.stop(), await short.stop()
        await until(
            lambda: min(member.count, broadcast.count) >= count and events.count >= short_count,
            lambda: (member.count, broadcast.count, count, member.others, broadcast.others, events.count, short_count),
        )
        for seen, expected in ((member, count), (broadcast, count), (events, short_count)):
            assert seen.all() == list(range(expected))
            assert seen.in_order()
            await seen.stop()
    serving.close()


def cut(client: bus.Bus) -> None:
    """Its connections end as by a fault of the network."""
    for link in client._links:
        if link._socket is not None:
            link._socket.transport.abort()
