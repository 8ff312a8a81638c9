"""Clients of MQTT brokers, packets under way, leases. Real PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from skep.metadata import Caches
from skep.metadata.mqtt import MqttClient, MqttPacket
from tests.contract.metadata_support import admin, client, opened, unique


@pytest.fixture
async def metadata(postgres_url):
    async with opened(postgres_url) as metadata:
        yield metadata


async def test_a_client_id_is_its_first_users(metadata):
    one, other = [(await client(metadata)).user_id for _ in range(2)]
    mine = MqttClient(unique("c"), one, b'{"a":[3]}')
    assert await metadata.mqtt_clients.bind(mine)
    assert not await metadata.mqtt_clients.bind(MqttClient(mine.client_id, other))
    assert await metadata.mqtt_clients.get_many([mine.client_id, "missing", "a\0b"]) == {mine.client_id: mine}
    changed = replace(mine, claims=None)
    assert await metadata.mqtt_clients.bind(changed)
    assert await metadata.mqtt_clients.get_many([mine.client_id]) == {mine.client_id: changed}


async def test_two_users_at_once(metadata):
    users = [(await client(metadata)).user_id for _ in range(8)]
    id = unique("c")
    won = await asyncio.gather(*(metadata.mqtt_clients.bind(MqttClient(id, user)) for user in users))
    assert sum(won) == 1
    assert (await metadata.mqtt_clients.get_many([id]))[id].user_id == users[won.index(True)]


async def test_a_client_goes_with_its_user(metadata):
    user = (await client(metadata)).user_id
    bound = MqttClient(unique("c"), user)
    await metadata.mqtt_clients.bind(bound)
    await metadata.users.delete(await admin(metadata, 1), user)
    assert await metadata.mqtt_clients.get_many([bound.client_id]) == {}


async def test_the_cache_hears_of_a_binding(metadata):
    caches = Caches(metadata)
    id = unique("c")
    assert await caches.mqtt_client(id) is None
    bound = MqttClient(id, (await client(metadata)).user_id)
    await metadata.mqtt_clients.bind(bound)
    assert await caches.mqtt_client(id) == bound


async def test_packets_are_remembered_by_session(metadata):
    first = [MqttPacket(1, 2**52, 2**62, 1), MqttPacket(2, 5, 6, 2)]
    session, other = unique("s"), unique("s")
    await metadata.mqtt_packets.remember(session, first)
    await metadata.mqtt_packets.remember(other, [MqttPacket(1, 9, 9, 1)])
    newer = MqttPacket(2, 7, 8, 3)
    await metadata.mqtt_packets.remember(session, [newer])
    recalled = await metadata.mqtt_packets.recall(session)
    assert sorted(recalled, key=lambda p: p.packet_id) == [first[0], newer]


async def test_one_holds_a_lease_at_a_time(metadata):
    leases, name = metadata.leases, unique("lease")
    assert await leases.hold(name, "a", 60)
    assert await leases.hold(name, "a", 60)
    assert not await leases.hold(name, "b", 60)
    await leases.release(name, "b")
    assert not await leases.hold(name, "b", 60)
    await leases.release(name, "a")
    assert await leases.hold(name, "b", 60)


async def test_a_lease_that_ran_out_is_anybodys(metadata):
    name = unique("lease")
    assert await metadata.leases.hold(name, "a", -1)
    assert await metadata.leases.hold(name, "b", 60)
    assert not await metadata.leases.hold(name, "a", 60)


async def test_many_want_a_lease(metadata):
    name = unique("lease")
    won = await asyncio.gather(*(metadata.leases.hold(name, f"h{n}", 60) for n in range(8)))
    assert sum(won) == 1
