from skep.bus.events import Gap, Records
from skep.bus.stream import Stream
from skep.bus.subscription import Leg
from skep.wire import proxy
from tests.unit.skep.bus.fakes import FakeHost, FakePipe, record, turn


def attach(host: FakeHost, stream: Stream, pipe: FakePipe, gap: bool = False) -> Leg:
    stream.attach(pipe)
    leg = host.legs[-1]
    stream.subscribed(leg, proxy.Subscribed(leg.sid, leg.sid, None, gap))
    return leg


def lose(host: FakeHost, stream: Stream, pipe: FakePipe, ago: float = 0) -> None:
    stream.link_down(pipe)
    pipe.down_since = host.loop.time() - ago


def deliver(stream: Stream, leg: Leg, *records: proxy.Delivered) -> None:
    stream.deliver(leg, proxy.Deliver(leg.sid, 0, list(records)))


def make(host: FakeHost, topic: str = "events.a", records: int = 100) -> Stream:
    stream = Stream(host, topic, records, 1 << 20)
    stream._since = host.loop.time() - 1_000
    return stream


async def test_records_are_acknowledged_before_they_are_taken() -> None:
    host, pipe = FakeHost(), FakePipe()
    stream = make(host)
    leg = attach(host, stream, pipe)
    deliver(stream, leg, record(0, 1), record(1, 2))
    deliver(stream, leg, record(2, 3))
    await turn()
    assert pipe.take(proxy.Ack) == [proxy.Ack(leg.sid, 0, 3)]
    assert pipe.take(proxy.Credit) == []
    assert [r.seq for e in await stream.next() if isinstance(e, Records) for r in e.records] == [1, 2, 3]


async def test_what_a_publisher_sends_again_through_another_proxy_is_dropped() -> None:
    host, one, two = FakeHost(), FakePipe(), FakePipe()
    stream = make(host)
    first, second = attach(host, stream, one), attach(host, stream, two)
    deliver(stream, first, record(0, 1), record(1, 2))
    deliver(stream, second, record(0, 1), record(1, 2), record(2, 3))
    await turn()
    assert two.take(proxy.Ack) == [proxy.Ack(second.sid, 0, 3)]
    assert [r.seq for e in await stream.next() if isinstance(e, Records) for r in e.records] == [1, 2, 3]


async def test_on_spread_topics_a_record_may_come_late() -> None:
    """Its first taker vanished; the highest seq says nothing there."""
    host, pipe = FakeHost(), FakePipe()
    stream = make(host, "queries")
    leg = attach(host, stream, pipe)
    deliver(stream, leg, record(0, 5), record(1, 3), record(2, 5), record(3, 3))
    assert [r.seq for e in await stream.next() if isinstance(e, Records) for r in e.records] == [5, 3]


async def test_in_effect_once_every_proxy_that_is_up_has_said_so() -> None:
    host, one, two = FakeHost(), FakePipe(), FakePipe()
    stream = make(host)
    stream.attach(one)
    stream.attach(two)
    first, second = host.legs
    stream.subscribed(first, proxy.Subscribed(first.sid, first.sid))
    assert not stream.ready.done()
    assert stream.waits_for(two)
    stream.subscribed(second, proxy.Subscribed(second.sid, second.sid))
    assert stream.ready.done()


async def test_a_gap_the_proxy_knows_of_is_told() -> None:
    host, pipe = FakeHost(), FakePipe()
    stream = make(host)
    lose(host, stream, pipe)
    attach(host, stream, pipe, gap=True)
    assert [type(e) for e in await stream.next()] == [Gap]
    assert host.gaps == ["events.a"]
    stream.gap(host.legs[-1], proxy.Gap(1, 0, reason="full"))
    assert [type(e) for e in await stream.next()] == [Gap]


async def test_away_from_a_proxy_that_was_up_is_a_gap_and_its_restart_is_none() -> None:
    host = FakeHost()
    for away, uptime, gap in ((10, 60_000, True), (1, 60_000, False), (10, 500, False)):
        stream, pipe = make(host), FakePipe(uptime=uptime)
        lose(host, stream, pipe, ago=away)
        attach(host, stream, pipe)
        assert bool(stream._queue) == gap, (away, uptime)


async def test_a_new_subscription_missed_nothing() -> None:
    host, pipe = FakeHost(), FakePipe()
    stream = Stream(host, "events.a", 10, 100)
    lose(host, stream, pipe, ago=100)
    attach(host, stream, pipe)
    assert not stream._queue


async def test_credit_belongs_to_the_proxy_the_records_came_from() -> None:
    host, one, two = FakeHost(), FakePipe(), FakePipe()
    stream = make(host, records=4)
    first = attach(host, stream, one)
    attach(host, stream, two)
    deliver(stream, first, record(0, 1), record(1, 2))
    await stream.next()
    await turn()
    assert one.take(proxy.Credit) == [proxy.Credit(first.sid, 2, 2)]
    assert two.take(proxy.Credit) == []


async def test_a_sink_takes_at_once() -> None:
    host, pipe = FakeHost(), FakePipe()
    taken: list[proxy.Delivered] = []
    stream = Stream(host, "replies.a", 4, 100, taken.extend)
    leg = attach(host, stream, pipe)
    deliver(stream, leg, record(0, 1), record(1, 1), record(2, 2))
    await turn()
    assert [r.seq for r in taken] == [1, 2]
    assert pipe.take(proxy.Ack) == [proxy.Ack(leg.sid, 0, 3)]
    assert pipe.take(proxy.Credit) == [proxy.Credit(leg.sid, 3, 3)]
