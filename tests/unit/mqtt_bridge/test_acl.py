"""Rights on topics. The last tests judge by an own matcher of MQTT, not by the code's reading of filters."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtt_bridge.core import topics
from mqtt_bridge.core.acl import Acl, Client
from skep import access
from skep.access import ADMIN, CLIENT, Principal, User
from skep.tokens import Claims
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE


class Device(msgspec.Struct):
    network_id: int
    device_type_id: int
    is_blocked: bool = False


class Devices:
    """Three, in two networks."""

    def __init__(self) -> None:
        self.stored = {"mine": Device(1, 1), "other": Device(2, 1), "typed": Device(1, 2)}

    async def device(self, id: str, fresh: bool = False) -> Device | None:
        return self.stored.get(id)


def principal(
    networks: list[str] | None = None, types: list[str] | None = None, actions: list[int] | None = None, role: int = 1
) -> Principal:
    user = User(7, "u", role, access.ACTIVE, frozenset({1}), frozenset({1, 2}), all_device_types=False)
    claims = Claims(7, [0] if actions is None else actions, networks or ["*"], types or ["*"], 2**50)
    return access.principal(claims, user, 0)


ADMINISTRATOR = Client("a1", principal(role=ADMIN))
OWNER = Client("c1", principal(role=CLIENT))
ANONYMOUS = Client("n1")


@pytest.fixture
def acl() -> Acl:
    return Acl(Devices())


@pytest.mark.parametrize(
    "filter_",
    [
        "#", "+/#", "+/+", "+/+/#", "dh/#", "dh/+/#", "dh/+/1/1/mine/t", "+/notification/#", "+/request/#",
        "dh/request", "dh/request/#", "dh/request/c1", "dh/insert/#", "dh/response/#", "dh/response/+@c1",
        "dh/response/token@other", "dh/response/#@c1", "$share/g/#", "$share/g/dh/request/#", "$share/g/+/#",
        "$share/+/dh/notification/1/#", "$share/g/dh/response/token@c1", "$share/g", "$SYS/#", "$SYS/broker/clients",
        "$share/g/$SYS/#", "dh/notification/#", "dh/notification/2/#", "dh/notification/+/1/#",
        "dh/notification/01/#", "dh/notification/x/#", "dh/notification/1/1/other/t/more",
        "dh/notification/+/+/other/#", "dh/notification/+/+/missing/#", "dh/notification/1/+/ot#er", "dh/notific#",
        "dh/other/#", "dh/+", "", "a\0b",
    ],
)  # fmt: skip
async def test_a_client_is_refused(acl: Acl, filter_: str) -> None:
    assert not await acl.may_subscribe(OWNER, filter_)


@pytest.mark.parametrize(
    "filter_",
    [
        "dh/notification/1/1/#", "dh/notification/1/1/+/temperature", "dh/command/+/+/mine/#",
        "dh/command_update/1/2/#", "dh/notification/1/1/new/#", "dh/notification/+/+/mine",
        "$share/g/dh/notification/1/1/#",
        "dh/response/device/list@c1", "home/#", "+/lamp", "+", "$share/g/home/+",
    ],
)  # fmt: skip
async def test_a_client_may(acl: Acl, filter_: str) -> None:
    assert await acl.may_subscribe(OWNER, filter_)


@pytest.mark.parametrize("filter_", ["dh/notification/#", "dh/command/+/+/missing/#", "$SYS/#", "dh/notification/2/#"])
async def test_an_administrator_may(acl: Acl, filter_: str) -> None:
    assert await acl.may_subscribe(ADMINISTRATOR, filter_)


@pytest.mark.parametrize("filter_", ["#", "dh/#", "dh/+/#", "dh/request/#", "dh/response/#", "dh/response/token@c1"])
async def test_no_administrator_listens_to_requests_and_answers(acl: Acl, filter_: str) -> None:
    assert not await acl.may_subscribe(ADMINISTRATOR, filter_)


async def test_anonymous(acl: Acl) -> None:
    may = {
        f
        for f in ("dh/response/token@n1", "dh/response/authenticate@n1", "home/+")
        if await acl.may_subscribe(ANONYMOUS, f)
    }
    assert len(may) == 3
    for filter_ in ("dh/response/device/list@n1", "dh/response/token@c1", "dh/notification/1/1/#", "$SYS/#", "#"):
        assert not await acl.may_subscribe(ANONYMOUS, filter_)
    assert await acl.may_publish(ANONYMOUS, "dh/request/n1")
    assert not await acl.may_publish(ANONYMOUS, "dh/insert/notification/mine/t")


@pytest.mark.parametrize(
    ("kind", "action", "other"),
    [("notification", 4, 5), ("command", 5, 4), ("command_update", 5, 4)],
)
async def test_the_action_of_each_kind_is_needed(acl: Acl, kind: str, action: int, other: int) -> None:
    assert await acl.may_subscribe(Client("c1", principal(actions=[action])), f"dh/{kind}/1/1/#")
    assert not await acl.may_subscribe(Client("c1", principal(actions=[other])), f"dh/{kind}/1/1/#")


async def test_a_token_limited_to_a_device_type(acl: Acl) -> None:
    narrow = Client("c1", principal(types=["1"]))
    assert await acl.may_subscribe(narrow, "dh/notification/1/1/#")
    assert not await acl.may_subscribe(narrow, "dh/notification/1/#")
    assert not await acl.may_subscribe(narrow, "dh/notification/1/2/#")
    assert not await acl.may_subscribe(narrow, "dh/notification/+/+/typed/#")


@pytest.mark.parametrize(
    "topic",
    [
        "dh/notification/1/1/mine/t", "dh/command/1/1/mine/t", "dh/command_update/1/1/mine/t",
        "dh/response/token@other", "dh/response/token@c1", "dh/request/other", "dh/request", "dh/request/",
        "dh/insert/notification/other/t", "dh/insert/notification/missing/t", "dh/insert/command/mine/t", "dh/x",
        "dh", "$SYS/x", "$share/g/dh/request/c1",
    ],
)  # fmt: skip
async def test_a_client_may_not_publish(acl: Acl, topic: str) -> None:
    assert not await acl.may_publish(OWNER, topic)


async def test_a_client_may_publish(acl: Acl) -> None:
    for topic in ("dh/request/c1", "dh/insert/notification/mine/t", "home/lamp"):
        assert await acl.may_publish(OWNER, topic)
        assert await acl.may_publish(OWNER, topic, retain=True) == (not topic.startswith("dh/"))


async def test_a_plain_request_where_the_broker_names_the_publisher() -> None:
    assert await Acl(Devices(), names_publisher=True).may_publish(OWNER, "dh/request")


async def test_a_blocked_device_and_a_missing_action() -> None:
    devices = Devices()
    acl = Acl(devices)
    assert not await acl.may_publish(Client("c1", principal(actions=[4])), "dh/insert/notification/mine/t")
    devices.stored["mine"].is_blocked = True
    assert not await acl.may_publish(OWNER, "dh/insert/notification/mine/t")


def matches(filter_: str, topic: str) -> bool:
    """MQTT 5.0, 4.7, by the letter of the specification."""
    if filter_.startswith("$share/"):
        filter_ = "/".join(filter_.split("/")[2:])
    if topic.startswith("$") and filter_[:1] in ("+", "#"):
        return False
    wanted, levels = filter_.split("/"), topic.split("/")
    for w, level in itertools.zip_longest(wanted, levels):
        if w == "#":
            return True
        if w is None or level is None or (w != "+" and w != level):
            return False
    return True


PLACES = {"mine": (1, 1), "typed": (1, 2), "other": (2, 1), "elsewhere": (3, 3)}
FOREIGN = [
    topics.event(kind, *PLACES[device], device, name)
    for kind in (NOTIFICATION, COMMAND, UPDATE)
    for device in ("other", "elsewhere")
    for name in ("t", "u")
]
SECRET = ["dh/request", "dh/request/c1", "dh/request/other", "dh/response/token@other", "dh/insert/notification/mine/t"]
OWN = [topics.event(NOTIFICATION, *PLACES[d], d, "t") for d in ("mine", "typed")]
LEVEL = st.sampled_from(
    ["+", "#", "dh", "notification", "command", "command_update", "request", "response", "insert", "1", "2", "3",
     "mine", "other", "elsewhere", "typed", "t", "u", "token@other", "token@c1", "c1", "", "$share", "g"]
)  # fmt: skip
FILTER = st.lists(LEVEL, min_size=1, max_size=9).map("/".join)


@settings(max_examples=3_000, deadline=None)
@given(FILTER, st.sampled_from(["", "dh/", "dh/notification/", "$share/g/", "$share/g/dh/", "+/"]))
async def test_nothing_that_a_client_may_subscribe_to_matches_what_is_foreign(filter_: str, before: str) -> None:
    acl = Acl(Devices())
    for client in (OWNER, ANONYMOUS):
        if await acl.may_subscribe(client, before + filter_):
            seen = [topic for topic in FOREIGN + SECRET if matches(before + filter_, topic)]
            assert not seen
            assert client is OWNER or not [topic for topic in OWN if matches(before + filter_, topic)]


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(["1", "+"]), st.sampled_from(["1", "2", "+"]), st.sampled_from(["mine", "typed", "+"]))
async def test_what_is_wholly_the_clients_is_allowed(network: str, device_type: str, device: str) -> None:
    filter_ = f"dh/notification/{network}/{device_type}/{device}/#"
    limited = network != "+" and device_type != "+"
    assert await Acl(Devices()).may_subscribe(OWNER, filter_) == (limited or device != "+")
