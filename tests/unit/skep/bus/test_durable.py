import asyncio
from typing import Any

import pytest

from skep.bus import seen
from skep.bus.durable import Durable
from skep.bus.errors import Closed, Refused
from skep.bus.events import Assigned, Event, Gap, Records, Revoked
from skep.bus.subscription import Leg
from skep.wire import proxy
from skep.wire.proxy import Code, Start
from tests.unit.skep.bus.fakes import FakeHost, FakePipe, record, turn

US, THEM = 7, 8


def make(host: FakeHost, group: str | None = "backend", start: Start = Start(), records: int = 100) -> Durable:  # noqa: B008
    return Durable(host, "requests", group, start, records, 1 << 20)


def attach(host: FakeHost, subscription: Durable, pipe: FakePipe) -> Leg:
    subscription.attach(pipe)
    leg = host.legs[-1]
    subscription.subscribed(leg, proxy.Subscribed(leg.sid, leg.sid))
    return leg


def assign(subscription: Durable, leg: Leg, partition: int = 0, offset: int = 0, **more: Any) -> None:
    frame = proxy.Assigned(leg.sid, partition, offset, more.pop("end", offset), more.pop("incarnation", "log"), **more)
    subscription.assigned(leg, frame)


def deliver(subscription: Durable, leg: Leg, *records: proxy.Delivered, partition: int = 0) -> None:
    subscription.deliver(leg, proxy.Deliver(leg.sid, partition, list(records)))


def lose(subscription: Durable, pipe: FakePipe) -> None:
    pipe.up = False
    subscription.link_down(pipe)


async def soon(subscription: Durable) -> list[Event]:
    return await asyncio.wait_for(subscription.next(), 5)


def offsets(events: list[Event]) -> list[int]:
    return [r.offset for e in events if isinstance(e, Records) for r in e.records]


async def acks(pipe: FakePipe) -> list[tuple[int, int, bytes, dict[int, int]]]:
    """(partition, offset, caller's state, table) of every Ack since the last look, the owner checked."""
    await turn()
    found = []
    for frame in pipe.take(proxy.Ack):
        owner, caller, table = seen.unpack(frame.state)
        assert owner == US
        found.append((frame.partition, frame.offset, caller, table.seqs))
    return found


async def test_events_come_in_order() -> None:
    host = FakeHost()
    subscription = make(host)
    leg = attach(host, subscription, FakePipe())
    assert subscription.ready.done()
    assign(subscription, leg, offset=5, end=9, state=seen.pack(THEM, b"mine", seen.Seen()))
    deliver(subscription, leg, record(5, 1), record(6, 2))
    subscription.revoked(leg, proxy.Revoked(leg.sid, [1]))  # never ours: nothing to tell
    assert await subscription.next() == [
        Assigned(0, 5, 9, "log", b"mine"),
        Records(0, "log", [record(5, 1), record(6, 2)]),
    ]


async def test_next_waits_and_a_cancelled_wait_loses_nothing() -> None:
    host = FakeHost()
    subscription = make(host)
    leg = attach(host, subscription, FakePipe())
    waiting = asyncio.ensure_future(subscription.next())
    await turn()
    waiting.cancel()
    await turn()
    waiting = asyncio.ensure_future(subscription.next())
    await turn()
    assign(subscription, leg)
    assert len(await waiting) == 1


async def test_repeated_records_are_dropped_by_publisher_and_partition() -> None:
    host = FakeHost()
    subscription = make(host)
    leg = attach(host, subscription, FakePipe())
    assign(subscription, leg)
    assign(subscription, leg, partition=1)
    deliver(subscription, leg, record(0, 5), record(1, 6), record(2, 5), record(3, 5, publisher=2), record(4, 6))
    deliver(subscription, leg, record(0, 5), partition=1)
    assert offsets(await subscription.next()) == [0, 1, 3, 0]
    assert host.counters.repeated == 2


async def test_taking_a_partition_leaves_our_name() -> None:
    host, pipe = FakeHost(publisher=US), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, pipe)
    table = seen.Seen()
    table.note(1, 40, 0)
    assign(subscription, leg, offset=5, state=seen.pack(THEM, b"s", table))
    assert await acks(pipe) == [(0, 5, b"s", {1: 40})]


async def test_an_ack_carries_what_lies_before_it_and_nothing_later() -> None:
    host, pipe = FakeHost(publisher=US), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, pipe)
    assign(subscription, leg)
    deliver(subscription, leg, record(0, 10), record(1, 11), record(2, 3, publisher=2), record(3, 12))
    await subscription.next()
    await acks(pipe)
    deliver(subscription, leg, record(4, 13))
    subscription.ack(0, 1, b"a")
    subscription.ack(0, 2, b"b")
    assert await acks(pipe) == [(0, 2, b"b", {1: 11})]
    subscription.ack(0, 4)
    assert await acks(pipe) == [(0, 4, b"", {1: 12, 2: 3})]


async def test_acks_that_make_no_sense_are_ignored() -> None:
    host, pipe = FakeHost(publisher=US), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, pipe)
    assign(subscription, leg)
    deliver(subscription, leg, record(0, 1), record(1, 2))
    await acks(pipe)
    subscription.ack(0, 0)  # Assigned is not taken: this is about an earlier time we had it
    await subscription.next()
    subscription.ack(0, 3)  # was not handed over
    subscription.ack(1, 1)  # is not ours
    assert await acks(pipe) == []
    with pytest.raises(ValueError, match="2000 bytes"):
        subscription.ack(0, 1, b"x" * 2000)


async def test_repetitions_at_the_end_are_acknowledged_too() -> None:
    host, pipe = FakeHost(publisher=US), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, pipe)
    assign(subscription, leg)
    deliver(subscription, leg, record(0, 1), record(1, 1))
    await subscription.next()
    subscription.ack(0, 1)
    assert [a[1] for a in await acks(pipe)] == [2]
    deliver(subscription, leg, record(2, 1))
    assert [a[1] for a in await acks(pipe)] == [3]


async def test_a_reconnect_hands_nothing_over_twice_and_the_caller_sees_nothing() -> None:
    host, old, new = FakeHost(publisher=US), FakePipe(), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, old)
    assign(subscription, leg)
    deliver(subscription, leg, *(record(i, i + 1) for i in range(4)))
    await subscription.next()
    subscription.ack(0, 2, b"s")
    await turn()
    committed = old.take(proxy.Ack)[-1]
    deliver(subscription, leg, record(4, 5))
    subscription.ack(0, 3, b"t")  # never reaches the proxy
    lose(subscription, old)
    leg = attach(host, subscription, new)
    (frame,) = new.take(proxy.Subscribe)
    assert frame.start == Start("offsets", {0: 5})
    assign(subscription, leg, offset=committed.offset, state=committed.state)
    deliver(subscription, leg, *(record(i, i + 1) for i in range(2, 7)))
    events = await subscription.next()
    assert [type(e) for e in events] == [Records, Records]
    assert offsets(events) == [4, 5, 6]
    assert [(a[1], a[2]) for a in await acks(new)] == [(3, b"t")]


async def test_a_partition_that_another_member_had_is_revoked_and_assigned() -> None:
    host, old, new = FakeHost(publisher=US), FakePipe(), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, old)
    assign(subscription, leg)
    deliver(subscription, leg, record(0, 1), record(1, 2))
    assert offsets(await subscription.next()) == [0, 1]
    deliver(subscription, leg, record(2, 3))
    lose(subscription, old)
    leg = attach(host, subscription, new)
    table = seen.Seen()
    table.note(1, 1, 0)
    assign(subscription, leg, offset=1, state=seen.pack(THEM, b"theirs", table))
    deliver(subscription, leg, record(1, 1), record(2, 2))
    events = await subscription.next()
    assert [type(e) for e in events] == [Revoked, Assigned, Records]
    assert offsets(events) == [2]


async def test_an_ungreeted_partition_is_kept_if_the_commit_is_still_what_it_was() -> None:
    """Our name was lost with the proxy, but nobody else left theirs."""
    host, old, new = FakeHost(publisher=US), FakePipe(), FakePipe()
    subscription = make(host)
    theirs = seen.pack(THEM, b"", seen.Seen())
    leg = attach(host, subscription, old)
    assign(subscription, leg, offset=4, state=theirs)
    deliver(subscription, leg, record(4, 1))
    assert len(await subscription.next()) == 2
    lose(subscription, old)
    leg = attach(host, subscription, new)
    assign(subscription, leg, offset=4, state=theirs)
    deliver(subscription, leg, record(4, 1), record(5, 2))
    assert offsets(await subscription.next()) == [5]


async def test_what_is_not_assigned_again_is_revoked() -> None:
    host, old, new = FakeHost(publisher=US, settle=0.01), FakePipe(), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, old)
    assign(subscription, leg)
    assign(subscription, leg, partition=1)
    await subscription.next()
    lose(subscription, old)
    leg = attach(host, subscription, new)
    assign(subscription, leg)
    assert await soon(subscription) == [Revoked([1])]


async def test_records_of_a_revoked_partition_are_not_handed_over_and_their_credit_goes_back() -> None:
    host, pipe = FakeHost(), FakePipe()
    subscription = make(host, records=4)
    leg = attach(host, subscription, pipe)
    assign(subscription, leg)
    deliver(subscription, leg, record(0, 1), record(1, 2))
    subscription.revoked(leg, proxy.Revoked(leg.sid, [0]))
    assert [type(e) for e in await subscription.next()] == [Assigned, Revoked]
    await turn()
    assert pipe.take(proxy.Credit) == [proxy.Credit(leg.sid, 2, 2)]


async def test_credit_goes_back_as_records_are_taken() -> None:
    host, pipe = FakeHost(), FakePipe()
    subscription = make(host, records=8)
    leg = attach(host, subscription, pipe)
    assert pipe.take(proxy.Subscribe)[0].records == 8
    assign(subscription, leg)
    deliver(subscription, leg, record(0, 1))
    await subscription.next()
    await turn()
    assert pipe.take(proxy.Credit) == []  # too little to be worth a frame
    deliver(subscription, leg, record(1, 2), record(2, 2), record(3, 3))
    await turn()
    assert pipe.take(proxy.Credit) == [proxy.Credit(leg.sid, 2, 2)]  # the one taken, and the repetition
    await subscription.next()
    await turn()
    assert pipe.take(proxy.Credit) == [proxy.Credit(leg.sid, 2, 2)]


async def test_after_a_reconnect_the_first_credit_leaves_out_what_still_waits() -> None:
    host, old, new = FakeHost(), FakePipe(), FakePipe()
    subscription = make(host, records=8)
    leg = attach(host, subscription, old)
    assign(subscription, leg)
    deliver(subscription, leg, *(record(i, i + 1) for i in range(5)))
    lose(subscription, old)
    attach(host, subscription, new)
    assert new.take(proxy.Subscribe)[0].records == 3


async def test_broadcast_resumes_by_offsets() -> None:
    host, old, new = FakeHost(), FakePipe(), FakePipe()
    subscription = make(host, group=None, start=Start("earliest"))
    leg = attach(host, subscription, old)
    assert not subscription.ready.done()  # the partitions tell where it begins
    assign(subscription, leg, offset=0)
    assign(subscription, leg, partition=1, offset=3)
    assert subscription.ready.done()
    deliver(subscription, leg, record(0, 1), record(1, 2))
    await subscription.next()
    subscription.ack(0, 2)
    lose(subscription, old)
    leg = attach(host, subscription, new)
    assert new.take(proxy.Subscribe)[0].start == Start("offsets", {0: 2, 1: 3})
    assign(subscription, leg, offset=2)
    assign(subscription, leg, partition=1, offset=3)
    deliver(subscription, leg, record(2, 2), record(3, 3))
    assert offsets(await subscription.next()) == [3]
    assert old.take(proxy.Ack) == []


async def test_another_log_is_a_gap_and_read_from_its_beginning() -> None:
    host, old, new = FakeHost(), FakePipe(), FakePipe()
    subscription = make(host, group=None)
    leg = attach(host, subscription, old)
    assign(subscription, leg, offset=50)
    await subscription.next()
    lose(subscription, old)
    leg = attach(host, subscription, new)
    new.take(proxy.Subscribe)
    assign(subscription, leg, offset=2, incarnation="other")
    assert host.closed == [leg]
    assert new.take(proxy.Subscribe)[0].start == Start("earliest")
    leg = host.legs[-1]
    subscription.subscribed(leg, proxy.Subscribed(leg.sid, leg.sid))
    assign(subscription, leg, offset=0, incarnation="other")
    deliver(subscription, leg, record(0, 1))
    events = await subscription.next()
    assert [type(e) for e in events] == [Gap, Assigned, Records]


async def test_a_group_sees_another_log_as_another_partition() -> None:
    host, old, new = FakeHost(publisher=US), FakePipe(), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, old)
    assign(subscription, leg, offset=50)
    await subscription.next()
    lose(subscription, old)
    leg = attach(host, subscription, new)
    assign(subscription, leg, offset=0, incarnation="other")
    assert [type(e) for e in await soon(subscription)] == [Revoked, Assigned]


async def test_gaps_are_told_once() -> None:
    host = FakeHost()
    subscription = make(host)
    leg = attach(host, subscription, FakePipe())
    assign(subscription, leg)
    await subscription.next()
    subscription.gap(leg, proxy.Gap(leg.sid, 0, 0, 10, "retention"))
    subscription.gap(leg, proxy.Gap(leg.sid, 0, 0, 10, "retention"))
    deliver(subscription, leg, record(10, 1))
    assert [type(e) for e in await subscription.next()] == [Gap, Records]


async def test_a_gap_in_front_of_where_a_partition_begins_is_told_once() -> None:
    """As engines tell what was removed before a group came back: assigned behind it, then the gap."""
    host, old, new = FakeHost(publisher=US), FakePipe(), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, old)
    assign(subscription, leg, offset=10)
    subscription.gap(leg, proxy.Gap(leg.sid, 0, 4, 10, "retention"))
    deliver(subscription, leg, record(10, 1))
    assert [type(e) for e in await subscription.next()] == [Assigned, Gap, Records]
    lose(subscription, old)
    leg = attach(host, subscription, new)
    assign(subscription, leg, offset=10)
    subscription.gap(leg, proxy.Gap(leg.sid, 0, 4, 10, "retention"))
    deliver(subscription, leg, record(11, 2))
    assert [type(e) for e in await subscription.next()] == [Records]


async def test_owned_believes_a_fresh_connection() -> None:
    host = FakeHost()
    subscription = make(host)
    leg = attach(host, subscription, FakePipe())
    assign(subscription, leg)
    assert await subscription.owned([0]) == set()  # the caller does not know it yet
    await subscription.next()
    assert await subscription.owned([0, 1]) == {0}


async def test_owned_asks_a_proxy_not_heard_for_long_and_a_revoked_that_comes_counts() -> None:
    host, pipe = FakeHost(), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, pipe)
    assign(subscription, leg)
    assign(subscription, leg, partition=1)
    await subscription.next()
    pipe.heard = False
    asking = asyncio.ensure_future(subscription.owned([0, 1]))
    await turn()
    assert not asking.done()
    subscription.revoked(leg, proxy.Revoked(leg.sid, [1]))
    pipe.heard = True
    pipe.probes[0].set_result(None)
    assert await asking == {0}


async def test_owned_waits_through_a_reconnect() -> None:
    host, old, new = FakeHost(publisher=US), FakePipe(), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, old)
    assign(subscription, leg)
    await subscription.next()
    await turn()
    committed = old.take(proxy.Ack)[-1]
    lose(subscription, old)
    asking = asyncio.ensure_future(subscription.owned([0]))
    await turn()
    leg = attach(host, subscription, new)
    await turn()
    assert not asking.done()
    assign(subscription, leg, offset=committed.offset, state=committed.state)
    assert await asking == {0}


async def test_owned_gives_up_for_good() -> None:
    """What it called lost is not kept silently later: the caller has thrown its records away."""
    host, old, new = FakeHost(publisher=US, owned_timeout=0.01), FakePipe(), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, old)
    assign(subscription, leg)
    deliver(subscription, leg, record(0, 1))
    await subscription.next()
    await turn()
    committed = old.take(proxy.Ack)[-1]
    lose(subscription, old)
    assert await subscription.owned([0]) == set()
    leg = attach(host, subscription, new)
    assign(subscription, leg, offset=committed.offset, state=committed.state)
    deliver(subscription, leg, record(0, 1))
    events = await subscription.next()
    assert [type(e) for e in events] == [Revoked, Assigned, Records]


async def test_a_refused_subscription_says_why() -> None:
    host = FakeHost()
    subscription = make(host)
    subscription.attach(FakePipe())
    leg = host.legs[-1]
    subscription.subscribed(leg, proxy.Subscribed(leg.sid, leg.sid, proxy.Failure(Code.FORBIDDEN, "no")))
    assert isinstance(subscription.ready.exception(), Refused)
    with pytest.raises(Closed, match="FORBIDDEN: no"):
        await subscription.next()
    assert host.forgotten == [subscription]


async def test_an_engine_that_is_away_is_asked_again() -> None:
    host = FakeHost()
    subscription = make(host)
    subscription.attach(FakePipe())
    leg = host.legs[-1]
    subscription.subscribed(leg, proxy.Subscribed(leg.sid, leg.sid, proxy.Failure(Code.UNAVAILABLE, "away")))
    assert host.retried == [subscription]
    assert not subscription.ready.done()
    assert not subscription.attached


async def test_after_the_end_the_rest_is_handed_over_first() -> None:
    host = FakeHost()
    subscription = make(host)
    leg = attach(host, subscription, FakePipe())
    assign(subscription, leg)
    subscription.closed(leg, proxy.Failure(Code.FENCED, "a newer member"))
    assert len(await subscription.next()) == 1
    with pytest.raises(Closed, match="FENCED"):
        await subscription.next()
    assert await subscription.owned([0]) == set()


async def test_fenced_after_a_reconnect_is_taken_for_our_own_old_connection() -> None:
    host, old, new = FakeHost(publisher=US), FakePipe(), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, old)
    assign(subscription, leg)
    await subscription.next()
    lose(subscription, old)
    leg = attach(host, subscription, new)
    subscription.closed(leg, proxy.Failure(Code.FENCED, "a newer member"))
    assert host.retried == [subscription]
    leg = attach(host, subscription, new)
    assign(subscription, leg)
    assert await subscription.owned([0]) == {0}


async def test_fenced_after_a_long_absence_is_our_own_old_connection_too() -> None:
    """A proxy that stood still takes up our attempts to connect of that time, one after the other."""
    host, old, new = FakeHost(publisher=US, fence_grace=0.05), FakePipe(), FakePipe()
    subscription = make(host)
    attach(host, subscription, old)
    lose(subscription, old)
    await asyncio.sleep(0.1)
    leg = attach(host, subscription, new)
    subscription.closed(leg, proxy.Failure(Code.FENCED, "a newer member"))
    assert host.retried == [subscription]
    leg = attach(host, subscription, new)
    await asyncio.sleep(0.1)  # but the attempts don't begin the grace anew: somebody else has our name
    subscription.closed(leg, proxy.Failure(Code.FENCED, "a newer member"))
    assert host.retried == [subscription]


async def test_closing_sends_the_last_acks_first() -> None:
    host, pipe = FakeHost(publisher=US), FakePipe()
    subscription = make(host)
    leg = attach(host, subscription, pipe)
    assign(subscription, leg)
    deliver(subscription, leg, record(0, 1))
    await subscription.next()
    subscription.ack(0, 1)
    deliver(subscription, leg, record(1, 2))
    await subscription.close()
    assert pipe.take(proxy.Ack)[-1].offset == 1
    assert host.closed == [leg]
    with pytest.raises(Closed):
        await subscription.next()  # what was not handed over belongs to the next owner
