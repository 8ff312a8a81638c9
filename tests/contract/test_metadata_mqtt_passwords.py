"""What is stored of MQTT passwords, and what their users may do, on real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from skep import errors
from skep.metadata import Metadata, rows
from skep.metadata.mqtt import MqttClient
from skep.metadata.mqtt_passwords import ENTITY, MqttAccount
from tests.contract import metadata_support as support
from tests.contract.metadata_support import FakeBus, opened, unique

MANY = 1_000


@pytest.fixture
async def metadata(postgres_url: str) -> AsyncIterator[Metadata]:
    async with opened(postgres_url) as metadata:
        yield metadata


async def made(metadata: Metadata, user_id: int, salt: bytes = b"s" * 16) -> MqttAccount:
    return await metadata.mqtt_passwords.make(user_id, salt, "k")


async def account(metadata: Metadata, user_id: int, most: int = MANY) -> MqttAccount | None:
    found = [each for each in await metadata.mqtt_passwords.list(most) if each.user.id == user_id]
    return found[0] if found else None


async def test_one_for_a_user_whose_client_id_stays(metadata):
    user = (await support.client(metadata)).user
    first = await made(metadata, user.id)
    assert (first.user, first.client_id, first.salt) == (user, user.login, b"s" * 16)
    await metadata.users.update(await support.admin(metadata), user.id, rows.UserChanges(login=unique("renamed")))
    second = await made(metadata, user.id, b"t" * 16)
    assert (second.client_id, second.salt) == (user.login, b"t" * 16)
    assert await account(metadata, user.id) == second
    assert (await metadata.mqtt_clients.get_many([user.login]))[user.login] == MqttClient(user.login, user.id)


async def test_a_login_that_can_be_no_client_id_or_is_anothers(metadata):
    at = await metadata.users.insert(rows.NewUser(unique("a@b"), "hash", rows.CLIENT))
    assert (await made(metadata, at.id)).client_id == f"user:{at.id}"
    user, other = (await support.client(metadata)).user, (await support.client(metadata)).user
    assert await metadata.mqtt_clients.bind(MqttClient(user.login, other.id))
    assert (await made(metadata, user.id)).client_id == f"user:{user.id}"
    third = (await support.client(metadata)).user
    for taken in (third.login, f"user:{third.id}"):
        assert await metadata.mqtt_clients.bind(MqttClient(taken, other.id))
    with pytest.raises(errors.Forbidden):
        await made(metadata, third.id)
    assert await account(metadata, third.id) is None


async def test_a_token_that_was_shown_before_limits_the_client_no_more(metadata):
    user = (await support.client(metadata)).user
    assert await metadata.mqtt_clients.bind(MqttClient(user.login, user.id, b"{}"))
    await made(metadata, user.id)
    assert (await metadata.mqtt_clients.get_many([user.login]))[user.login].claims is None


async def test_it_is_taken_and_told(metadata):
    user = (await support.client(metadata)).user
    with pytest.raises(errors.NotFound):
        await made(metadata, 10**9)
    with pytest.raises(errors.NotFound):
        await metadata.mqtt_passwords.take(10**9)
    await support.empty_outbox(metadata)
    await made(metadata, user.id)
    await metadata.mqtt_passwords.take(user.id)
    await metadata.mqtt_passwords.take(user.id)
    assert await account(metadata, user.id) is None
    told = FakeBus()
    told.sent = [(row.topic, row.payload, None) for row in await support.outbox_rows(metadata)]
    assert [c.ids for c in told.changes() if c.entity == ENTITY] == [[str(user.id)]] * 2


@pytest.mark.parametrize("status", [rows.LOCKED_OUT, 2])
async def test_only_active_users_have_an_account(metadata, status):
    user, admin = (await support.client(metadata)).user, await support.admin(metadata)
    await made(metadata, user.id)
    await metadata.users.update(admin, user.id, rows.UserChanges(status=status))
    assert await account(metadata, user.id) is None
    await metadata.users.update(admin, user.id, rows.UserChanges(status=0))
    assert await account(metadata, user.id) is not None
    await metadata.users.delete(admin, user.id)
    assert await account(metadata, user.id) is None


async def test_devices_are_those_that_the_user_sees_and_that_may_send(metadata):
    (network, kind), (foreign, other) = await support.container(metadata), await support.container(metadata)
    seen = await support.device(metadata, network, kind)
    await support.device(metadata, foreign, kind)
    untyped = await support.device(metadata, network, other)
    blocked = await support.device(metadata, network, kind)
    who = await support.admin(metadata, network)
    await metadata.devices.save(who, blocked, rows.DeviceChanges(name="n", network_id=network, is_blocked=True))
    all_types = (await support.client(metadata, network)).user
    typed = (await support.client(metadata, network, types=[kind])).user
    admin = (await support.admin(metadata)).user
    nobody = (await support.client(metadata, types=[kind])).user
    for user in (all_types, typed, admin, nobody):
        await made(metadata, user.id)
    found = {each.user.id: each.devices for each in await metadata.mqtt_passwords.list(MANY)}
    assert found[all_types.id] == tuple(sorted((seen, untyped)))
    assert found[typed.id] == (seen,)
    assert found[admin.id] == found[nobody.id] == ()
    assert (await account(metadata, all_types.id, most=1)).devices == (min(seen, untyped),)
