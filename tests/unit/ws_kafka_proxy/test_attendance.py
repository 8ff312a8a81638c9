from typing import Any

from skep.wire.messages import Changed, encode
from skep.wire.plugins import Attend, Seat, changed
from ws_kafka_proxy.core.attendance import LEASE, TRUSTED, Attendance, Member

NOW = 1_700_000_000_000


class Sockets:
    """An attendance, how often it woke its owner, and how often each member was told."""

    def __init__(self) -> None:
        self.woken = 0
        self.told: dict[str, int] = {}
        self.attendance = Attendance("proxy-1.x", self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def enter(self, name: str, topic: str = "plugin_topic_1") -> Member:
        def tell() -> None:
            self.told[name] = self.told.get(name, 0) + 1

        return self.attendance.enter(topic, "10.0.0.1", NOW, tell)

    def answer(self, attend: Attend, now: int = NOW, **seat: Any) -> None:
        self.attendance.answered(attend.number, [Seat(s.id, **seat) for s in attend.sockets], now)


def test_all_sockets_are_told_with_a_rising_number() -> None:
    sockets = Sockets()
    a, b = sockets.enter("a"), sockets.enter("b", "plugin_topic_2")
    first, second = sockets.attendance.ask(), sockets.attendance.ask()
    assert (first.run, first.lease, first.number, second.number) == ("proxy-1.x", LEASE, 1, 2)
    assert [(s.topic, s.group, s.address, s.since) for s in second.sockets] == [
        ("plugin_topic_1", None, "10.0.0.1", NOW), ("plugin_topic_2", None, "10.0.0.1", NOW),
    ]  # fmt: skip
    assert len({s.id for s in second.sockets}) == 2
    sockets.attendance.leave(a)
    sockets.attendance.leave(a)
    assert [s.id for s in sockets.attendance.ask().sockets] == [b.socket.id]
    assert sockets.woken == 3


def test_an_answer_counts_only_for_the_wish_it_was_asked_with() -> None:
    sockets = Sockets()
    member = sockets.enter("a")
    before = sockets.attendance.ask()
    sockets.attendance.wish(member, "main")
    sockets.answer(before, stream="s.1")
    assert (member.seat, sockets.told) == (None, {})
    asked = sockets.attendance.ask()
    assert [s.group for s in before.sockets] == [None], "what was asked stays what it was"
    assert [s.group for s in asked.sockets] == ["main"]
    sockets.answer(asked, stream="s.1", group="g")
    assert member.seat == Seat(member.socket.id, "s.1", "g")
    sockets.attendance.wish(member, "main")
    assert member.seat is not None
    sockets.attendance.wish(member, None)
    assert member.seat is None
    assert sockets.told == {"a": 1}


def test_an_answer_that_comes_behind_a_newer_one_is_passed_over() -> None:
    sockets = Sockets()
    member = sockets.enter("a")
    older, newer = sockets.attendance.ask(), sockets.attendance.ask()
    sockets.answer(newer, stream="s.2")
    sockets.answer(older, stream="s.1")
    assert member.seat is not None
    assert member.seat.stream == "s.2"


def test_answers_about_those_who_left_change_nothing() -> None:
    sockets = Sockets()
    member = sockets.enter("a")
    asked = sockets.attendance.ask()
    sockets.attendance.leave(member)
    sockets.answer(asked, refusal="gone")
    assert (member.seat, sockets.told) == (None, {})


def test_a_seat_is_trusted_for_a_while() -> None:
    sockets = Sockets()
    a, b = sockets.enter("a"), sockets.enter("b")
    asked = sockets.attendance.ask()
    sockets.attendance.answered(asked.number, [Seat(a.socket.id, "s.1")], NOW + 5_000)
    trusted = sockets.attendance.trusted
    assert trusted(b, NOW + TRUSTED)
    assert not trusted(b, NOW + TRUSTED + 1)
    assert trusted(a, NOW + 5_000 + TRUSTED)
    assert not trusted(a, NOW + 5_001 + TRUSTED)


def test_which_changes_concern_us() -> None:
    sockets = Sockets()
    concerns = sockets.attendance.concerns
    assert not concerns([])
    sockets.enter("a")
    assert concerns([])
    assert concerns(["plugin_topic_2", "plugin_topic_1"])
    assert not concerns(["plugin_topic_2"])


def test_what_a_change_says_of_plugins() -> None:
    assert changed(encode(Changed("plugin", ["plugin_topic_1"]))) == ["plugin_topic_1"]
    assert changed(encode(Changed("plugin", []))) == []
    assert changed(encode(Changed("user", ["1"]))) is None
    assert changed(b"\xff") is None
    assert changed(b"") is None
