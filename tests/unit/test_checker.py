"""The checker of the fault tests can see each kind of fault."""

import copy

import pytest

from tests.system.checker import Ledger, Push, Sent, Socket, judge, read


@pytest.fixture
def ledger() -> Ledger:
    """Five notifications, one subscriber that stayed, one that resumed after the third, all well."""
    sent = {("a", n): Sent(("a", n), "d", at=10.0 + n, acked=10.5 + n, id=100 + n) for n in range(5)}
    rows = [(key, s.id) for key, s in sent.items()]
    stayed = Socket("stayed", "d", subscribed=9.0, deliveries=list(rows))
    first = Socket("resumed", "d", subscribed=9.0, closed=12.9, deliveries=rows[:3])
    second = Socket("resumed", "d", subscribed=13.0, deliveries=rows[3:])
    return Ledger(sent, [stayed, first, second], {"d": list(rows)})


def test_a_good_run_has_no_findings(ledger):
    verdict = judge(ledger)
    assert verdict.findings() == {}
    assert (verdict.acknowledged, verdict.deliveries, verdict.resumed) == (5, 10, 1)


def lose_from_store(ledger):
    del ledger.stored["d"][2]


def lose_delivery(ledger):
    del ledger.sockets[0].deliveries[2]


def lose_while_away(ledger):
    del ledger.sockets[2].deliveries[0]


def deliver_twice(ledger):
    ledger.sockets[0].deliveries.append(ledger.sockets[0].deliveries[4])


def swap(ledger):
    d = ledger.sockets[0].deliveries
    d[1], d[2] = d[2], d[1]


def swap_stored(ledger):
    d = ledger.stored["d"]
    d[1], d[2] = d[2], d[1]


def second_id(ledger):
    ledger.sockets[0].deliveries[1] = (("a", 1), 999)


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lose_from_store, "lost"),
        (lose_delivery, "not_delivered"),
        (lose_while_away, "not_delivered"),
        (deliver_twice, "duplicated"),
        (swap, "out_of_order"),
        (swap_stored, "out_of_order"),
        (second_id, "two_ids"),
    ],
)
def test_each_fault_is_found(ledger, spoil, kind):
    spoiled = copy.deepcopy(ledger)
    spoil(spoiled)
    assert list(judge(spoiled).findings()) == [kind]


def test_what_was_not_acknowledged_may_be_missing(ledger):
    ledger.sent[("a", 9)] = Sent(("a", 9), "d", at=20.0, failed="503")
    assert judge(ledger).findings() == {}


def test_a_late_subscriber_owes_only_what_was_sent_after_its_subscribe(ledger):
    ledger.sockets.append(Socket("late", "d", subscribed=13.0, deliveries=ledger.stored["d"][3:]))
    assert judge(ledger).findings() == {}
    ledger.sockets[-1].deliveries.pop(0)
    assert list(judge(ledger).findings()) == ["not_delivered"]


def test_a_socket_that_closed_is_owed_what_came_before_its_last_delivery(ledger):
    closed = Socket("closed", "d", subscribed=9.0, closed=14.6, deliveries=ledger.stored["d"][:4])
    ledger.sockets.append(closed)
    assert judge(ledger).findings() == {}
    del closed.deliveries[1]
    assert list(judge(ledger).findings()) == ["not_delivered"]


# -- plugins


@pytest.fixture
def pushes() -> list[Push]:
    """Of the ledger's five: three on a socket that died with the third unconfirmed, which came again."""
    first = [Push(("a", n), 100 + n, 20.0 + n, socket=1, confirmed=20.5 + n) for n in range(3)]
    first[2].confirmed = None
    return first + [Push(("a", n), 100 + n, 30.0 + n, socket=2, confirmed=31.0 + n) for n in range(2, 5)]


def test_a_plugin_that_read_all_has_no_findings(ledger, pushes):
    reading = read(ledger.sent, pushes)
    assert reading.findings() == {}
    assert (reading.pushes, reading.again) == (6, 1)


def lose(pushes):
    del pushes[4]


def overtake(pushes):
    pushes[3:5] = [pushes[4], pushes[3]]
    del pushes[2]


def repeat(pushes):
    pushes.insert(3, Push(("a", 1), 101, 29.0, socket=2))


def rename(pushes):
    pushes[4].id = 999


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [(lose, "missing"), (overtake, "out_of_order"), (repeat, "repeated"), (rename, "two_ids")],
)
def test_each_fault_of_a_plugins_stream_is_found(ledger, pushes, spoil, kind):
    spoil(pushes)
    assert list(read(ledger.sent, pushes).findings()) == [kind]
