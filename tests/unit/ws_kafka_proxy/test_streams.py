"""Short-lived topics: outcomes, order, bounds."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from skep.wire.proxy import Code, Record
from ws_kafka_proxy.core.streams import Limits, Streams, Subscription
from ws_kafka_proxy.core.ticket import Ticket

LATER = 10_000
"""Long after the hold."""


class Bench:
    """Streams with the outcomes of what was published: (topic, seq) -> "confirmed" or a Code, in order."""

    def __init__(self, **limits: int) -> None:
        self.streams = Streams(Limits(**limits), 0)
        self.outcomes: dict[tuple[str, int], object] = {}
        self.wakes = 0

    def publish(self, topic: str, *seqs: int, publisher: int = 1, now: int = LATER, size: int = 1) -> None:
        for seq in seqs:
            ticket = Ticket(seq, 1, 0, lambda done, key=(topic, seq): self._done(done, key))
            self.streams.publish(publisher, ticket, 0, Record(topic, None, b"x" * size, seq), now)

    def _done(self, ticket: Ticket, key: tuple[str, int]) -> None:
        assert key not in self.outcomes
        self.outcomes[key] = Code(ticket.failures[0].code) if ticket.failures else "confirmed"

    def subscribe(
        self, topic: str, owner: int = 7, records: int = 1000, size: int = 1 << 20, now: int = LATER
    ) -> Subscription:
        subscription, self.gap = self.streams.subscribe(topic, owner, records, size, self._wake, now)
        return subscription

    def _wake(self) -> None:
        self.wakes += 1

    def take(self, subscription: Subscription) -> list[int]:
        taken, subscription.out = subscription.out, []
        return [record.seq for record in taken]

    def of(self, topic: str) -> dict[int, object]:
        return {seq: outcome for (name, seq), outcome in self.outcomes.items() if name == topic}


def test_confirmed_only_after_ack_and_in_order():
    bench = Bench()
    reader = bench.subscribe("replies.a")
    bench.publish("replies.a", 1, 2, 3)
    assert bench.take(reader) == [1, 2, 3]
    assert bench.outcomes == {}
    bench.streams.ack(reader, 2)
    assert list(bench.of("replies.a")) == [1, 2]
    bench.streams.ack(reader, 3)
    assert bench.of("replies.a") == {1: "confirmed", 2: "confirmed", 3: "confirmed"}


def test_acknowledging_what_was_not_delivered_is_an_error():
    bench = Bench()
    reader = bench.subscribe("replies.a")
    bench.publish("replies.a", 1)
    try:
        bench.streams.ack(reader, 1)
    except ValueError:
        return
    raise AssertionError("it was not sent yet")


def test_nobody_subscribed_is_refused_at_once_and_remembered():
    bench = Bench()
    bench.publish("events.a", 1)
    assert bench.of("events.a") == {1: Code.NO_SUBSCRIBER}
    bench.subscribe("events.a")
    assert bench.gap
    bench.subscribe("events.b")
    assert not bench.gap


def test_a_gap_is_told_once():
    bench = Bench()
    bench.publish("events.a", 1)
    bench.streams.remove(bench.subscribe("events.a"), LATER)
    bench.subscribe("events.a")
    assert not bench.gap


def test_a_fresh_proxy_holds_for_the_subscribers_on_their_way():
    bench = Bench()
    bench.publish("events.a", 1, 2, now=0)
    bench.streams.tick(2_999)
    assert bench.outcomes == {}
    reader = bench.subscribe("events.a", now=2_999)
    assert not bench.gap
    bench.publish("events.a", 3, now=2_999)
    assert bench.take(reader) == [1, 2, 3]


def test_the_hold_ends():
    bench = Bench()
    bench.publish("events.a", 1, now=100)
    bench.streams.tick(3_000)
    assert bench.of("events.a") == {1: Code.NO_SUBSCRIBER}
    bench.subscribe("events.a", now=3_001)
    assert bench.gap


def test_credit_bounds_what_is_delivered():
    bench = Bench()
    reader = bench.subscribe("events.a", records=2)
    bench.publish("events.a", 1, 2, 3, 4)
    assert bench.take(reader) == [1, 2]
    bench.streams.credit(reader, 1, 0)
    assert bench.take(reader) == [3]
    bench.streams.credit(reader, 5, 0)
    assert bench.take(reader) == [4]


def test_credit_in_bytes():
    bench = Bench()
    reader = bench.subscribe("events.a", size=15)
    bench.publish("events.a", 1, 2, 3, size=10)
    assert bench.take(reader) == [1, 2]
    bench.streams.credit(reader, 0, 10)
    assert bench.take(reader) == [3]


def test_what_stays_full_is_cut_for_that_subscriber_alone():
    bench = Bench()
    slow, quick = bench.subscribe("events.a", owner=1, records=1), bench.subscribe("events.b", owner=2)
    bench.publish("events.a", 1, 2, 3)
    bench.publish("events.b", 1)
    bench.streams.tick(LATER + 1_999)
    assert not slow.cut
    bench.streams.tick(LATER + 2_000)
    assert slow.cut
    assert not quick.cut
    assert bench.of("events.a") == {2: Code.FULL, 3: Code.FULL}
    assert bench.take(slow) == [1]
    bench.streams.ack(slow, 1)
    assert bench.of("events.a")[1] == "confirmed"


def test_a_subscriber_that_keeps_up_is_not_cut():
    bench = Bench()
    reader = bench.subscribe("events.a", records=1)
    for second in range(10):
        bench.publish("events.a", 2 * second, 2 * second + 1, now=LATER + 1000 * second)
        bench.streams.credit(reader, 2, 0)
        bench.streams.tick(LATER + 1000 * second + 999)
    assert not reader.cut


def test_the_bound_in_records_cuts_at_once():
    bench = Bench(records=3)
    reader = bench.subscribe("events.a", records=0)
    bench.publish("events.a", 1, 2, 3)
    assert not reader.cut
    bench.publish("events.a", 4)
    assert reader.cut
    assert bench.of("events.a") == dict.fromkeys((1, 2, 3, 4), Code.FULL)


def test_the_bound_in_bytes():
    bench = Bench(bytes=100)
    reader = bench.subscribe("events.a", records=0)
    bench.publish("events.a", 1, size=100)
    assert not reader.cut
    bench.publish("events.a", 2, size=1)
    assert reader.cut


def test_the_bound_over_all_topics_refuses_where_nobody_can_be_cut():
    bench = Bench(total=100)
    bench.publish("events.a", 1, now=0, size=100)
    bench.publish("events.b", 2, now=0, size=1)
    assert bench.of("events.b") == {2: Code.FULL}
    reader = bench.subscribe("events.a", now=0)
    assert bench.take(reader) == [1]
    bench.publish("events.b", 3, now=0, size=100)
    assert 3 not in bench.of("events.b")


def test_records_without_outcome_are_refused_when_their_reader_vanishes():
    bench = Bench()
    reader = bench.subscribe("events.a", records=1)
    bench.publish("events.a", 1, 2)
    bench.take(reader)
    bench.streams.remove(reader, LATER)
    assert bench.of("events.a") == {1: Code.NO_SUBSCRIBER, 2: Code.NO_SUBSCRIBER}
    bench.subscribe("events.a")
    assert bench.gap


def test_a_run_that_comes_back_before_its_old_socket_is_found_dead_gets_all_it_had_not_taken():
    bench = Bench()
    old = bench.subscribe("events.a", owner=1, records=2)
    bench.publish("events.a", 1, 2, 3)
    bench.take(old)
    bench.streams.ack(old, 1)
    new = bench.subscribe("events.a", owner=1)
    assert not bench.gap
    assert bench.take(new) == [2, 3]
    bench.streams.ack(old, 2)
    bench.streams.remove(old, LATER)
    assert bench.of("events.a") == {1: "confirmed"}
    bench.streams.ack(new, 2)
    assert bench.of("events.a") == {1: "confirmed", 2: "confirmed", 3: "confirmed"}


def test_two_readers_of_one_topic_both_take_it():
    bench = Bench()
    first, second = bench.subscribe("events.a", owner=1), bench.subscribe("events.a", owner=2)
    bench.publish("events.a", 1, 2)
    assert bench.take(first) == bench.take(second) == [1, 2]
    bench.streams.ack(first, 2)
    assert bench.outcomes == {}
    bench.streams.ack(second, 1)
    bench.streams.remove(second, LATER)
    assert bench.of("events.a") == {1: "confirmed", 2: "confirmed"}


def test_spread_records_go_to_the_least_busy():
    bench = Bench()
    first, second = bench.subscribe("queries", owner=1), bench.subscribe("queries", owner=2)
    bench.publish("queries", *range(10))
    assert sorted(bench.take(first) + bench.take(second)) == list(range(10))
    assert len(first.flying) == len(second.flying) == 5


def test_a_spread_record_whose_taker_vanished_goes_to_another_in_order():
    bench = Bench()
    first = bench.subscribe("queries", owner=1, records=3)
    bench.publish("queries", 1, 2, 3, 4)
    bench.take(first)
    bench.streams.ack(first, 1)
    second = bench.subscribe("queries", owner=2, records=1)
    assert bench.take(second) == [4]
    bench.publish("queries", 5)
    bench.streams.remove(first, LATER)
    assert bench.take(second) == []
    bench.streams.credit(second, 10, 0)
    assert bench.take(second) == [2, 3, 5]
    bench.streams.ack(second, 4)
    assert bench.of("queries") == dict.fromkeys((1, 2, 3, 4, 5), "confirmed")


def test_spread_without_takers_is_refused_after_two_seconds():
    bench = Bench()
    bench.subscribe("queries", records=0)
    bench.publish("queries", 1)
    bench.publish("queries", 2, now=LATER + 1_000)
    bench.streams.tick(LATER + 2_000)
    assert bench.of("queries") == {1: Code.FULL}


def test_the_last_taker_vanishing_refuses_the_rest():
    bench = Bench()
    reader = bench.subscribe("queries", records=1)
    bench.publish("queries", 1, 2)
    bench.take(reader)
    bench.streams.remove(reader, LATER)
    assert bench.of("queries") == {1: Code.NO_SUBSCRIBER, 2: Code.NO_SUBSCRIBER}
    assert bench.streams.waiting() == {}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(["events.a", "queries"]), st.integers(1, 2)),
        st.tuples(st.just("subscribe"), st.sampled_from(["events.a", "queries"]), st.integers(1, 3)),
        st.tuples(st.just("take"), st.integers(0, 5), st.integers(0, 3)),
        st.tuples(st.just("remove"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 1500), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_every_record_has_one_outcome_and_none_overtakes_another(steps):
    """Random life; at the end all sockets vanish and the books must balance."""
    bench, now, seq = Bench(records=8, bytes=1 << 20), 0, 0
    published: list[tuple[str, int]] = []
    live: list[Subscription] = []
    seen: dict[int, deque[int]] = {}
    for kind, what, number in steps:
        if kind == "publish":
            seq += 1
            published.append((what, seq))
            bench.publish(what, seq, publisher=number, now=now)
        elif kind == "subscribe":
            live.append(bench.subscribe(what, owner=number, records=3, now=now))
            seen[id(live[-1])] = deque()
        elif kind == "wait":
            now += what
            bench.streams.tick(now)
        elif live and kind == "take":
            reader = live[what % len(live)]
            seen[id(reader)].extend(bench.take(reader))
            if not reader.superseded:
                bench.streams.ack(reader, reader.next)
            bench.streams.credit(reader, number, number)
        elif live:
            bench.streams.remove(live.pop(what % len(live)), now)
        for reader in live:
            if not reader.topic.spread and not reader.superseded:
                order = [*seen[id(reader)], *(r.seq for r in reader.out)]
                assert order == sorted(order)
    for reader in live:
        bench.streams.remove(reader, now)
    bench.streams.tick(now + LATER)
    assert set(bench.outcomes) == set(published)
    assert bench.streams.waiting() == {}
    assert bench.streams._bytes == 0
