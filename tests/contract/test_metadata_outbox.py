"""The outbox: written with the change or not at all, published in order, at least once. Real PostgreSQL, a fake bus."""

import asyncio

import msgspec
import psycopg
import pytest
from sqlalchemy import text

from skep import errors
from skep.metadata import Caches, Relay
from skep.metadata.rows import ContainerChanges, DeviceChanges, NewUser
from skep.wire import messages, proxy, topics
from tests.contract.metadata_support import (
    FakeBus,
    Records,
    Refused,
    admin,
    client,
    empty_outbox,
    opened,
    outbox_rows,
    unique,
)

LONG = 3600.0
"""A poll that never comes within a test: what happens, happens by a kick."""


@pytest.fixture
async def metadata(postgres_url):
    async with opened(postgres_url) as metadata:
        await empty_outbox(metadata)
        yield metadata


@pytest.fixture
async def member(metadata):
    member = await client(metadata, 1)
    await empty_outbox(metadata)
    return member


@pytest.fixture
def bus():
    return FakeBus()


async def started(relay):
    await relay.start()
    return relay


# -- writing ---------------------------------------------------------------------------------------------------------


async def test_a_save_writes_its_change_and_its_notification(metadata, member):
    id = unique("d")
    _, _, saved = await metadata.devices.save(member, id, DeviceChanges(name="n", data=b'{ "a": [1, null] }'))
    change, call = await outbox_rows(metadata)
    assert (change.topic, change.key) == (topics.METADATA_CHANGES, None)
    assert messages.decode_changed(change.payload) == messages.Changed("device", [id])
    assert (call.topic, call.key) == (topics.REQUESTS, id.encode())
    decoded = messages.decode_call(call.payload)
    request = messages.decode_request(bytes(decoded.body))
    assert (decoded.reply_to, len(decoded.correlation)) == ("", 16)
    assert request.repeatable
    sent = request.notification
    assert (sent.id, sent.name, sent.device_id) == (saved.notification_id, "$device-add", id)
    assert (sent.network_id, sent.device_type_id, sent.timestamp) == (1, 1, 0)
    view = msgspec.json.decode(sent.parameters)
    assert list(view) == ["id", "name", "data", "networkId", "deviceTypeId", "isBlocked"]
    assert view == {
        "id": id,
        "name": "n",
        "data": {"a": [1, None]},
        "networkId": 1,
        "deviceTypeId": 1,
        "isBlocked": False,
    }


async def test_an_update_is_device_update_and_a_deletion_tells_caches_only(metadata, member, bus):
    id = unique("d")
    await metadata.devices.save(member, id, DeviceChanges(name="n"))
    await metadata.devices.save(member, id, DeviceChanges(name="m"))
    await metadata.devices.delete(id)
    relay = await started(Relay(metadata, bus, poll=LONG))
    await asyncio.wait_for(relay.flushed(), 10)
    await relay.stop()
    assert [n.name for n in bus.notifications()] == ["$device-add", "$device-update"]
    assert bus.changes() == [messages.Changed("device", [id])] * 3


async def test_every_change_tells(metadata):
    told = []
    metadata.database.on_commit(lambda changes: told.extend((c.entity, c.ids) for c in changes))
    boss = await admin(metadata)
    network = await metadata.networks.insert(unique("net"))
    user = await metadata.users.insert(NewUser(unique("user"), "h", 1, all_device_types=False))
    told.clear()
    await metadata.users.assign_network(user.id, network.id)
    await metadata.users.assign_device_type(user.id, 1)
    await metadata.users.all_device_types(user.id, True)
    await metadata.networks.update(network.id, ContainerChanges(description="d"))
    await metadata.configuration.put("some.name", "1")
    await metadata.devices.save(boss, "tell-me", DeviceChanges(name="n", network_id=network.id))
    u, n = [str(user.id)], [str(network.id)]
    assert told == [("user", u)] * 3 + [("network", n), ("configuration", ["some.name"]), ("device", ["tell-me"])]
    told.clear()
    await metadata.networks.delete(boss, network.id, force=True)
    assert told == [("network", n), ("device", ["tell-me"]), ("user", u)]
    rows = [messages.decode_changed(r.payload) for r in await outbox_rows(metadata) if r.key is None]
    assert [(c.entity, c.ids) for c in rows[-3:]] == told


async def test_a_rollback_leaves_nothing(metadata):
    async def failing(t):
        await t.run(text("INSERT INTO networks (name) VALUES ('never')"))
        t.changed("network", 5)
        await t.write_outbox()
        raise errors.Forbidden

    told = []
    metadata.database.on_commit(told.append)
    with pytest.raises(errors.Forbidden):
        await metadata.database.write(failing)
    assert await outbox_rows(metadata) == []
    assert told == []


async def test_a_failing_outbox_undoes_the_change(metadata, member):
    id = unique("d")

    async def broken(t):
        await t.run(text("ALTER TABLE outbox RENAME TO elsewhere"))

    async def mended(t):
        await t.run(text("ALTER TABLE elsewhere RENAME TO outbox"))

    await metadata.database.write(broken)
    try:
        with pytest.raises(errors.Unavailable):
            await metadata.devices.save(member, id, DeviceChanges(name="n"))
    finally:
        await metadata.database.write(mended)
    assert await metadata.devices.get(id) is None


# -- the relay -------------------------------------------------------------------------------------------------------


async def test_a_commit_wakes_the_relay_and_what_is_confirmed_is_deleted(metadata, member, bus):
    relay = await started(Relay(metadata, bus, poll=LONG))
    ids = [unique("d") for _ in range(5)]
    for id in ids:
        await metadata.devices.save(member, id, DeviceChanges(name="n"))
    await asyncio.wait_for(relay.flushed(), 10)
    await relay.stop()
    assert [n.device_id for n in bus.notifications()] == ids
    assert await outbox_rows(metadata) == []


async def test_what_others_committed_is_found_by_the_poll(metadata, member, bus, postgres_url):
    relay = await started(Relay(metadata, bus, poll=0.05))
    async with opened(postgres_url) as other:
        await other.devices.save(member, unique("d"), DeviceChanges(name="n"))
    await asyncio.wait_for(bus.arrived.wait(), 10)
    await relay.stop()


async def test_a_crash_between_publishing_and_deleting_publishes_again(metadata, member, bus):
    await metadata.devices.save(member, unique("d"), DeviceChanges(name="n"))
    bus.hold = asyncio.Event()
    first = await started(Relay(metadata, bus, poll=LONG))
    first.kick()
    await asyncio.wait_for(bus.arrived.wait(), 10)
    await first.stop()
    assert len(await outbox_rows(metadata)) == 2
    bus.hold = None
    second = await started(Relay(metadata, bus, poll=LONG))
    await asyncio.wait_for(second.flushed(), 10)
    await second.stop()
    assert await outbox_rows(metadata) == []
    once, again = bus.notifications()
    assert once == again


@pytest.mark.parametrize("failure", [Refused(proxy.Code.UNAVAILABLE), errors.Unavailable("timed out")])
async def test_rows_outlast_an_outage_of_the_bus(metadata, member, bus, failure, monkeypatch):
    monkeypatch.setattr("skep.metadata.relay.BACKOFF_FIRST", 0.01)
    bus.failure = failure
    relay = await started(Relay(metadata, bus, poll=LONG))
    await metadata.devices.save(member, unique("d"), DeviceChanges(name="n"))
    flushed = asyncio.create_task(relay.flushed())
    await asyncio.wait({flushed}, timeout=0.2)
    assert not flushed.done()
    assert len(await outbox_rows(metadata)) == 2
    bus.failure = None
    await asyncio.wait_for(flushed, 10)
    await relay.stop()
    assert [n.name for n in bus.notifications()] == ["$device-add"]


async def test_a_row_that_is_refused_for_good_blocks_nothing(metadata, member, bus, caplog):
    bus.failure = Refused(proxy.Code.TOO_LARGE)
    await metadata.devices.save(member, unique("d"), DeviceChanges(name="n"))
    relay = await started(Relay(metadata, bus, poll=LONG))
    await asyncio.wait_for(relay.flushed(), 10)
    await relay.stop()
    assert await outbox_rows(metadata) == []
    assert "refused for good" in caplog.text


async def test_several_relays_publish_each_row_once_and_in_order(metadata, member, postgres_url):
    async with opened(postgres_url) as other:
        bus = FakeBus()
        relays = [await started(Relay(m, bus, poll=0.05)) for m in (metadata, metadata, other)]
        id = unique("d")
        for n in range(30):
            await (metadata, other)[n % 2].devices.save(member, id, DeviceChanges(name=f"n{n}"))
        await asyncio.gather(*(asyncio.wait_for(r.flushed(), 10) for r in relays))
        for relay in relays:
            await relay.stop()
    names = [msgspec.json.decode(n.parameters)["name"] for n in bus.notifications()]
    assert names == [f"n{n}" for n in range(30)]


async def test_batches_are_bounded_in_rows_and_bytes(metadata, bus, monkeypatch):
    async def fill(t):
        await t.run(
            text("INSERT INTO outbox (topic, payload) SELECT 'metadata-changes', '12345' FROM generate_series(1, 7)")
        )

    await metadata.database.write(fill)
    monkeypatch.setattr("skep.metadata.relay.BYTES", 11)
    relay = Relay(metadata, bus, poll=LONG)
    left = []
    while rows := await outbox_rows(metadata):
        left.append(len(rows))
        await metadata.database.hold(relay._batch, 5)
    assert left == [7, 4, 1]


async def test_handled_waits_for_a_marker_behind_the_notification(metadata, member, bus):
    relay = await started(Relay(metadata, bus, poll=LONG))
    _, _, saved = await metadata.devices.save(member, unique("d"), DeviceChanges(name="n"))
    assert await relay.handled(saved)
    await relay.stop()
    assert [n.id for n in bus.notifications()] == [saved.notification_id]
    assert bus.asked == [(topics.REQUESTS, messages.Marker(0), saved.device_id.encode())]


async def test_handled_does_not_wait_until_the_row_is_deleted(metadata, member, bus, postgres_url):
    _, _, saved = await metadata.devices.save(member, unique("d"), DeviceChanges(name="n"))
    async with await psycopg.AsyncConnection.connect(postgres_url) as other:
        await other.execute("LOCK TABLE outbox IN SHARE MODE")  # reading goes on, deleting waits
        relay = await started(Relay(metadata, bus, poll=LONG))
        flushed = asyncio.create_task(relay.flushed())
        assert await relay.handled(saved)
        assert not flushed.done()
        await other.rollback()
        await asyncio.wait_for(flushed, 10)
    await relay.stop()
    assert await outbox_rows(metadata) == []
    assert [n.id for n in bus.notifications()] == [saved.notification_id]


async def test_handled_waits_for_rows_of_later_batches(metadata, member, bus, monkeypatch):
    monkeypatch.setattr("skep.metadata.relay.ROWS", 2)
    for _ in range(3):
        await metadata.devices.save(member, unique("d"), DeviceChanges(name="n"))
    _, _, saved = await metadata.devices.save(member, unique("d"), DeviceChanges(name="n"))
    relay = await started(Relay(metadata, bus, poll=LONG))
    assert await relay.handled(saved)
    assert bus.notifications()[-1].id == saved.notification_id
    await relay.stop()


async def test_a_tombstone_is_published(metadata, bus):
    async def bury(t):
        await t.run(text("INSERT INTO outbox (topic, key, payload) VALUES ('subscriptions', 'k', NULL)"))

    await metadata.database.write(bury)
    relay = await started(Relay(metadata, bus, poll=LONG))
    await asyncio.wait_for(relay.flushed(), 10)
    await relay.stop()
    assert bus.sent == [("subscriptions", None, b"k")]


async def test_handled_gives_up_in_time_and_the_save_stands(metadata, member, bus):
    bus.failure = errors.Unavailable()
    relay = await started(Relay(metadata, bus, poll=LONG))
    device, _, saved = await metadata.devices.save(member, unique("d"), DeviceChanges(name="n"))
    assert not await relay.handled(saved, timeout=0.1)
    await relay.stop()
    assert await metadata.devices.get(device.id) == device


# -- metadata-changes -> caches ----------------------------------------------------------------------------------------


async def test_changes_of_others_reach_the_caches_and_a_gap_empties_them(metadata, bus):
    caches = Caches(metadata)
    told = asyncio.Queue()
    caches.on_change(lambda entity, ids: told.put_nowait((entity, ids)))
    relay = await started(Relay(metadata, bus, caches, poll=LONG))
    stream = await asyncio.wait_for(bus.streams.get(), 5)
    stream.events.put_nowait(Records(messages.Changed("user", ["7"]), messages.Changed("device", ["a", "b"])))
    assert await asyncio.wait_for(told.get(), 5) == ("user", ["7"])
    assert await asyncio.wait_for(told.get(), 5) == ("device", ["a", "b"])
    stream.events.put_nowait(object())  # Assigned, Revoked or Gap
    cleared = [await asyncio.wait_for(told.get(), 5) for _ in range(6)]
    assert ("user", []) in cleared
    stream.events.put_nowait(errors.Unavailable())
    await asyncio.wait_for(bus.streams.get(), 5)
    assert stream.closed
    await relay.stop()
