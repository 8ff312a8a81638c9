"""The caches over real PostgreSQL: own writes seen at once, outages bridged, refusals checked."""

import asyncio
import time

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from skep import errors
from skep.metadata import Caches, Metadata
from skep.metadata.database import Transaction
from skep.metadata.rows import ContainerChanges, DeviceChanges, UserChanges
from skep.wire.messages import Changed
from tests.contract.metadata_support import admin, client, container, device, opened, unique


@pytest.fixture
async def metadata(postgres_url):
    async with opened(postgres_url) as metadata:
        yield metadata


@pytest.fixture
def caches(metadata):
    return Caches(metadata)


async def test_own_writes_are_read_at_once(metadata, caches):
    boss = await admin(metadata, 1)
    network, device_type = await container(metadata)
    user = (await client(metadata)).user_id
    id = unique("d")
    assert await caches.device(id) is None
    await metadata.devices.save(boss, id, DeviceChanges(name="n"))
    assert caches.peek_device(id) is None
    assert (await caches.device(id)).name == "n"
    assert caches.peek_device(id).name == "n"
    await metadata.devices.save(boss, id, DeviceChanges(name="m"))
    assert caches.peek_device(id) is None
    assert (await caches.user(user)).networks == frozenset()
    await metadata.users.assign_network(user, network)
    assert (await caches.user(user)).networks == {network}
    await metadata.users.update(boss, user, UserChanges(status=2))
    assert (await caches.user(user)).status == 2
    await metadata.networks.update(network, ContainerChanges(name=unique("renamed")))
    assert (await caches.network(network)).name.startswith("renamed")
    await metadata.users.delete(boss, user)
    assert await caches.user(user) is None
    assert await caches.device_type_exists(device_type)
    await metadata.device_types.delete(boss, device_type)
    assert not await caches.device_type_exists(device_type)


async def test_deleting_a_network_reaches_its_devices_and_members(metadata, caches):
    network, device_type = await container(metadata)
    boss = await admin(metadata)
    member = await client(metadata, network)
    id = await device(metadata, network, device_type)
    assert (await caches.device(id)).network_id == network
    assert (await caches.user(member.user_id)).networks == {network}
    await metadata.networks.delete(boss, network, force=True)
    assert await caches.device(id) is None
    assert (await caches.user(member.user_id)).networks == frozenset()
    assert not await caches.network_exists(network)


async def test_a_change_of_another_service_is_seen_when_told(metadata, caches, postgres_url):
    id = await device(metadata, 1)
    assert await caches.device(id) is not None
    async with opened(postgres_url) as other:
        await other.devices.delete(id)
    assert await caches.device(id) is not None
    told = []
    end = caches.on_change(lambda entity, ids: told.append((entity, ids)))
    caches.apply(Changed("device", [id]))
    assert await caches.device(id) is None
    assert told == [("device", [id])]
    end()
    caches.apply(Changed("device", []))
    assert len(told) == 1


async def test_a_refusal_is_checked_before_it_is_given(metadata, caches, monkeypatch, postgres_url):
    monkeypatch.setattr("skep.metadata.cache.FRESH", 0.0)
    id = unique("d")
    assert await caches.device(id) is None
    async with opened(postgres_url) as other:
        await other.devices.save(await admin(other, 1), id, DeviceChanges(name="n"))
    assert await caches.device(id) is None
    assert await caches.device(id, fresh=True) is not None


async def test_ids_that_cannot_be_are_missing(caches):
    assert await caches.device("no such/id") is None
    assert await caches.user(2**70) is None
    assert not await caches.network_exists(-1)
    caches.apply(Changed("user", ["x"]))
    caches.apply(Changed("something else", ["1"]))


class Link:
    """A socket between the pool and PostgreSQL, to cut and to stall."""

    def __init__(self, folder, target):
        self.folder = folder
        self.target = target
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.writers = set()

    async def open(self):
        self.server = await asyncio.start_unix_server(self._join, self.folder / ".s.PGSQL.5432")

    async def cut(self):
        self.server.close()
        for writer in list(self.writers):
            writer.transport.abort()
        (self.folder / ".s.PGSQL.5432").unlink(missing_ok=True)

    async def _join(self, reader, writer):
        up, down = await asyncio.open_unix_connection(self.target)
        self.writers |= {writer, down}
        await asyncio.gather(self._pump(reader, down), self._pump(up, writer), return_exceptions=True)

    async def _pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                await self.flowing.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
            self.writers.discard(writer)


@pytest.fixture
async def link(postgres_url, tmp_path):
    url = make_url(postgres_url)
    link = Link(tmp_path, f"{url.query['host']}/.s.PGSQL.{url.query.get('port', '5432')}")
    await link.open()
    yield link
    link.flowing.set()
    await link.cut()


@pytest.fixture
async def far(postgres_url, link):
    """Metadata behind the link."""
    url = make_url(postgres_url).set(query={"host": str(link.folder)})
    metadata = Metadata(url.render_as_string(hide_password=False))
    yield metadata
    link.flowing.set()
    await metadata.stop()


async def test_through_an_outage_entries_serve_and_the_rest_is_unavailable_at_once(metadata, link, far):
    caches = Caches(far)
    known, unknown = [await device(metadata, 1) for _ in range(2)]
    who = await client(metadata, 1)
    assert await caches.device(known) is not None
    await link.cut()
    assert await caches.device(known) is not None
    began = time.monotonic()
    with pytest.raises(errors.Unavailable):
        await caches.device(unknown)
    with pytest.raises(errors.Unavailable):
        await far.devices.save(who, unique("d"), DeviceChanges(name="n"))
    assert time.monotonic() - began < 5
    await link.open()
    assert await caches.device(unknown) is not None
    await far.devices.save(who, unique("d"), DeviceChanges(name="n"))


async def test_after_a_restart_of_the_server_no_request_meets_a_dead_connection(link, far):
    assert await asyncio.gather(*(far.devices.get("none") for _ in range(8))) == [None] * 8
    await link.cut()
    await link.open()
    assert await asyncio.gather(*(far.devices.get("none") for _ in range(8))) == [None] * 8


async def test_a_server_that_says_nothing_is_unavailable_within_5_s(metadata, link, far):
    assert await far.devices.get("none") is None
    link.flowing.clear()
    began = time.monotonic()
    results = await asyncio.gather(
        far.devices.get("none"), far.users.get(1), far.devices.delete("none"), return_exceptions=True
    )
    assert time.monotonic() - began < 5
    assert [type(r) for r in results] == [errors.Unavailable] * 3
    link.flowing.set()
    assert await far.devices.get("none") is None


async def test_a_statement_that_takes_too_long_is_cut_by_the_server(metadata):
    async def impatient(t):
        await t.run(text("SET statement_timeout = 50"))
        await t.run(text("SELECT pg_sleep(10)"))

    with pytest.raises(errors.Unavailable):
        await metadata.database.write(impatient)
    assert await metadata.database.read(Transaction.value, text("SHOW statement_timeout")) == "5s"


async def test_more_callers_than_connections_all_get_an_answer(metadata):
    results = await asyncio.gather(*(metadata.devices.get(unique("d")) for _ in range(100)))
    assert results == [None] * 100
