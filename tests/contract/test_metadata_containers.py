"""Networks, device types, configuration, plugins. Real PostgreSQL."""

import asyncio

import psycopg
import pytest
from msgspec.structs import replace

from skep import errors
from skep.metadata.plugins import MISSING as NO_SUCH_PLUGIN
from skep.metadata.plugins import NO_PLUGIN
from skep.metadata.rows import ContainerChanges, DeviceChanges, NewPlugin
from tests.contract.metadata_support import admin, client, container, device, opened, principal, unique

MISSING = 10**15


@pytest.fixture
async def metadata(postgres_url):
    async with opened(postgres_url) as metadata:
        yield metadata


@pytest.fixture
async def boss(metadata):
    return await admin(metadata, 1)


@pytest.fixture(params=["Network", "Device type"])
def kind(request, metadata):
    return metadata.networks if request.param == "Network" else metadata.device_types


async def test_inserting_updating_reading(kind):
    name = unique("name")
    made = await kind.insert(name, "described")
    assert await kind.get(made.id) == made
    assert (made.name, made.description) == (name, "described")
    changed = await kind.update(made.id, ContainerChanges(name=name + "x", description=None))
    assert (changed.name, changed.description) == (name + "x", "described")
    assert await kind.update(made.id, ContainerChanges()) == changed
    for id in (MISSING, 2**70, -1):
        assert await kind.get(id) is None
        for changes in (ContainerChanges(), ContainerChanges(name="n")):
            with pytest.raises(errors.NotFound, match=f"{kind.noun} with id = {id} not found"):
                await kind.update(id, changes)


async def test_refused_names(kind):
    name = (await kind.insert(unique("name"))).name
    other = await kind.insert(unique("name"))
    taken = f"{kind.noun} cannot be created. {kind.noun} with such name already exists"
    with pytest.raises(errors.Forbidden, match=taken):
        await kind.insert(name)
    with pytest.raises(errors.Forbidden, match=taken):
        await kind.update(other.id, ContainerChanges(name=name))
    for bad in ("", "x" * 129, "a\0b"):
        with pytest.raises(errors.BadRequest):
            await kind.insert(bad)
    with pytest.raises(errors.BadRequest):
        await kind.insert(unique("name"), "x" * 129)


async def test_deleting_one_that_has_devices_takes_force(metadata, kind, boss):
    network, device_type = await container(metadata)
    id = await device(metadata, network, device_type)
    target = network if kind is metadata.networks else device_type
    with pytest.raises(errors.BadRequest, match=id):
        await kind.delete(boss, target)
    stranger = await principal(metadata, (await client(metadata)).user_id)
    with pytest.raises(errors.BadRequest) as raised:
        await kind.delete(stranger, target)
    if kind is metadata.networks:
        assert id not in raised.value.text
    await kind.delete(boss, target, force=True)
    assert await metadata.devices.get(id) is None
    with pytest.raises(errors.NotFound):
        await kind.delete(boss, target, force=True)


async def test_force_takes_no_devices_that_the_principal_does_not_see(metadata, kind, boss):
    network, device_type = await container(metadata)
    id = await device(metadata, network, device_type)
    target = network if kind is metadata.networks else device_type
    scope = {"types": ["1"]} if kind is metadata.networks else {"networks": ["1"]}
    narrowed = await principal(metadata, boss.user_id, **scope)
    with pytest.raises(errors.Forbidden):
        await kind.delete(narrowed, target, force=True)
    assert await metadata.devices.get(id) is not None


async def test_force_takes_blocked_devices_for_an_administrator_only(metadata, kind, boss):
    network, device_type = await container(metadata)
    id = await device(metadata, network, device_type)
    await metadata.devices.save(boss, id, DeviceChanges(is_blocked=True))
    target = network if kind is metadata.networks else device_type
    member = await client(metadata, network)
    with pytest.raises(errors.Forbidden):
        await kind.delete(member, target, force=True)
    await kind.delete(boss, target, force=True)
    assert await metadata.devices.get(id) is None


async def test_an_empty_one_goes_without_force(metadata, kind, boss):
    made = await kind.insert(unique("name"))
    await kind.delete(boss, made.id)
    assert await kind.get(made.id) is None


async def test_a_deletion_without_force_waits_for_a_save_on_its_way(metadata, kind, boss, postgres_url):
    network, device_type = await container(metadata)
    target = network if kind is metadata.networks else device_type
    id = unique("d")
    async with await psycopg.AsyncConnection.connect(postgres_url) as saving:
        await saving.execute("INSERT INTO devices VALUES (%s, 'n', NULL, %s, %s)", (id, network, device_type))
        deleting = asyncio.create_task(kind.delete(boss, target))
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as watching:
            blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            async with asyncio.timeout(4):
                while (await (await watching.execute(blocked)).fetchone()) == (0,):
                    pass
    with pytest.raises(errors.BadRequest, match=id):
        await deleting
    assert await metadata.devices.get(id) is not None


async def test_a_device_saved_while_its_network_goes_is_refused_or_goes_too(metadata, boss):
    for _ in range(10):
        network, _ = await container(metadata)
        ids = [unique("d") for _ in range(4)]
        changes = DeviceChanges(name="n", network_id=network)
        results = await asyncio.gather(
            *(metadata.devices.save(boss, id, changes) for id in ids),
            metadata.networks.delete(boss, network, force=True),
            return_exceptions=True,
        )
        assert results[-1] is None
        assert all(isinstance(r, tuple | errors.BadRequest) for r in results[:-1]), results
        assert [d for id in ids if (d := await metadata.devices.get(id)) is not None] == []


async def test_lists(metadata, kind):
    prefix = unique("listed")
    made = [await kind.insert(f"{prefix}{x}") for x in ("b", "a", "%")]
    who = await admin(metadata)
    like = {"name_pattern": f"{prefix}%"}
    assert await kind.list(who, **like) == made
    assert await kind.list(who, **like, sort_field="NAME") == [made[2], made[1], made[0]]
    assert await kind.list(who, **like, sort_field="id", descending=True, take=1, skip=1) == [made[1]]
    assert await kind.list(who, name=f"{prefix}a") == [made[1]]
    assert await kind.count(who, **like) == 3
    with pytest.raises(errors.BadRequest):
        await kind.list(who, sort_field="description")


async def test_configuration(metadata):
    name = unique("some.name")
    assert await metadata.configuration.get(name) is None
    first = await metadata.configuration.put(name, "a")
    second = await metadata.configuration.put(name, "b")
    assert second.entity_version == first.entity_version + 1
    assert await metadata.configuration.get(name) == second
    for bad in (("", "v"), ("x" * 33, "v"), (name, ""), (name, "v" * 129), (name, "\0")):
        with pytest.raises(errors.BadRequest):
            await metadata.configuration.put(*bad)
    await metadata.configuration.delete(name)
    with pytest.raises(errors.NotFound, match=f"Requested config with name = {name} not found in the database"):
        await metadata.configuration.delete(name)


async def test_plugins_belong_to_their_owners(metadata, boss):
    owner, other = await client(metadata), await client(metadata)
    topic = f"plugin_topic_{unique()}"
    new = NewPlugin("name", None, topic, "*/*/*/*/*", owner.user_id, b"{}")
    assert await metadata.plugin_streams.reserve(topic) == 1
    plugin = await metadata.plugins.insert(new, 1, [])
    assert await metadata.plugins.by_topic(topic) == plugin
    assert await metadata.plugins.list(owner) == [plugin]
    assert await metadata.plugins.list(other) == []
    assert plugin in await metadata.plugins.list(boss, status=2, user_id=owner.user_id)
    assert await metadata.plugins.count(boss, topic_name=topic) == 1
    with pytest.raises(errors.Forbidden, match=NO_PLUGIN):
        await metadata.plugins.list(other, user_id=owner.user_id)
    with pytest.raises(errors.Forbidden, match="A user can have 1 plugins"):
        await metadata.plugins.insert(replace(new, topic_name=f"{topic}-2"), 1, [])
    with pytest.raises(errors.Forbidden, match=NO_PLUGIN):
        await metadata.plugins.delete(other, topic, lambda state: [])
    assert await metadata.plugins.delete(owner, topic, lambda state: []) == plugin
    with pytest.raises(errors.Forbidden, match=NO_PLUGIN):
        await metadata.plugins.delete(owner, topic, lambda state: [])
    with pytest.raises(errors.NotFound, match=NO_SUCH_PLUGIN):
        await metadata.plugins.delete(boss, topic, lambda state: [])
