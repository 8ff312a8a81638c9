"""The list of a user's rights, judged by an own reading of Mosquitto's rules, against what `acl.py` says."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontend.core.actions import table
from mqtt_bridge.core import roles, topics
from mqtt_bridge.core.acl import Acl, Client
from mqtt_bridge.core.requests import ACTIONS, NO_ACTION
from mqtt_bridge.core.roles import LITERAL, PATTERN, RECEIVE, SEND, Entry
from skep import access
from skep.access import ADMIN, CLIENT, Principal, User
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE

NAME = "c1"
PLACES = {"mine": (1, 1), "typed": (1, 2), "other": (2, 1), "elsewhere": (3, 3)}


class Device(msgspec.Struct):
    network_id: int
    device_type_id: int
    is_blocked: bool = False


class Devices:
    async def device(self, id: str, fresh: bool = False) -> Device | None:
        return Device(*PLACES[id]) if id in PLACES else None


ACL = Acl(Devices())


def principal(role: int, networks: set[int], types: set[int] | None) -> Principal:
    user = User(7, "u", role, access.ACTIVE, frozenset(networks), frozenset(types or ()), types is None)
    return access.principal(access.login_claims(user, 2**50), user, 0)


USERS = {
    "a network": principal(CLIENT, {1}, None),
    "a network and a type": principal(CLIENT, {1}, {1}),
    "networks and types": principal(CLIENT, {1, 3}, {1, 3}),
    "nothing": principal(CLIENT, set(), None),
    "an administrator": principal(ADMIN, set(), None),
}
WHO = pytest.mark.parametrize("who", USERS)


def seen(who: Principal) -> list[str]:
    return [] if who.sees_everything else [name for name, place in PLACES.items() if who.sees(*place)]


ROLES = {name: roles.entries(who, NAME, seen(who), ["home"]) for name, who in USERS.items()}


def covers(pattern: str, filter_: str) -> bool:
    """Whether a filter matches no more than the pattern, level by level, as Mosquitto compares them."""
    for p, f in itertools.zip_longest(pattern.split("/"), filter_.split("/")):
        if p == "#":
            return True
        if p is None or f is None or f == "#" or (p != "+" and p != f):
            return False
    return True


def listed(role: frozenset[Entry], kind: str, topic: str) -> bool:
    return any(entry.kind == kind and covers(entry.topic, topic) for entry in role)


def may_subscribe(role: frozenset[Entry], filter_: str) -> bool:
    return Entry(LITERAL, filter_) in role or listed(role, PATTERN, filter_)


def matches(filter_: str, topic: str) -> bool:
    """MQTT 5.0, 4.7."""
    if filter_.startswith("$share/"):
        filter_ = "/".join(filter_.split("/")[2:])
    if topic.startswith("$") and filter_[:1] in ("+", "#"):
        return False
    return covers(filter_, topic)


EVENTS = {
    topics.event(kind, *place, device, name): (kind, place)
    for kind in (NOTIFICATION, COMMAND, UPDATE)
    for device, place in PLACES.items()
    for name in ("t", "u")
}
SECRET = ["dh/request", "dh/request/c1", "dh/request/other", "dh/response/token@other", "dh/insert/notification/mine/t"]
ALL = [*EVENTS, *SECRET, "dh/response/token@c1", "$SYS/broker/clients", "$CONTROL/dynamic-security/v1", "home/t"]
LEVEL = st.sampled_from(
    ["+", "#", "dh", "notification", "command", "command_update", "request", "response", "insert", "1", "2", "3", "01",
     "mine", "other", "elsewhere", "typed", "t", "u", "token@other", "token@c1", "c1", "", "$share", "g", "home"]
)  # fmt: skip
FILTER = st.lists(LEVEL, min_size=1, max_size=7).map("/".join).filter(lambda f: "#/" not in f)
BEFORE = st.sampled_from(
    ["", "dh/", "dh/notification/", "dh/notification/+/+/", "$share/g/", "$share/g/dh/", "+/", "$SYS/"]
)


@settings(max_examples=1_000, deadline=None)
@given(st.sampled_from(list(USERS)), FILTER, BEFORE)
async def test_no_role_lets_subscribe_to_more_than_the_rights_do(who: str, filter_: str, before: str) -> None:
    """Apart from filters that match nothing."""
    asked = before + filter_
    if may_subscribe(ROLES[who], asked) and any(matches(asked, topic) for topic in ALL):
        assert await ACL.may_subscribe(Client(NAME, USERS[who]), asked)


@WHO
def test_a_role_hands_out_the_events_of_its_users_and_no_others(who: str) -> None:
    for topic, (_, place) in EVENTS.items():
        assert listed(ROLES[who], RECEIVE, topic) == USERS[who].sees(*place), topic


@WHO
async def test_filters_as_the_documentation_has_them(who: str) -> None:
    client, role = Client(NAME, USERS[who]), ROLES[who]
    ids, devices = ["+", "1", "2"], ["+", *PLACES, "missing"]
    for kind, place in itertools.product(topics.KINDS, itertools.product(ids, ids, devices, ["#", "t", "+"])):
        filter_ = "/".join(["dh", kind, *place])
        assert may_subscribe(role, filter_) == await ACL.may_subscribe(client, filter_), filter_


@WHO
@pytest.mark.parametrize("place", ["#", "1/#", "1/1/#", "+/1/#", "2/#", "3/3/+/t"])
async def test_shared_subscriptions(who: str, place: str) -> None:
    filter_ = f"$share/g/dh/notification/{place}"
    assert may_subscribe(ROLES[who], filter_) == await ACL.may_subscribe(Client(NAME, USERS[who]), filter_)


@WHO
async def test_publishing(who: str) -> None:
    client, role = Client(NAME, USERS[who]), ROLES[who]
    own = [f"dh/insert/notification/{device}/t" for device in PLACES]
    for topic in [*own, *ALL, "dh/request", "dh/request/", "dh", "dh/insert/command/mine/t", "home/lamp", "$SYS/x"]:
        assert listed(role, SEND, topic) == await ACL.may_publish(client, topic), topic


async def test_ordinary_topics_are_those_that_were_named() -> None:
    for role in ROLES.values():
        for filter_ in ("home/#", "home/+/lamp", "$share/g/home/#"):
            assert may_subscribe(role, filter_)
        for filter_ in ("office/#", "+/lamp", "homes"):
            assert not may_subscribe(role, filter_)
        assert not listed(role, SEND, "office/lamp")


def test_answers_to_every_action_of_the_api_can_be_subscribed_to() -> None:
    assert set(table.names()) | {NO_ACTION} == ACTIONS
    for action in table.names():
        assert may_subscribe(ROLES["nothing"], topics.response(action, NAME))


def test_a_huge_user_gets_a_role_all_the_same() -> None:
    huge = principal(CLIENT, set(range(1, 400)), set(range(1, 100)))
    assert roles.is_cut(huge)
    assert not roles.is_cut(USERS["networks and types"])
    receives = [entry for entry in roles.entries(huge, NAME, [], []) if entry.kind == RECEIVE]
    assert len(receives) == 3 * roles.MAX_PLACES + 1
    wide = principal(CLIENT, set(range(1, 1000)), None)
    assert len([e for e in roles.entries(wide, NAME, [], []) if e.kind == RECEIVE]) == 3 * roles.MAX_PLACES + 1
