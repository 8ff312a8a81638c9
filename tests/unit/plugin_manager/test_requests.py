"""What callers ask for, checked and cut to what they see."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from plugin_manager.core import filters, requests
from plugin_manager.core.requests import Existing
from skep import access
from skep.access import Principal, User
from skep.errors import BadRequest, Forbidden, NotFound
from skep.metadata.rows import PLUGIN_ACTIVE, PLUGIN_INACTIVE, Device, PluginChanges
from skep.tokens import Claims
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE
from skep.wire.plugin_api import FilterQuery, Registration, UpdateQuery
from skep.wire.plugins import Filter
from tests.unit.plugin_manager import build

ADMIN = User(1, "admin", access.ADMIN, access.ACTIVE)
CLIENT = User(7, "x", access.CLIENT, access.ACTIVE, frozenset({1, 2}))


class Some:
    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    async def get_many(self, ids: list[int]) -> dict[int, object]:
        return {id: object() for id in ids if id in self.ids}


class Devices:
    """d1 is in network 1, d2 in network 3; both are of device type 11."""

    async def get(self, id: str) -> Device | None:
        network = {"d1": 1, "d2": 3}.get(id)
        return None if network is None else Device(id, id, None, network, 11, False)


EXISTING = Existing(Some(build.NETWORKS), Some(build.TYPES), Devices())


def caller(user: User = CLIENT, topic: str | None = None, **claims: Any) -> Principal:
    given = {"actions": [0], "networks": ["*"], "device_types": ["*"], "expires": 2**52, **claims}
    user_id = None if topic else user.id
    return access.principal(Claims(user_id=user_id, topic=topic, **given), user, 0)


async def wanted(who: Principal, present: Filter | None = None, **query: Any) -> Filter:
    return await requests.wanted(who, FilterQuery(**query), EXISTING, present)


async def test_nothing_asked_is_everything_the_owner_sees():
    assert await wanted(caller()) == Filter()
    assert await wanted(caller(ADMIN)) == Filter()
    assert await wanted(caller(), network_ids=[], names=[], device_id="") == Filter()


async def test_what_is_not_seen_is_left_out():
    assert (await wanted(caller(), network_ids=[3, 2, 2, 9])).networks == [2]
    assert (await wanted(caller(ADMIN), network_ids=[3, 2])).networks == [3, 2]
    with pytest.raises(Forbidden):
        await wanted(caller(), network_ids=[3])
    with pytest.raises(Forbidden):
        await wanted(caller(), device_type_ids=[99])
    with pytest.raises(NotFound, match=r"Networks with such networkIds wasn't found: \{\[9\]\}"):
        await wanted(caller(ADMIN), network_ids=[1, 9])


async def test_a_device_wins_over_networks_which_are_checked_all_the_same():
    assert await wanted(caller(), device_id="d1", network_ids=[2]) == Filter(device_id="d1")
    for query in ({"device_id": "d2"}, {"device_id": "d3"}, {"device_id": "d1", "network_ids": [3]}):
        with pytest.raises(Forbidden):
            await wanted(caller(), **query)
    with pytest.raises(NotFound):
        await wanted(caller(ADMIN), device_id="d3")


@pytest.mark.parametrize(
    ("flags", "kinds"),
    [
        ((None, None, None), None),
        ((True, None, None), [COMMAND]),
        ((True, True, True), [COMMAND, UPDATE, NOTIFICATION]),
        ((False, None, True), [NOTIFICATION]),
        ((False, None, None), BadRequest),
        ((False, False, False), BadRequest),
    ],
)
async def test_kinds(flags, kinds):
    names = ("return_commands", "return_updated_commands", "return_notifications")
    query = dict(zip(names, flags, strict=True))
    if kinds is BadRequest:
        with pytest.raises(BadRequest, match="at least one 'return"):
            await wanted(caller(), **query)
    else:
        assert (await wanted(caller(), **query)).kinds == kinds


async def test_a_narrowed_token_leaves_its_bounds_in_the_filter():
    narrow = caller(networks=["1"], device_types=["11", "12"])
    assert await wanted(narrow) == Filter(networks=[1], device_types=[11, 12])
    assert await wanted(narrow, device_id="d1") == Filter(networks=[1], device_types=[11, 12], device_id="d1")
    assert await wanted(narrow, network_ids=[2, 1]) == Filter(networks=[1], device_types=[11, 12])
    with pytest.raises(Forbidden):
        await wanted(narrow, network_ids=[2])
    few = caller(actions=[16], networks=["1", "2"])
    assert (await wanted(few)).networks == [1, 2]
    # What a login gives names the networks of that day, and is its owner all the same.
    login = access.principal(access.login_claims(CLIENT, 2**52), CLIENT, 0)
    assert await wanted(login) == Filter()


async def test_a_plugin_stays_within_what_it_has():
    itself = caller(topic=build.TOPIC)
    present = Filter(kinds=[NOTIFICATION, COMMAND], networks=[1], names=["heat"])
    assert await wanted(itself, present) == present
    assert await wanted(itself, present, device_id="d1", return_commands=True) == Filter(
        kinds=[COMMAND], networks=[1], device_id="d1", names=["heat"]
    )
    for query in ({"network_ids": [2]}, {"names": ["light"]}, {"return_updated_commands": True}):
        with pytest.raises(Forbidden):
            await wanted(itself, present, **query)
    with pytest.raises(Forbidden):
        await wanted(itself, Filter(device_id="d9"), device_id="d1")


tokens = st.builds(
    lambda networks, types, actions: {"networks": networks, "device_types": types, "actions": actions},
    st.just(["*"]) | st.lists(st.sampled_from(list(map(str, build.NETWORKS))), unique=True),
    st.none() | st.just(["*"]) | st.lists(st.sampled_from(list(map(str, build.TYPES))), unique=True),
    st.sampled_from([[0], [16], [16, 3]]),
)


@settings(max_examples=150, deadline=None)
@given(build.users, tokens, build.filters, st.lists(build.messages, max_size=30))
async def test_no_token_registers_more_than_it_shows(user, claims, asked, sent):
    """Of the caller's rights as of now, whatever is asked for."""
    if user is None or user.status != access.ACTIVE:
        return
    who = caller(user, **claims)
    flags = {kind: (asked.kinds is not None and kind in asked.kinds) or None for kind in build.KINDS}
    query = FilterQuery(
        network_ids=asked.networks,
        device_type_ids=asked.device_types,
        names=asked.names,
        return_commands=flags[COMMAND],
        return_updated_commands=flags[UPDATE],
        return_notifications=flags[NOTIFICATION],
    )
    try:
        made = await requests.wanted(who, query, EXISTING)
    except (Forbidden, NotFound):
        return
    interests = filters.extent(build.state(made, user)).interests()
    for kind, network, device_type, device, name in sent:
        matched = filters.covers(interests, [(kind, network, device_type, device, name)])
        assert not matched or (who.sees(network, device_type) and (asked.names is None or name in asked.names))


def test_names_and_descriptions():
    assert requests.registration(Registration("a.b@c_d-1", None, Raw(b'{"a":1}'))) == ("a.b@c_d-1", None, b'{"a":1}')
    for body in (
        Registration(None),
        Registration("ab"),
        Registration("x" * 129),
        Registration("a b"),
        Registration("äöü"),
        Registration("abc\n"),
        Registration("abc", "x"),
        Registration("abc", "a/b"),
        Registration("abc", None, Raw(b"[]")),
        Registration("abc", None, Raw(b'{"a":"' + b"x" * 4_096 + b'"}')),
    ):
        with pytest.raises(BadRequest):
            requests.registration(body)


def test_changes():
    assert requests.changes(UpdateQuery()) == PluginChanges()
    made = requests.changes(UpdateQuery(status="Active", parameters="null"))
    assert (made.status, made.enabled, made.parameters) == (PLUGIN_ACTIVE, True, None)
    made = requests.changes(UpdateQuery(status="INACTIVE", parameters=' {"a": 1}'))
    assert (made.status, made.enabled, made.parameters) == (PLUGIN_INACTIVE, False, b'{"a": 1}')
    assert requests.changes(UpdateQuery(name="abc")).status is UNSET
    for query in (
        UpdateQuery(status="CREATED"),
        UpdateQuery(parameters="{"),
        UpdateQuery(parameters="[" * 100_000),
        UpdateQuery(name=""),
    ):
        with pytest.raises(BadRequest):
            requests.changes(query)


def test_retention():
    assert requests.retention(FilterQuery()) is None
    assert requests.retention(FilterQuery(retention=60)) == 60_000
    for seconds in (59, 0, -1, 604_801):
        with pytest.raises(BadRequest):
            requests.retention(FilterQuery(retention=seconds))


def test_names_of_messages():
    assert not requests.names_filter(UpdateQuery(name="abc", status="ACTIVE", retention=100))
    assert requests.names_filter(UpdateQuery(names=[]))


@pytest.mark.parametrize("names", [["x" * 129], [str(n) for n in range(101)]])
async def test_too_many_or_long_names(names):
    with pytest.raises(BadRequest):
        await wanted(caller(), names=names)
