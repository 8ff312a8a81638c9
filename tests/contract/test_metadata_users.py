"""Users, memberships, logins. Real PostgreSQL."""

import asyncio
import time

import psycopg
import pytest

from skep import errors
from skep.metadata import users as rules
from skep.metadata.rows import ACTIVE, ADMIN, CLIENT, DISABLED, LOCKED_OUT, NewUser, UserChanges
from skep.wire import fields
from tests.contract.metadata_support import admin, client, container, device, opened, unique

MISSING = 10**15


@pytest.fixture
async def metadata(postgres_url):
    async with opened(postgres_url) as metadata:
        yield metadata


@pytest.fixture
async def boss(metadata):
    return await admin(metadata, 1)


async def new(metadata, **fields):
    return await metadata.users.insert(
        NewUser(**{"login": unique("user"), "password_hash": "h", "role": CLIENT} | fields)
    )


async def test_inserting_and_reading(metadata):
    user = await new(metadata, login="  some.one@x-y_z ", data=b'{"a": 1}', status=DISABLED)
    assert user.login == "some.one@x-y_z"
    assert await metadata.users.get(user.id) == user
    assert await metadata.users.by_login(" some.one@x-y_z") == user
    assert (user.data, user.status, user.last_login, user.all_device_types) == (b'{"a": 1}', DISABLED, None, True)
    assert "password" not in repr(user)
    for odd in ("SOME.ONE@x-y_z", "\0", "", "' OR 1=1 --"):
        assert await metadata.users.by_login(odd) is None
    assert await metadata.users.get(2**70) is None


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"login": "ab"}, errors.BadRequest, fields.BAD_LOGIN),
        ({"login": " ab "}, errors.BadRequest, fields.BAD_LOGIN),
        ({"login": "x" * 129}, errors.BadRequest, fields.BAD_LOGIN),
        ({"login": "a b c"}, errors.BadRequest, fields.BAD_LOGIN_SYMBOLS),
        ({"role": 2}, errors.BadRequest, fields.BAD_ROLE),
        ({"status": 3}, errors.BadRequest, None),
        ({"login": "taken"}, errors.Forbidden, "User with such login already exists. Please, select another one"),
    ],
)
async def test_refused_users(metadata, boss, fields, error, text):
    if await metadata.users.by_login("taken") is None:
        await new(metadata, login="taken")
    with pytest.raises(error, match=text):
        await new(metadata, **fields)
    user = await new(metadata)
    with pytest.raises(error, match=text):
        await metadata.users.update(boss, user.id, UserChanges(**fields))
    assert await metadata.users.get(user.id) == user


@pytest.mark.parametrize(
    ("changes", "column", "value"),
    [
        ({}, "data", b"{}"),
        ({"data": None}, "data", None),
        ({"password_hash": "other"}, "password_hash", "other"),
        ({"password_hash": "other"}, "data", b"{}"),
        ({"login": None, "role": None, "status": None}, "status", ACTIVE),
        ({"role": ADMIN}, "role", ADMIN),
        ({"status": LOCKED_OUT}, "status", LOCKED_OUT),
        ({"intro_reviewed": True}, "intro_reviewed", True),
    ],
)
async def test_an_update_changes_what_is_given(metadata, boss, changes, column, value):
    user = await new(metadata, data=b"{}")
    changed = await metadata.users.update(boss, user.id, UserChanges(**changes))
    assert getattr(changed, column) == value
    assert await metadata.users.get(user.id) == changed


@pytest.mark.parametrize("changes", [{"login": "other-login"}, {"status": ACTIVE}, {"role": ADMIN}])
async def test_a_client_changes_no_login_status_or_role(metadata, changes):
    caller = await client(metadata)
    with pytest.raises(errors.Forbidden, match=rules.ADMIN_ONLY):
        await metadata.users.update(caller, caller.user_id, UserChanges(**changes))
    changed = await metadata.users.update(caller, caller.user_id, UserChanges(password_hash="n", data=b"1"))
    assert (changed.password_hash, changed.role) == ("n", CLIENT)


async def test_deleting(metadata, boss):
    network, _ = await container(metadata)
    user = await client(metadata, network)
    id = await device(metadata, network)
    await metadata.users.delete(boss, user.user_id)
    assert await metadata.users.get(user.user_id) is None
    assert await metadata.devices.get(id) is not None
    with pytest.raises(errors.NotFound, match=f"User with id = {user.user_id} not found"):
        await metadata.users.delete(boss, user.user_id)
    with pytest.raises(errors.Forbidden, match=rules.NOT_ONESELF):
        await metadata.users.delete(boss, boss.user_id)


async def test_lists(metadata):
    prefix = unique("listed")
    ids = [(await new(metadata, login=f"{prefix}{x}", role=r)).id for x, r in (("b", 0), ("a", 1), ("_", 1))]

    async def listed(**query):
        return [ids.index(u.id) for u in await metadata.users.list(**query)]

    assert await listed(login_pattern=f"{prefix}%") == [0, 1, 2]
    assert await listed(login_pattern=f"{prefix}%", sort_field="Login") == [2, 1, 0]
    assert await listed(login_pattern=f"{prefix}%", sort_field="id", descending=True, take=1, skip=1) == [1]
    assert await listed(login_pattern=f"{prefix}%", login="ignored", role=1) == [1, 2]
    assert await listed(login=f"{prefix}a", status=ACTIVE) == [1]
    assert await listed(login=f"{prefix}a", status=2**70) == []
    assert await metadata.users.count(login_pattern=f"{prefix}%", role=1) == 2
    with pytest.raises(errors.BadRequest):
        await metadata.users.list(sort_field="password_hash")


async def test_memberships(metadata):
    network, _ = await container(metadata)
    user = await new(metadata)
    missing = f"Network with id {network} for user with id {user.id} was not found"
    with pytest.raises(errors.NotFound, match=missing):
        await metadata.users.network(user.id, network)
    for _ in range(2):
        await metadata.users.assign_network(user.id, network)
    assert (await metadata.users.network(user.id, network)).id == network
    assert [n.id for n in await metadata.users.networks(user.id)] == [network]
    assert (await metadata.users.rights(user.id)).networks == {network}
    for _ in range(2):
        await metadata.users.unassign_network(user.id, network)
    assert await metadata.users.networks(user.id) == []
    with pytest.raises(errors.NotFound, match=f"User with id = {MISSING} not found"):
        await metadata.users.assign_network(MISSING, network)
    with pytest.raises(errors.NotFound, match=f"Network with id = {MISSING} not found"):
        await metadata.users.assign_network(user.id, MISSING)


async def test_device_types(metadata):
    _, device_type = await container(metadata)
    user = await new(metadata)
    for change in (metadata.users.assign_device_type, metadata.users.unassign_device_type):
        with pytest.raises(errors.Forbidden, match=rules.ALL_TYPES):
            await change(user.id, device_type)
    assert device_type in [t.id for t in await metadata.users.device_types(user.id)]
    assert (await metadata.users.device_type(user.id, device_type)).id == device_type
    await metadata.users.all_device_types(user.id, False)
    assert await metadata.users.device_types(user.id) == []
    with pytest.raises(
        errors.NotFound, match=f"Device type with id {device_type} for user with id {user.id} not found"
    ):
        await metadata.users.device_type(user.id, device_type)
    await metadata.users.assign_device_type(user.id, device_type)
    rights = await metadata.users.rights(user.id)
    assert (rights.all_device_types, rights.device_types) == (False, {device_type})
    await metadata.users.all_device_types(user.id, True)
    rights = await metadata.users.rights(user.id)
    assert (rights.all_device_types, rights.device_types) == (True, frozenset())
    with pytest.raises(errors.NotFound, match=f"Device type with id = {MISSING} not found"):
        await metadata.users.assign_device_type(user.id, MISSING)


async def test_failed_logins_lock_only_where_an_admin_said_when(metadata):
    user = await new(metadata)
    assert [await metadata.users.login_failed(user.id) for _ in range(12)] == list(range(1, 13))
    assert (await metadata.users.get(user.id)).status == ACTIVE
    await metadata.users.login_succeeded(user.id)
    await metadata.configuration.put("user.login.maxAttempts", "2")
    try:
        await metadata.users.login_failed(user.id)
        assert (await metadata.users.rights(user.id)).status == ACTIVE
        await metadata.users.login_failed(user.id)
    finally:
        await metadata.configuration.delete("user.login.maxAttempts")
    locked = await metadata.users.get(user.id)
    assert (locked.status, locked.login_attempts) == (LOCKED_OUT, 0)


async def test_the_last_login_is_noted_once_a_while(metadata):
    user = await new(metadata)
    now = time.time() * 1000
    first = await metadata.users.login_succeeded(user.id)
    assert abs(first - now) < 5000
    await metadata.configuration.put("user.login.lastTimeout", "60000")
    assert await metadata.users.login_succeeded(user.id) == first
    await metadata.configuration.put("user.login.lastTimeout", "0")
    assert await metadata.users.login_succeeded(user.id) >= first


async def test_who_is_seen_has_logged_in(metadata, postgres_url):
    new_one, old, busy = [await new(metadata) for _ in range(3)]
    await metadata.configuration.put("user.login.lastTimeout", "60000")
    first = await metadata.users.login_succeeded(old.id)
    async with await psycopg.AsyncConnection.connect(postgres_url) as writing:
        await writing.execute("SELECT 1 FROM users WHERE id = %s FOR UPDATE", (busy.id,))
        await asyncio.wait_for(metadata.users.seen([busy.id, old.id, new_one.id, 10**15]), 2)
    times = [(await metadata.users.get(user.id)).last_login for user in (new_one, old, busy)]
    assert times[0] >= first
    assert times[1:] == [first, None]
    await metadata.configuration.put("user.login.lastTimeout", "0")
    await metadata.users.seen([old.id])
    assert (await metadata.users.get(old.id)).last_login > first


async def test_a_rehash_does_not_undo_a_new_password(metadata, boss):
    user = await new(metadata, password_hash="old")
    await metadata.users.rehash(user.id, "old", "better")
    assert (await metadata.users.get(user.id)).password_hash == "better"
    await metadata.users.rehash(user.id, "old", "late")
    assert (await metadata.users.get(user.id)).password_hash == "better"
