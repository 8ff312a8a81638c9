"""Clients of MQTT brokers, packets under way, leases. Real PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from skep import errors
from skep.metadata import Caches
from skep.metadata.leases import PRESENCE
from skep.metadata.mqtt import _REMEMBER, MqttClient, MqttPacket
from tests.contract.metadata_support import Link, admin, client, opened, unique


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
    for name in (session, other):
        await metadata.leases.hold(name, "a", 60)
    assert await metadata.mqtt_packets.remember(session, first, "a")
    assert await metadata.mqtt_packets.remember(other, [MqttPacket(1, 9, 9, 1)], "a")
    newer = MqttPacket(2, 7, 8, 3)
    assert await metadata.mqtt_packets.remember(session, [newer], "a")
    recalled = await metadata.mqtt_packets.recall(session)
    assert sorted(recalled, key=lambda p: p.packet_id) == [first[0], newer]


async def test_who_has_the_session_remembers(metadata):
    """One that was paused wakes up and goes on with what it was about to do."""
    session, theirs = unique("s"), MqttPacket(1, 1, 1, 1)
    assert not await metadata.mqtt_packets.remember(session, [theirs], "a")
    await metadata.leases.hold(session, "a", -1)
    assert await metadata.mqtt_packets.remember(session, [theirs], "a")  # nobody else came
    await metadata.leases.hold(session, "b", 60)
    assert not await metadata.mqtt_packets.remember(session, [MqttPacket(1, 2, 1, 2)], "a")
    assert await metadata.mqtt_packets.recall(session) == [theirs]


ONE = {"packet_id": [1], "id": [1], "digest": [1], "number": [1]}


async def test_nobody_takes_a_session_while_something_is_remembered(metadata):
    session = unique("s")
    await metadata.leases.hold(session, "a", -1)
    async with metadata.database.reader.connect() as connection:
        # As in `remember`, whose transaction goes on.
        await connection.execute(text("BEGIN"))
        await connection.execute(_REMEMBER, {"session": session, "holder": "a", **ONE})
        taking = asyncio.create_task(metadata.leases.hold(session, "b", 60))
        await _waiting_for_a_lock(metadata, "INSERT INTO leases")
        assert not taking.done()
        await connection.execute(text("COMMIT"))
    assert await taking


async def test_nobody_waits_for_one_that_was_paused_while_it_remembered(metadata, postgres_url):
    session, link = unique("s"), Link()
    async with link.to(postgres_url) as url, opened(url) as paused:
        assert await paused.leases.hold(session, "a", -1)
        link.freeze(after=b"INSERT INTO mqtt_packets")
        remembering = asyncio.create_task(paused.mqtt_packets.remember(session, [MqttPacket(1, 1, 1, 1)], "a"))
        async with asyncio.timeout(10):
            await link.frozen.wait()
        assert await metadata.leases.hold(session, "b", 60)
        remembering.cancel()
        await asyncio.gather(remembering, return_exceptions=True)


async def test_one_holds_a_lease_at_a_time(metadata):
    leases, name = metadata.leases, unique("lease")
    assert await leases.hold(name, "a", 60)
    assert await leases.hold(name, "a", 60)
    assert not await leases.hold(name, "b", 60)


async def test_a_lease_that_ran_out_is_anybodys(metadata):
    name = unique("lease")
    assert await metadata.leases.hold(name, "a", -1)
    assert await metadata.leases.hold(name, "b", 60)
    assert not await metadata.leases.hold(name, "a", 60)


async def test_leases_that_there_were(metadata):
    name = unique("lease")
    for each in (f"{name}_a", f"{name}_b", f"{name}Xc"):
        assert await metadata.leases.hold(each, "a", -1)
    assert sorted(await metadata.leases.names(f"{name}_")) == [f"{name}_a", f"{name}_b"]


async def test_many_want_a_lease(metadata):
    name = unique("lease")
    won = await asyncio.gather(*(metadata.leases.hold(name, f"h{n}", 60) for n in range(8)))
    assert sum(won) == 1


async def test_the_lease_of_one_who_is_gone_is_anybodys_at_once(metadata, postgres_url):
    name = unique("lease")
    async with opened(postgres_url) as other:
        assert await other.leases.hold(name, "other", 60)
        assert not await metadata.leases.hold(name, "a", 60)
        await _cut(metadata, "other")
        assert await metadata.leases.hold(name, "a", 60)
        with pytest.raises(errors.Unavailable):  # it learns that it was cut, and then that it is late
            await other.leases.hold(name, "other", 60)
        assert not await other.leases.hold(name, "other", 60)
    assert await metadata.leases.hold(name, "a", 60)


@pytest.mark.parametrize("at_end", [False, True])
async def test_a_renewal_that_is_cancelled_leaves_nothing_behind(metadata, monkeypatch, at_end):
    name = unique("lease")
    bounded = metadata.database.bounded
    assert await metadata.leases.hold(name, "a", 60)

    async def cancelled(work):
        async def run():
            if not at_end:
                asyncio.get_running_loop().call_soon(renewal.cancel)
            result = await work
            renewal.cancel()
            return result

        return await bounded(run())

    for _ in range(12):  # more than the pool has
        with monkeypatch.context() as patched:
            patched.setattr(metadata.database, "bounded", cancelled)
            renewal = asyncio.create_task(metadata.leases.hold(name, "a", 60))
            await asyncio.gather(renewal, return_exceptions=True)
            assert renewal.cancelled()
    assert await metadata.leases.hold(name, "a", 60)
    assert not await metadata.leases.hold(name, "b", 60)


async def test_who_stops_leaves_its_leases(metadata, postgres_url):
    name = unique("lease")
    async with opened(postgres_url) as other:
        assert await other.leases.hold(name, "other", 60)
    assert await metadata.leases.hold(name, "a", 60)


async def test_a_lease_that_was_looked_at_is_still_held(metadata, postgres_url):
    """Those who want it see whether its holder lives: that leaves nothing behind, with either of them."""
    name = unique("lease")
    async with opened(postgres_url) as other:
        assert await other.leases.hold(name, "other", 60)
        for _ in range(3):
            assert not await metadata.leases.hold(name, "a", 60)
            assert await other.leases.hold(name, "other", 60)


async def _cut(metadata, holder):
    """What the kernel does with the connections of a process that was killed."""
    of_holder = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND classid = :presence"
        " AND objid = hashtext(:holder)::bigint & 4294967295"
    )
    async with metadata.database.reader.connect() as connection:
        cut = (await connection.execute(text(of_holder), {"presence": PRESENCE, "holder": holder})).all()
    assert cut == [(True,)]


async def _waiting_for_a_lock(metadata, statement):
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE :begins"
    async with metadata.database.reader.connect() as connection, asyncio.timeout(10):
        while not (await connection.execute(text(waiting), {"begins": f"{statement}%"})).scalar():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
