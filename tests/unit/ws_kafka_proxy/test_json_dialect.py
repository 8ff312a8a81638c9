import json
import random
import time
from typing import Any

import msgspec
import pytest

from skep import tokens
from skep.wire.proxy import Code, Delivered, Failure, Gap, Revoked
from ws_kafka_proxy.core import json_frames as frames
from ws_kafka_proxy.core.engine import Chunk
from ws_kafka_proxy.core.json_dialect import (
    FULL,
    TOO_MANY,
    Append,
    Close,
    Commit,
    Dialect,
    Effect,
    Enter,
    Health,
    Limits,
    List,
    Make,
    Open,
    TooLarge,
)
from ws_kafka_proxy.core.json_pushes import MAX_PARTITIONS, Batch, Subscription
from ws_kafka_proxy.core.json_roles import Plugin, Refused, Tool
from ws_kafka_proxy.core.rate import Excess

TOPIC = "plugin_topic_1"
KEYS = tokens.Keys.parse("a secret")
NOW = 1_700_000_000_000


class Socket:
    """A dialect and what came out of it."""

    def __init__(self, role: Any = None, limits: Limits | None = None, confirm: bool = False) -> None:
        self.dialect = Dialect(role or Tool("tool", "tool-1"), limits or Limits(), lambda: None, confirm)

    def receive(self, message: object) -> list[Effect]:
        return self.dialect.receive(message if isinstance(message, str | bytes) else json.dumps(message), NOW)

    @property
    def out(self) -> list[dict[str, Any]]:
        return [json.loads(frames.encode(frame)) for frame in self.dialect.take()]


def notif(id: int, text: str = "x", **payload: object) -> dict[str, object]:
    return {"id": id, "t": "notif", "a": "create", "p": {"t": TOPIC, "m": text, **payload}}


def request(id: int, kind: str, a: str | None = None, /, **payload: object) -> dict[str, object]:
    return {"id": id, "t": kind, "a": a, "p": payload}


def token(topic: str | None = TOPIC, expires: int = NOW + 1000, type: int = tokens.ACCESS) -> str:
    user = None if topic else 1
    return tokens.encode(tokens.Claims(user, [16], None, None, expires, type, topic), KEYS)


def subscribed(socket: Socket, **payload: object) -> Subscription:
    [effect] = socket.receive(request(1, "topic", "subscribe", t=[TOPIC], **payload))
    assert isinstance(effect, Open)
    socket.dialect.opened(effect, None, NOW)
    socket.dialect.take()
    return effect.subscriptions[0]


def authenticated(socket: Socket) -> None:
    [enter] = socket.receive(request(0, "plugin", "authenticate", token=token()))
    assert isinstance(enter, Enter)
    socket.dialect.entered(enter, None, NOW)
    assert socket.out[0]["s"] == 0


def shown(batch: Batch) -> list[dict[str, Any]]:
    return [json.loads(frames.encode(frame)) for frame in batch.frames]


def chunk(*payloads: bytes | None, start: int = 0) -> Chunk:
    return Chunk(0, [Delivered(start + n, 0, 1, n, None, payload) for n, payload in enumerate(payloads)])


# -- order


def test_publishes_of_a_frame_are_one_append_and_are_answered_in_order() -> None:
    socket = Socket()
    [append] = socket.receive([notif(1, part=3), notif(2, part="device"), notif(3)])
    assert isinstance(append, Append)
    assert [(r.partition, r.key, r.seq) for r in append.records] == [
        (3, None, 1),
        (None, b"device", 2),
        (None, None, 3),
    ]
    assert socket.out == []
    socket.dialect.appended(append, [(3, 0), Failure(Code.NO_TOPIC, "gone"), (0, 1)], NOW)
    assert socket.out == [
        {"id": 1, "t": "notif", "a": "create", "s": 0},
        {"id": 2, "t": "notif", "a": "create", "s": 1, "p": {"m": "gone"}},
        {"id": 3, "t": "notif", "a": "create", "s": 0},
    ]


def test_publishes_overlap_and_their_replies_do_not_overtake() -> None:
    socket = Socket()
    [first] = socket.receive(notif(1))
    [second] = socket.receive(notif(2))
    assert isinstance(first, Append)
    assert isinstance(second, Append)
    socket.dialect.appended(second, [(0, 1)], NOW)
    assert socket.out == []
    socket.dialect.appended(first, [(0, 0)], NOW)
    assert [frame["id"] for frame in socket.out] == [1, 2]


def test_everything_else_waits_for_what_was_before_it() -> None:
    socket = Socket()
    [append] = socket.receive([notif(1), request(2, "topic", "subscribe", t=[TOPIC]), notif(3)])
    assert isinstance(append, Append)
    assert len(append.records) == 1
    [open_] = socket.dialect.appended(append, [(0, 0)], NOW)
    assert isinstance(open_, Open)
    [after] = socket.dialect.opened(open_, None, NOW)
    assert isinstance(after, Append)
    socket.dialect.appended(after, [(0, 1)], NOW)
    assert [frame["id"] for frame in socket.out] == [1, 2, 3]


def test_health_overtakes() -> None:
    socket = Socket(limits=Limits(buffer=400))
    effects = socket.receive([notif(1), {"id": 2, "t": "health"}])
    [health] = [e for e in effects if isinstance(e, Health)]
    socket.dialect.healthy(health.slot, False)
    [answer] = socket.out
    assert (answer["id"], answer["p"]["comm"], answer["p"]["mb"]) == (2, "Not available", "Available")
    assert 0 < float(answer["p"]["mbfp"]) < 100


def test_ack_mode_answers_every_accepted_request_first() -> None:
    socket = Socket(confirm=True)
    [append, health] = sorted(socket.receive([notif(1), {"id": 2, "t": "health"}]), key=lambda e: isinstance(e, Health))
    assert isinstance(append, Append)
    assert isinstance(health, Health)
    assert socket.out == [{"id": 1, "t": "ack", "s": 0}]
    socket.dialect.appended(append, [(0, 0)], NOW)
    socket.dialect.healthy(health.slot, True)
    assert [(f["id"], f["t"]) for f in socket.out] == [(1, "notif"), (2, "health"), (2, "ack")]


# -- bad input


@pytest.mark.parametrize("bad", ["", "{", "[", '{"id":1', b"\xff\xfe", "[" * 100_000, '"\\ud800"'])
def test_no_json(bad: str | bytes) -> None:
    socket = Socket()
    assert socket.receive(bad) == []
    [answer] = socket.out
    assert (answer["t"], answer["s"], set(answer)) == ("ack", 1, {"t", "s", "p"})


def test_ids_are_echoed_where_they_are_texts_or_integers() -> None:
    socket = Socket()
    for id in ("x" * 1024, 0, -5, 2**70):
        socket.receive({"id": id, "t": "what"})
        assert socket.out[0]["id"] == id
    for bad in ({"a": 1}, [1], True, 1.5, None, "x" * 1025):
        socket.receive({"id": bad, "t": "what"})
        assert "id" not in socket.out[0]


@pytest.mark.parametrize(
    "payload",
    [{}, {"t": TOPIC}, {"m": "x"}, {"t": TOPIC, "m": 1}, {"t": [TOPIC], "m": "x"}, {"t": "replies.x", "m": "x"}],
)
def test_a_publish_without_topic_or_text(payload: object) -> None:
    socket = Socket()
    assert socket.receive({"id": 1, "t": "notif", "a": "create", "p": payload}) == []
    assert socket.out[0]["s"] == 1


def test_limits() -> None:
    socket = Socket(limits=Limits(frame=2_000, batch=3, buffer=400))
    with pytest.raises(TooLarge):
        socket.receive("x" * 2_001)
    assert socket.receive([{"t": "health"}] * 4) == []
    assert socket.out[0]["s"] == 1
    effects = socket.receive([notif(n, "x" * 100) for n in range(3)])
    [refused] = socket.out
    assert (refused["id"], refused["p"]["m"]) == (2, FULL)
    [append] = effects
    assert isinstance(append, Append)
    socket.dialect.appended(append, [(0, 0), (0, 1)], NOW)
    assert len(socket.receive(notif(3))) == 1


# -- topics


def test_create_and_list() -> None:
    socket = Socket()
    [make] = socket.receive(request(1, "topic", "create", t=[TOPIC]))
    assert isinstance(make, Make)
    [] = socket.dialect.made(make.slot, None, NOW)
    [list_] = socket.receive({"id": 2, "t": "topic", "a": "list"})
    assert isinstance(list_, List)
    socket.dialect.listed(list_.slot, [TOPIC, "requests", "replies.x"], NOW)
    assert [f["p"] for f in socket.out] == [{"t": [TOPIC]}, {"t": [TOPIC, "requests"]}]


def test_subscribing_again_with_another_group_replaces_the_former() -> None:
    socket = Socket()
    first = subscribed(socket)
    assert socket.receive(request(2, "topic", "subscribe", t=[TOPIC])) == []
    assert socket.out[0]["s"] == 0
    [open_] = socket.receive(request(3, "topic", "subscribe", t=[TOPIC], sg="g"))
    assert isinstance(open_, Open)
    assert open_.subscriptions[0].group == "json-g"
    assert socket.dialect.opened(open_, None, NOW) == [Close(first)]


def test_a_failed_subscribe_leaves_what_was() -> None:
    socket = Socket()
    first = subscribed(socket)
    [open_] = socket.receive(request(2, "topic", "subscribe", t=[TOPIC, "requests"], sg="g"))
    assert isinstance(open_, Open)
    assert socket.dialect.opened(open_, "no", NOW) == []
    assert socket.out[0] == {"id": 2, "t": "topic", "a": "subscribe", "s": 1, "p": {"m": "no"}}
    assert socket.dialect.subscriptions == {TOPIC: first}


def test_unsubscribe_answers_whether_or_not_there_was_one() -> None:
    socket = Socket()
    first = subscribed(socket)
    assert socket.receive(request(1, "topic", "unsubscribe", t=[TOPIC])) == [Close(first)]
    assert socket.receive(request(2, "topic", "unsubscribe", t=[TOPIC])) == []
    assert [f["s"] for f in socket.out] == [0, 0]


# -- pushes


def test_a_push_is_text_and_has_no_id() -> None:
    socket = Socket()
    for group, places in ((None, {}), ("g", {0: 4})):
        subscription = subscribed(socket, sg=group)
        batch = subscription.push([chunk(b'{"a":"\xc3\xbc"}', None, b"\xff", None)], NOW)
        assert shown(batch) == [
            {"t": "notif", "s": 0, "p": {"m": '{"a":"ü"}'}, "st": TOPIC},
            {"t": "notif", "s": 0, "p": {"m": "\ufffd"}, "st": TOPIC},
        ]
        assert batch.places == places


def test_a_client_that_acknowledges_commits_what_it_names_and_is_told_gaps() -> None:
    socket = Socket(limits=Limits(unacknowledged=5))
    subscription = subscribed(socket, sg="g", ack=True)
    batch = subscription.push([Gap(0, 0, 0, 3), chunk(b"a", b"b", b"c", start=3)], NOW)
    assert [p["p"] for p in shown(batch)] == [
        {"part": 0, "gap": [0, 3]}, *({"m": m, "part": 0, "off": 3 + n} for n, m in enumerate("abc")),
    ]  # fmt: skip
    assert (batch.places, batch.missed) == ({}, 3)
    assert socket.dialect.room(subscription) == 2
    [first] = socket.receive(request(1, "ack", t=TOPIC, part=0, off=4))
    assert isinstance(first, Commit)
    assert first[1:] == (subscription, 0, 5)
    assert socket.receive(request(2, "ack", t=TOPIC, part=0, off=4)) == []
    [second] = socket.receive(request(3, "ack", t=TOPIC, part=0, off=99))
    assert isinstance(second, Commit)
    assert second[1:] == (subscription, 0, 6)
    assert socket.receive(request(4, "ack", t=TOPIC, part=7, off=99)) == []
    for bad in ("0", None, True, 1.0, [0]):
        assert socket.receive(request(5, "ack", t=TOPIC, part=bad, off=99)) == []
        assert socket.receive(request(5, "ack", t=TOPIC, part=0, off=bad)) == []
    assert socket.out == [], "answered when it won't be forgotten, in order"
    socket.dialect.acknowledged([second.slot], NOW)
    assert socket.out == []
    socket.dialect.acknowledged([first.slot], NOW)
    assert [f["s"] for f in socket.out] == [0, 0, 0, 0, *[1] * 10]
    assert socket.dialect.room(subscription) == 5


def test_what_nobody_is_told_of_is_passed_with_what_is_before_it() -> None:
    subscription = Subscription(TOPIC, "g", acknowledges=True)
    assert subscription.push([chunk(None, None)], NOW).places == {0: 2}
    assert subscription.push([chunk(b"a", None, b"b", None, None, start=2)], NOW).places == {}
    assert subscription.push([chunk(None, start=7)], NOW).places == {}
    assert subscription.acknowledged(0, 2, NOW) == (0, 4)
    assert subscription.acknowledged(0, 4, NOW) == (0, 8)
    assert subscription.push([chunk(None, start=8)], NOW).places == {0: 9}


def test_a_broadcast_subscriber_that_acknowledges_commits_nothing() -> None:
    subscription = Subscription(TOPIC, None, acknowledges=True)
    batch = subscription.push([chunk(b"a")], NOW)
    assert (batch.places, subscription.unacknowledged, subscription.acknowledged(0, 0, NOW)) == ({}, 0, None)


def test_what_is_taken_away_before_it_is_confirmed_breaks_the_order() -> None:
    subscription = Subscription(TOPIC, "g", acknowledges=True)
    assert not subscription.push([chunk(b"a")], NOW).broken
    batch = subscription.push([chunk(b"b", start=1), Revoked(0, [0])], NOW)
    assert (batch.frames, batch.places, batch.broken) == ([], {}, True)
    assert subscription.unacknowledged == 0
    assert not subscription.push([Revoked(0, [0, 1])], NOW).broken


def test_after_a_move_nothing_of_the_former_stream_can_be_confirmed() -> None:
    subscription = Subscription(TOPIC, "g", acknowledges=True)
    subscription.push([chunk(b"a", b"b")], NOW)
    subscription.moved()
    assert (subscription.unacknowledged, subscription.since) == (0, None)
    batch = subscription.push([chunk(b"c"), Gap(0, 3, 0, 2)], NOW)
    assert [p["p"].get("part") for p in shown(batch)] == [MAX_PARTITIONS, MAX_PARTITIONS + 3]
    assert subscription.acknowledged(0, 5, NOW) is None
    assert subscription.acknowledged(MAX_PARTITIONS, 0, NOW) == (0, 1)


def test_how_long_an_acknowledgement_is_awaited() -> None:
    subscription = Subscription(TOPIC, "g", acknowledges=True)
    subscription.push([chunk(b"a", b"b")], NOW)
    subscription.push([chunk(b"c", start=2)], NOW + 5)
    assert subscription.since == NOW
    subscription.acknowledged(0, 0, NOW + 9)
    assert subscription.since == NOW + 9
    subscription.acknowledged(0, 2, NOW + 10)
    assert subscription.since is None


# -- rate


def test_who_sends_too_much_is_refused_and_who_goes_on_is_cut_off() -> None:
    socket = Socket(limits=Limits(rate=10))
    socket.receive([{"id": n, "t": "what"} for n in range(25)])
    assert {f["id"] for f in socket.out if f["p"]["m"] == TOO_MANY} == set(range(20, 25))
    socket.dialect.receive(json.dumps([{"t": "what"}] * 7), NOW + 1_000)
    assert sorted(f["p"]["m"] == TOO_MANY for f in socket.out) == [False] * 5 + [True] * 2
    for _ in range(78):
        socket.receive("{")
    with pytest.raises(Excess):
        socket.receive("{")


def test_bytes_are_counted_too() -> None:
    socket = Socket(limits=Limits(byte_rate=1_000))
    for _ in range(2):
        socket.receive("x" * 1_000)
    assert TOO_MANY not in [f["p"]["m"] for f in socket.out]
    assert socket.receive([{"t": "health"}] * 100) == []
    assert [f["p"]["m"] for f in socket.out] == [TOO_MANY]
    for _ in range(7):
        socket.receive("x" * 800)
    with pytest.raises(Excess):
        socket.receive("x" * 1_000)


def test_acknowledgements_of_pushes_cost_nothing() -> None:
    socket = Socket(limits=Limits(rate=2))
    subscription = subscribed(socket, sg="g", ack=True)
    subscription.push([chunk(*[b"x"] * 50)], NOW)
    for n in range(50):
        [commit] = socket.receive(request(n, "ack", t=TOPIC, part=0, off=n))
        assert isinstance(commit, Commit)


# -- plugins


def test_what_a_plugin_may_do_is_a_list() -> None:
    """Random messages: nothing ever reaches another topic than its own."""
    dice = random.Random(7)
    types: list[Any] = ["topic", "topic", "plugin", "notif", "ack", "health", "what", None, 1]
    actions: list[Any] = ["subscribe", "authenticate", "create", "list", "unsubscribe", None, 1]
    payloads: list[Any] = [
        None, {"t": [TOPIC]}, {"t": ["requests"]}, {"t": ["plugin_topic_2"]}, {"t": TOPIC, "m": "x"}, {"t": TOPIC},
        {"t": [TOPIC], "sg": "g"}, {"t": [TOPIC], "sg": "backend/../x"}, {"t": [TOPIC, "requests"]}, {"t": []},
        {"token": token()}, {"token": token(None)}, {"token": "x"}, [TOPIC], TOPIC, {"t": [[TOPIC]]},
    ]  # fmt: skip
    opened = 0
    for _ in range(600):
        socket = Socket(Plugin(KEYS, NOW))
        if dice.random() < 0.5:
            authenticated(socket)
        for _ in range(30):
            message = {"t": dice.choice(types), "a": dice.choice(actions), "p": dice.choice(payloads)}
            effects = socket.receive(message)
            for effect in effects:
                assert isinstance(effect, Open | Close | Health | Commit | Enter)
                if isinstance(effect, Enter):
                    socket.dialect.entered(effect, None, NOW)
                if isinstance(effect, Open):
                    [subscription] = effect.subscriptions
                    assert subscription.topic == TOPIC
                    assert subscription.group in ("", "g")
                    opened += 1
                    socket.dialect.opened(effect, None, NOW)
    assert opened > 20


def test_a_plugin_is_overdue_when_it_does_not_authenticate_and_when_its_token_ends() -> None:
    role = Plugin(KEYS, NOW)
    assert role.overdue(NOW + 59_000) is None
    assert role.overdue(NOW + 61_000) == "Plugin not authorized"
    role.claims = role.verify(token(expires=NOW + 90_000), NOW)
    assert role.overdue(NOW + 61_000) is None
    assert role.overdue(NOW + 90_001) == "Token expired"


def test_a_plugin_is_let_in_by_the_manager() -> None:
    socket = Socket(Plugin(KEYS, NOW))
    [enter] = socket.receive(
        [request(1, "plugin", "authenticate", token=token()), request(2, "topic", "subscribe", t=[TOPIC])]
    )
    assert isinstance(enter, Enter)
    assert (enter.claims.topic, socket.out) == (TOPIC, [])
    assert socket.dialect.entered(enter, "Plugin is not found", NOW) == []
    assert [f["p"]["m"] for f in socket.out] == ["Plugin is not found", "Plugin not authorized"]
    authenticated(socket)
    [open_] = socket.receive(request(3, "topic", "subscribe", t=[TOPIC]))
    assert isinstance(open_, Open)


def test_names_of_groups() -> None:
    role = Plugin(KEYS, NOW)
    assert [role.group(TOPIC, name) for name in (None, "main", "-x", "a-0", "0")] == ["", "main", "-x", "a-0", "0"]
    for bad in ("-0", "-17", "-", "a.b", "a/b", "", "x" * 65, "ａ", "a\n"):
        with pytest.raises(Refused):
            role.group(TOPIC, bad)


def test_parsing_is_total() -> None:
    """Whatever JSON comes, there is an answer and no exception."""
    dice = random.Random(3)

    def value(depth: int) -> Any:
        kinds = ["t", "a", "p", "id", "m", "part", "sg", "token", "topic", "notif", "create", "ack", "off"]
        pick = dice.randrange(7 if depth else 5)
        if pick == 5:
            return [value(depth - 1) for _ in range(dice.randrange(4))]
        if pick == 6:
            return {dice.choice(kinds): value(depth - 1) for _ in range(dice.randrange(6))}
        return [dice.choice(kinds), dice.randrange(-2, 2**40), None, True, dice.random()][pick]

    began = time.monotonic()
    for _ in range(3000):
        socket = Socket(dice.choice([Tool("tool", "tool-1"), Plugin(KEYS, NOW)]))
        message = msgspec.json.encode(value(4))
        effects = socket.receive(message)
        assert effects or socket.out or message == b"[]"
    assert time.monotonic() - began < 20
