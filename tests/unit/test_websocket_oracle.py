"""The oracle of the WebSocket model can see each kind of fault."""

from __future__ import annotations

from typing import Any

import pytest

from tests.system.model import times
from tests.system.model.oracle import COMMAND, NOTIFICATION, UPDATE, Event, Message, Mode, State, Watch
from tests.system.model.rights import CLIENT_ACTIONS, GET_NOTIFICATION, Place, Token, User

HERE, THERE = (1, 1), (2, 1)
MEMBER = User(7, "anna", "", admin=False, networks={1})
TOKEN = Token("t", MEMBER)


def message(number: int, entity: str = NOTIFICATION, place: Place = HERE, name: str = "a") -> Message:
    """Stored; sent and stamped at `number`."""
    made = Message(entity, number, name, "d", place, 7, {"n": number}, id=1000 + number, time=number)
    Event(made, number, exists=True)
    return made


def frame(event: Event, **changed: Any) -> dict[str, Any]:
    sent = event.message
    shown = {**sent.view(), **changed}
    if sent.entity == COMMAND:
        at = event.state.updated or sent.time or 0
        shown = {**sent.view(), "status": event.state.status, "result": None, "lastUpdated": times.text(at), **changed}
    action = "command/update" if event is not sent.inserted else f"{sent.entity}/insert"
    return {"action": action, sent.entity: shown, "subscriptionId": 5}


class Bench:
    """One subscription with two stored messages (1, 2) before three live ones (3, 4, 5)."""

    def __init__(self, kind: str = NOTIFICATION) -> None:
        self.watch = Watch(kind, networks=frozenset({1}), since=0)
        entity = NOTIFICATION if kind == NOTIFICATION else COMMAND
        self.messages = {n: message(n, entity) for n in range(1, 6)}
        for number, each in self.messages.items():
            self.watch.allow(each.inserted, Mode.REPLAY if number < 3 else Mode.LIVE)
            self.watch.owe(each.inserted)

    def push(self, *numbers: int, **changed: Any) -> None:
        for number in numbers:
            self.watch.take(frame(self.messages[number].inserted, **changed), self.messages)


def test_what_is_owed_and_comes_in_order_is_well():
    bench = Bench()
    bench.push(1, 2, 3, 4)
    assert bench.watch.missing() == [bench.messages[5].inserted]
    bench.push(5)
    assert bench.watch.missing() == []


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ((1, 2, 3, 3), "twice"),
        ((1, 2, 1), "twice"),
        ((2, 1), "out of order"),
        ((1, 3, 2), "after live ones"),
        ((1, 2, 4, 3), "out of order"),
    ],
)
def test_order_and_repetition(numbers, found):
    with pytest.raises(AssertionError, match=found):
        Bench().push(*numbers)


@pytest.mark.parametrize("kind", [NOTIFICATION, COMMAND])
@pytest.mark.parametrize("field", ["id", "deviceId", "networkId", "deviceTypeId", "timestamp", "parameters", "name"])
def test_every_field_is_looked_at(kind, field):
    bench = Bench(kind)
    other: dict[str, Any] = {
        "id": 1, "deviceId": "e", "networkId": 9, "deviceTypeId": 9, "timestamp": times.text(9), "parameters": {"n": 1},
    }  # fmt: skip
    changed = {bench.watch.entity: "b"} if field == "name" else {field: other[field]}
    if field == "parameters":
        changed["parameters"] = {"n": 1, "more": 1}
    with pytest.raises(AssertionError):
        bench.push(1, **changed)


@pytest.mark.parametrize("changed", [{"status": "x"}, {"result": {}}, {"lastUpdated": times.text(9)}, {"userId": 8}])
def test_the_state_of_a_command_is_looked_at(changed):
    bench = Bench(COMMAND)
    bench.messages[3].inserted.state.updated = 3
    with pytest.raises(AssertionError, match="other than sent"):
        bench.push(3, **changed)


def test_what_nobody_sent_what_was_not_asked_for_and_what_comes_too_late():
    bench = Bench()
    stranger = message(9)
    with pytest.raises(AssertionError, match="nobody sent"):
        bench.watch.take(frame(stranger.inserted), bench.messages)
    bench.messages[9] = stranger
    with pytest.raises(AssertionError, match="not for this subscription"):
        bench.watch.take(frame(stranger.inserted), bench.messages)
    with pytest.raises(AssertionError, match="wrong action"):
        bench.watch.take({**frame(stranger.inserted), "action": "command/insert"}, bench.messages)
    with pytest.raises(AssertionError, match="wrong fields"):
        bench.watch.take({**frame(stranger.inserted), "requestId": None}, bench.messages)
    bench.watch.ended = True
    with pytest.raises(AssertionError, match="after the reply to unsubscribe"):
        bench.push(1)


def test_one_id_and_one_time_for_all():
    bench = Bench()
    bench.push(1)
    with pytest.raises(AssertionError, match="has ids"):
        bench.messages[1].identify(1, times.text(1))
    with pytest.raises(AssertionError, match="is of"):
        bench.messages[1].identify(1001, times.text(2))


@pytest.mark.parametrize(
    ("watch", "place", "name", "wanted"),
    [
        (Watch(NOTIFICATION, follows=True), HERE, "a", True),
        (Watch(NOTIFICATION, follows=True), THERE, "a", False),
        (Watch(NOTIFICATION, device="d"), HERE, "a", True),
        (Watch(NOTIFICATION, device="e"), HERE, "a", False),
        (Watch(NOTIFICATION, networks=frozenset({2})), HERE, "a", False),
        (Watch(NOTIFICATION, types=frozenset({2})), HERE, "a", False),
        (Watch(NOTIFICATION, names=frozenset({"b"})), HERE, "a", False),
        (Watch(NOTIFICATION, names=frozenset({"b"})), HERE, "b", True),
        (Watch(COMMAND, follows=True), HERE, "a", False),
    ],
)
def test_who_wants_what(watch, place, name, wanted):
    assert watch.wants(message(1, place=place, name=name), TOKEN) is wanted
    assert not watch.wants(message(1, place=place, name=name), None)
    powerless = Token("t", MEMBER, actions=CLIENT_ACTIONS - {GET_NOTIFICATION})
    assert not watch.wants(message(1, place=place, name=name), powerless)


def test_updates_are_told_by_their_state_and_come_in_order():
    command = message(1, COMMAND)
    first = Event(command, 2, State("one", None, 2), exists=True)
    second = Event(command, 3, State("two"), exists=True)
    watch = Watch(UPDATE, follows=True)
    for event in (first, second):
        watch.allow(event, Mode.LIVE)
        watch.owe(event)
    messages = {1: command}
    watch.take(frame(first), messages)
    with pytest.raises(AssertionError, match="twice"):
        watch.take(frame(first), messages)
    with pytest.raises(AssertionError, match="no such state"):
        watch.take(frame(first, status="three"), messages)
    watch.take(frame(second, lastUpdated=times.text(3)), messages)
    assert (watch.missing(), second.state.updated) == ([], 3)


def test_a_replayed_command_is_shown_as_it_was_stored():
    command = message(1, COMMAND)
    command.inserted.state.updated = 1
    Event(command, 2, State("done", None, 2), exists=True)
    watch = Watch(COMMAND, follows=True, since=0)
    watch.allow(command.inserted, Mode.REPLAY)
    with pytest.raises(AssertionError, match="other than sent"):
        watch.take(frame(command.inserted), {1: command})
    watch.due[command.inserted].taken = False
    watch.take(frame(command.inserted, status="done", lastUpdated=times.text(2)), {1: command})
