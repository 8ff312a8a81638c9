"""Devices: the rules of saving one, lists within a scope, partial updates. Real PostgreSQL."""

import asyncio

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from skep import errors
from skep.metadata import devices as rules
from skep.metadata.rows import DeviceChanges
from skep.wire import fields, proxy
from tests.contract import metadata_support as support
from tests.contract.metadata_support import admin, client, container, opened, principal, unique

MISSING = 10**15


@pytest.fixture
async def metadata(postgres_url):
    async with opened(postgres_url) as metadata:
        yield metadata


async def saved(metadata, who, id=None, **changes):
    return (await metadata.devices.save(who, id or unique("d"), DeviceChanges(**changes)))[0]


# -- saving, in the order of the API's checks ------------------------------------------------------------------------

BAD = errors.BadRequest.__doc__
CASES = [
    # id, who, changes, error, text
    ("a b", "nobody", {"network_id": MISSING}, errors.BadRequest, rules.BAD_ID),
    ("", "member", {"name": "n"}, errors.BadRequest, rules.BAD_ID),
    ("ä", "member", {"name": "n"}, errors.BadRequest, rules.BAD_ID),
    ("a\n", "member", {"name": "n"}, errors.BadRequest, rules.BAD_ID),
    ("new", "homeless admin", {"network_id": MISSING}, errors.BadRequest, BAD),
    ("new", "homeless admin", {"network_id": -1, "name": "n"}, errors.BadRequest, BAD),
    ("new", "homeless admin", {"network_id": 2**63, "name": "n"}, errors.BadRequest, BAD),
    ("new", "nobody", {"network_id": MISSING}, errors.Forbidden, rules.NO_NETWORK),
    ("new", "member", {"network_id": -1, "name": "n"}, errors.Forbidden, rules.NO_NETWORK),
    ("new", "member", {"network_id": 2**63, "name": "n"}, errors.Forbidden, rules.NO_NETWORK),
    ("new", "typeless", {"device_type_id": MISSING, "name": "n"}, errors.Forbidden, rules.NO_DEVICE_TYPE),
    ("new", "nobody", {"network_id": 1, "device_type_id": MISSING}, errors.Forbidden, rules.NO_NETWORK),
    ("new", "nobody", {"name": "n", "device_type_id": MISSING}, errors.Forbidden, rules.NO_NETWORK),
    ("new", "homeless admin", {"name": "n"}, errors.Forbidden, rules.NO_NETWORK),
    ("new", "other token", {"network_id": 1, "name": "n"}, errors.Forbidden, rules.NO_NETWORK),
    ("new", "other token", {"name": "n"}, errors.Forbidden, rules.NO_NETWORK),
    ("new", "member", {"device_type_id": MISSING}, errors.BadRequest, BAD),
    ("new", "typeless", {"device_type_id": 1, "name": "n"}, errors.Forbidden, rules.NO_DEVICE_TYPE),
    ("new", "typeless", {"name": "n"}, errors.Forbidden, rules.NO_DEVICE_TYPE),
    ("foreign", "member", {"name": ""}, errors.Forbidden, rules.NO_DEVICE),
    ("foreign", "nobody", {"name": "n"}, errors.Forbidden, rules.NO_NETWORK),
    ("x" * 49, "member", {"name": "n"}, errors.BadRequest, rules.LONG_ID),
    ("x" * 49, "nobody", {"name": "n"}, errors.Forbidden, rules.NO_NETWORK),
    ("new", "member", {}, errors.BadRequest, rules.NO_NAME),
    ("new", "member", {"name": None}, errors.BadRequest, rules.NO_NAME),
    ("new", "member", {"name": ""}, errors.BadRequest, fields.BAD_DEVICE_NAME),
    ("new", "member", {"name": "n" * 129}, errors.BadRequest, fields.BAD_DEVICE_NAME),
    ("new", "member", {"name": "a\0b"}, errors.BadRequest, BAD),
    ("new", "member", {"name": "\ud800"}, errors.BadRequest, BAD),
    ("new", "member", {"name": "n", "data": b'"' + b"x" * proxy.MAX_BODY + b'"'}, errors.TooLarge, None),
]


@pytest.mark.parametrize(("id", "who", "changes", "error", "text"), CASES)
async def test_refused_saves(metadata, id, who, changes, error, text):
    network, _ = await container(metadata)
    callers = {
        "nobody": lambda: client(metadata),
        "member": lambda: client(metadata, 1),
        "homeless admin": lambda: admin(metadata),
        "typeless": lambda: client(metadata, 1, types=[]),
        "other token": lambda: narrowed(metadata, 1, str(network)),
    }
    caller = await callers[who]()
    id = await support.device(metadata, network) if id == "foreign" else id
    await support.empty_outbox(metadata)
    before = await metadata.devices.get(id)
    with pytest.raises(error) as raised:
        await metadata.devices.save(caller, id, DeviceChanges(**changes))
    assert type(raised.value) is error
    if text is not None:
        assert raised.value.text == text
    assert await metadata.devices.get(id) == before
    assert await support.outbox_rows(metadata) == []


async def narrowed(metadata, member_of, token_network):
    user = await client(metadata, member_of)
    return await principal(metadata, user.user_id, networks=[token_network])


async def test_a_new_device_takes_the_lowest_network_of_the_member_and_the_lowest_type(metadata):
    (first, _), (second, _) = await container(metadata), await container(metadata)
    device, created, notified = await metadata.devices.save(
        await client(metadata, second, first), unique("d"), DeviceChanges(name="n")
    )
    assert created
    assert (device.network_id, device.device_type_id, device.is_blocked, device.data) == (first, 1, False, None)
    assert notified.device_id == device.id


async def test_the_default_type_is_the_lowest_the_caller_sees(metadata):
    _, device_type = await container(metadata)
    device = await saved(metadata, await client(metadata, 1, types=[device_type]), name="n")
    assert device.device_type_id == device_type


async def test_an_admin_saves_into_any_network_that_its_token_allows(metadata):
    network, device_type = await container(metadata)
    device = await saved(metadata, await admin(metadata), name="n", network_id=network, device_type_id=device_type)
    assert (device.network_id, device.device_type_id) == (network, device_type)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"name": None, "data": UNSET, "network_id": None, "device_type_id": None, "is_blocked": None}, {}),
        ({"data": None}, {"data": None}),
        ({"data": b'{"b": 2}'}, {"data": b'{"b": 2}'}),
        ({"name": "other"}, {"name": "other"}),
        ({"is_blocked": False}, {"is_blocked": False}),
        ({"device_type_id": 3}, {"device_type_id": 3}),
    ],
)
async def test_an_update_changes_what_is_given_and_nothing_else(metadata, changes, expected):
    network, _ = await container(metadata)
    who = await admin(metadata, network)
    old = await saved(
        metadata, who, name="name", data=b'{ "a":1 }', network_id=network, device_type_id=2, is_blocked=True
    )
    new, created, _ = await metadata.devices.save(who, old.id, DeviceChanges(**changes))
    assert not created
    assert new == msgspec.structs.replace(old, **expected)
    assert await metadata.devices.get(old.id) == new


async def test_a_device_moves_only_between_networks_of_the_caller(metadata):
    (one, _), (two, _), (foreign, _) = [await container(metadata) for _ in range(3)]
    who = await client(metadata, one, two)
    device = await saved(metadata, who, name="n", network_id=one)
    with pytest.raises(errors.Forbidden, match=rules.NO_NETWORK):
        await saved(metadata, who, device.id, network_id=foreign)
    assert (await saved(metadata, who, device.id, network_id=two)).network_id == two


async def test_only_an_administrator_changes_and_unblocks_a_blocked_device(metadata):
    who, boss = await client(metadata, 1), await admin(metadata, 1)
    device = await saved(metadata, who, name="n", is_blocked=True)
    for changes in ({"is_blocked": False}, {"name": "other"}, {"is_blocked": True}, {}):
        with pytest.raises(errors.Forbidden, match=rules.BLOCKED):
            await saved(metadata, who, device.id, **changes)
    assert await metadata.devices.get(device.id) == device
    assert (await saved(metadata, boss, device.id, name="other")).is_blocked
    assert not (await saved(metadata, boss, device.id, is_blocked=False)).is_blocked
    assert (await saved(metadata, who, device.id, name="third")).name == "third"


async def test_concurrent_first_saves_make_one_device(metadata):
    who = await client(metadata, 1)
    id = unique("d")
    results = await asyncio.gather(*(metadata.devices.save(who, id, DeviceChanges(name=f"n{i}")) for i in range(6)))
    assert sorted(created for _, created, _ in results) == [False] * 5 + [True]


async def test_deleting(metadata):
    id = await support.device(metadata, 1)
    assert await metadata.devices.delete(id)
    assert not await metadata.devices.delete(id)
    assert await metadata.devices.get(id) is None
    for odd in ("a/b", "", "\0", "x" * 500, "\ud800"):
        assert await metadata.devices.get(odd) is None
        assert not await metadata.devices.delete(odd)


# -- lists -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def fleet(metadata):
    network, device_type = await container(metadata)
    who = await client(metadata, network)
    for name in ("b", "a", "B", "a%c", "abc"):
        await saved(metadata, who, name=name, network_id=network)
    await saved(metadata, who, name="typed", network_id=network, device_type_id=device_type)
    return who, network


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"sort_field": "name"}, ["B", "a", "a%c", "abc", "b", "typed"]),
        ({"sort_field": "NAME", "descending": True, "take": 2}, ["typed", "b"]),
        ({"sort_field": "name", "take": 2, "skip": 1}, ["a", "a%c"]),
        ({"sort_field": "deviceType", "descending": True, "take": 1}, ["typed"]),
        ({"sort_field": "name", "name": "a"}, ["a"]),
        ({"sort_field": "name", "name_pattern": "a%"}, ["a", "a%c", "abc"]),
        ({"sort_field": "name", "name_pattern": r"a\%%"}, ["a%c"]),
        ({"sort_field": "name", "name_pattern": "_"}, ["B", "a", "b"]),
        ({"name_pattern": "a%", "name": "b"}, []),
        ({"take": 0}, []),
        ({"skip": 2**62}, []),
        ({"name": "' OR 1=1 --"}, []),
    ],
)
async def test_filters_sorting_and_pages(metadata, fleet, query, names):
    who, network = fleet
    assert [d.name for d in await metadata.devices.list(who, **query)] == names
    same = {"network_id": network, "network_name": (await metadata.networks.get(network)).name}
    assert [d.name for d in await metadata.devices.list(who, **query, **same)] == names
    filters = {k: v for k, v in query.items() if k.startswith("name")}
    if {"take", "skip"}.isdisjoint(query):
        assert await metadata.devices.count(who, **filters, **same) == len(names)


@pytest.mark.parametrize(
    "query",
    [
        {"sort_field": "password_hash;--"},
        {"sort_field": "data"},
        {"take": -1},
        {"skip": -1},
        {"skip": 2**63},
        {"name_pattern": "%" * 129},
        {"name_pattern": "a\\"},
        {"name": "a\0"},
    ],
)
async def test_impossible_lists(metadata, query):
    with pytest.raises(errors.BadRequest):
        await metadata.devices.list(await client(metadata, 1), **query)


async def test_pages_of_equal_names_neither_overlap_nor_leave_gaps(metadata):
    network, _ = await container(metadata)
    who = await client(metadata, network)
    ids = {(await saved(metadata, who, name="same")).id for _ in range(7)}
    pages = [await metadata.devices.list(who, sort_field="name", take=2, skip=s) for s in range(0, 8, 2)]
    assert [d.id for page in pages for d in page] == sorted(ids)


@pytest.fixture(scope="module")
def grid():
    """Made once for all examples: 3 networks x 3 types, a device in each."""
    return {}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_lists_never_show_what_the_principal_may_not_see(postgres_url, grid, data):
    async with opened(postgres_url) as metadata:
        if not grid:
            networks, types = zip(*[await container(metadata) for _ in range(3)], strict=True)
            devices = {(n, t): await support.device(metadata, n, t) for n in networks for t in types}
            grid.update(networks=networks, types=types, devices=devices)
        networks, types = st.sampled_from(grid["networks"]), st.sampled_from(grid["types"])
        member_of = data.draw(st.sets(networks), label="member of")
        own_types = data.draw(st.none() | st.sets(types), label="own types")
        user = await client(metadata, *member_of, types=None if own_types is None else list(own_types))
        token_networks = data.draw(st.just(["*"]) | st.lists(networks.map(str), min_size=1), label="token networks")
        token_types = data.draw(st.just(["*"]) | st.lists(types.map(str), min_size=1), label="token types")
        who = await principal(metadata, user.user_id, token_networks, token_types)

        def may(network, device_type):
            in_token = (token_networks == ["*"] or str(network) in token_networks) and (
                token_types == ["*"] or str(device_type) in token_types
            )
            return in_token and network in member_of and (own_types is None or device_type in own_types)

        expected = {id for (n, t), id in grid["devices"].items() if may(n, t)}
        assert {d.id for d in await metadata.devices.list(who)} == expected
        assert await metadata.devices.count(who) == len(expected)
        for network in grid["networks"]:
            inside = {d.id for d in await metadata.devices.within(who, network_id=network)}
            assert inside == {id for (n, t), id in grid["devices"].items() if n == network and may(n, t)}
        seen = {n.id for n in await metadata.networks.list(who)}
        assert seen == {n for n in member_of if token_networks == ["*"] or str(n) in token_networks}
        assert await metadata.networks.count(who) == len(seen)
        listed = {t.id for t in await metadata.device_types.list(who)} & set(grid["types"])
        assert listed == {t for t in grid["types"] if who.sees_device_type(t)}
