"""Plugins, their streams and their sockets in real PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy import update

from plugin_manager.core.attendance import arrange
from skep import errors
from skep.metadata import Metadata, outbox, rows
from skep.metadata.database import Transaction
from skep.metadata.plugin_sockets import DEAF
from skep.metadata.plugin_streams import take
from skep.metadata.plugins import PluginChange, PluginState
from skep.metadata.relay import Relay
from skep.metadata.rows import NewPlugin, Plugin
from skep.metadata.tables import plugin_streams
from skep.wire.plugins import Attend, Filter, Seat, Socket
from tests.contract.metadata_support import FakeBus, admin, client, container, empty_outbox, opened, outbox_rows, unique

_numbers = itertools.count(1)


@pytest.fixture
async def metadata(postgres_url):
    async with opened(postgres_url) as made:
        yield made


async def plugin(metadata: Metadata, wanted: Filter = Filter(), **columns: object) -> Plugin:  # noqa: B008
    owner = await client(metadata)
    new = NewPlugin(
        name="name",
        description=None,
        topic_name=f"plugin_topic_{unique()}",
        filter="*/*/*/*/*",
        user_id=owner.user_id,
        wanted=msgspec.json.encode(wanted),
        **columns,  # type: ignore[arg-type]
    )
    await metadata.plugin_streams.reserve(new.topic_name)
    return await metadata.plugins.insert(new, 10, [])


def changed(state: PluginState | None, **columns: object) -> PluginChange:
    assert state is not None
    return PluginChange(replace(state.plugin, **columns), state.collecting, state.interests, [])


LEASE = 600_000
"""ms: none runs out by itself, however slow the machine is."""


async def attend(metadata: Metadata, run: str, *sockets: Socket, lease: int = LEASE) -> list[Seat]:
    told = Attend(run, next(_numbers), lease, list(sockets))
    return (await metadata.plugin_sockets.attend(told, lambda hall: arrange(hall, told, 4))).seats


async def test_what_decides_is_read_at_one_moment(metadata):
    network, device_type = await container(metadata)
    made = await plugin(metadata, Filter(networks=[network, 10**9], device_types=[device_type]), interests=b"\x91\x01")
    state = await metadata.plugins.state(made.topic_name)
    assert (state.plugin, state.owner.id, state.interests) == (made, made.user_id, b"\x91\x01")
    assert (state.networks, state.device_types) == ({network}, {device_type})
    await metadata.users.delete(await admin(metadata), made.user_id)
    assert (await metadata.plugins.state(made.topic_name)).owner is None
    assert await metadata.plugins.state("missing\0") is None


async def test_changes_wait_for_each_other_and_see_what_the_others_did(metadata):
    made = await plugin(metadata)
    counted = await asyncio.gather(
        *(
            metadata.plugins.change(made.topic_name, lambda state: changed(state, retention=state.plugin.retention + 1))
            for _ in range(5)
        )
    )
    assert sorted(plugin.retention for plugin in counted) == [made.retention + n for n in (1, 2, 3, 4, 5)]


async def test_records_leave_with_the_change_or_not_at_all(metadata):
    made = await plugin(metadata)
    await empty_outbox(metadata)
    records = [outbox.Row("subscriptions", b"k", b"v"), outbox.Row("subscriptions", b"gone", None)]
    await metadata.plugins.change(
        made.topic_name, lambda state: replace(changed(state, description="new"), records=records)
    )

    def refuse(state: PluginState | None) -> PluginChange:
        raise errors.Forbidden

    with pytest.raises(errors.Forbidden):
        await metadata.plugins.change(made.topic_name, refuse)
    bus = FakeBus()
    relay = Relay(metadata, bus)
    await relay.start()
    await asyncio.wait_for(relay.flushed(), 10)
    await relay.stop()
    assert [(topic, payload, key) for topic, payload, key in bus.sent if topic == "subscriptions"] == [
        ("subscriptions", b"v", b"k"),
        ("subscriptions", None, b"gone"),
    ]
    assert [c.ids for c in bus.changes()] == [[made.topic_name]]
    assert await outbox_rows(metadata) == []
    assert (await metadata.plugins.by_topic(made.topic_name)).description == "new"


async def test_users_have_so_many_plugins_also_at_once(metadata):
    owner = await client(metadata)
    new = [NewPlugin("name", None, unique("t"), "*", owner.user_id) for _ in range(6)]
    await asyncio.gather(*(metadata.plugin_streams.reserve(one.topic_name) for one in new))
    made = await asyncio.gather(*(metadata.plugins.insert(one, 3, []) for one in new), return_exceptions=True)
    assert sum(isinstance(one, Plugin) for one in made) == 3
    assert sum(isinstance(one, errors.Forbidden) for one in made) == 3


async def test_who_is_concerned_by_a_change(metadata):
    one, other = await plugin(metadata), await plugin(metadata, Filter(networks=[1]))
    assert await metadata.plugins.topics_of([one.user_id]) == [one.topic_name]
    assert {one.topic_name, other.topic_name} <= set(await metadata.plugins.topics_of())
    assert other.topic_name in await metadata.plugins.topics_naming("networks")
    assert one.topic_name not in await metadata.plugins.topics_naming("networks")
    assert other.topic_name not in await metadata.plugins.topics_naming("device_types")


MINUTE = 60_000
FUTURE = -MINUTE
"""As if a minute had passed."""


async def doomed(metadata: Metadata, topic: str, age: int = MINUTE) -> list[int]:
    return sorted(number for name, number in await metadata.plugin_streams.doom(age) if name == topic)


async def goes_on(metadata: Metadata, topic: str, number: int) -> None:
    await metadata.plugins.change(topic, lambda state: changed(state, stream=number))


async def test_a_number_is_given_once(metadata):
    made = await plugin(metadata)
    numbers = await asyncio.gather(*(metadata.plugin_streams.reserve(made.topic_name) for _ in range(3)))
    assert sorted(numbers) == [2, 3, 4]
    await goes_on(metadata, made.topic_name, 4)
    for number in (2, 3):
        await metadata.plugin_streams.forget(made.topic_name, number)
    assert await metadata.plugin_streams.reserve(made.topic_name) == 5


async def test_streams_that_are_left_behind_and_lost_are_cleared_away(metadata):
    made = await plugin(metadata)
    await metadata.plugin_streams.reserve(made.topic_name)
    await metadata.plugin_streams.reserve(made.topic_name)
    await goes_on(metadata, made.topic_name, 2)
    assert await doomed(metadata, made.topic_name) == [1]
    assert await doomed(metadata, made.topic_name) == [1]
    await metadata.plugin_streams.forget(made.topic_name, 1)
    assert await doomed(metadata, made.topic_name) == []
    assert await doomed(metadata, made.topic_name, FUTURE) == [3]
    await metadata.plugin_streams.reserve("plugin_topic_of_none")
    assert await doomed(metadata, "plugin_topic_of_none") == []
    assert await doomed(metadata, "plugin_topic_of_none", FUTURE) == [1]
    await metadata.plugins.delete(await admin(metadata), made.topic_name, lambda state: [])
    assert await doomed(metadata, made.topic_name) == [2, 3]


async def test_what_is_doomed_is_not_taken_and_what_is_taken_not_doomed(metadata):
    made = await plugin(metadata)
    await metadata.plugin_streams.reserve(made.topic_name)
    assert await doomed(metadata, made.topic_name, FUTURE) == [2]
    with pytest.raises(errors.Conflict):
        await goes_on(metadata, made.topic_name, 2)
    assert (await metadata.plugins.by_topic(made.topic_name)).stream == 1
    await metadata.plugin_streams.reserve("plugin_topic_late")
    assert await doomed(metadata, "plugin_topic_late", FUTURE) == [1]
    new = NewPlugin("late", None, "plugin_topic_late", "*", (await client(metadata)).user_id)
    with pytest.raises(errors.Conflict):
        await metadata.plugins.insert(new, 10, [])


async def test_who_dooms_while_a_stream_is_taken_sees_that(metadata):
    """An old reservation is taken in a transaction that began before the sweep, and ends after it."""
    made = await plugin(metadata)
    number = await metadata.plugin_streams.reserve(made.topic_name)
    taken = asyncio.Event()

    async def slowly(t: Transaction) -> None:
        await take(t, made.topic_name, number)
        taken.set()
        # The sweep has to wait for this row.
        await asyncio.wait({sweeping}, timeout=0.3)
        assert not sweeping.done()

    async def sweep() -> list[int]:
        await taken.wait()
        return await doomed(metadata, made.topic_name, MINUTE)

    sweeping = asyncio.create_task(sweep())
    await past_reservation(metadata, made.topic_name)
    await metadata.database.write(slowly)
    assert await asyncio.wait_for(sweeping, 10) == []


async def past_reservation(metadata: Metadata, topic: str) -> None:
    """As if the stream had been reserved long ago."""
    query = update(plugin_streams).where(plugin_streams.c.topic_name == topic).values(made_at=0)
    await metadata.database.write(Transaction.run, query)


async def test_sockets_come_and_go(metadata):
    made = await plugin(metadata)
    [seat] = await attend(metadata, "proxy.1", Socket(1, made.topic_name, "", "10.0.0.1", 123))
    assert seat == Seat(1, f"{made.topic_name}.1", f"plugin-{made.topic_name}.-0", True)
    shown = await metadata.plugins.by_topic(made.topic_name)
    assert (shown.status, shown.last_contact is not None) == (rows.PLUGIN_ACTIVE, True)
    contact = (await metadata.plugin_sockets.contacts([made.id]))[made.id]
    assert [(s.address, s.since, s.slot, s.suffix) for s in contact.sockets] == [("10.0.0.1", 123, 0, "")]
    assert await attend(metadata, "proxy.1") == []
    assert (await metadata.plugins.by_topic(made.topic_name)).status == rows.PLUGIN_INACTIVE
    assert await metadata.plugin_sockets.contacts([made.id]) == {}


async def test_proxies_that_tell_at_once_give_no_place_twice(metadata):
    made = await plugin(metadata)
    runs = [f"proxy.{n}" for n in range(6)]
    for _ in range(3):
        seats = await asyncio.gather(*(attend(metadata, run, Socket(1, made.topic_name, "")) for run in runs))
    flat = [seat for [seat] in seats]
    assert sorted(seat.group[-2:] for seat in flat if not seat.refusal) == ["-0", "-1", "-2", "-3"]
    assert sum(bool(seat.refusal) for seat in flat) == 2


async def test_what_was_overtaken_is_passed_over(metadata):
    made = await plugin(metadata)
    told = Attend("proxy.late", 5, LEASE, [Socket(1, made.topic_name)])
    await metadata.plugin_sockets.attend(told, lambda hall: arrange(hall, told, 4))
    for number in (4, 5):
        with pytest.raises(errors.Conflict):
            await metadata.plugin_sockets.attend(
                Attend("proxy.late", number, LEASE, []), lambda hall: arrange(hall, told, 4)
            )
    assert made.id in await metadata.plugin_sockets.contacts([made.id])


async def past(url: str, ms: int) -> None:
    """As if everything that was heard had been heard so much earlier."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("UPDATE plugin_proxies SET seen_at = seen_at - %s", (ms,))
        await connection.execute("UPDATE plugin_attendance SET listening_since = listening_since - %s", (ms,))


async def test_a_lease_that_is_not_renewed_runs_out(metadata, postgres_url):
    made = await plugin(metadata)
    await attend(metadata, "proxy.dead", Socket(1, made.topic_name, "x"))
    await metadata.plugin_sockets.reap()
    assert made.id in await metadata.plugin_sockets.contacts([made.id])
    await past(postgres_url, LEASE + 100)
    assert await metadata.plugin_sockets.reap() >= 1
    assert (await metadata.plugins.by_topic(made.topic_name)).status == rows.PLUGIN_INACTIVE
    assert await metadata.plugin_sockets.contacts([made.id]) == {}


async def test_but_not_while_nobody_listened(metadata, postgres_url):
    made = await plugin(metadata)
    await attend(metadata, "proxy.patient", Socket(1, made.topic_name, "x"))
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        await connection.execute("UPDATE plugin_proxies SET seen_at = seen_at - %s", (2 * LEASE,))
        await connection.execute("UPDATE plugin_attendance SET heard_at = heard_at - %s", (DEAF + 1_000,))
    await metadata.plugin_sockets.reap()
    assert made.id in await metadata.plugin_sockets.contacts([made.id])
    await past(postgres_url, LEASE + 100)
    assert await metadata.plugin_sockets.reap() >= 1


async def test_a_clock_that_was_set_back_ends_no_lease_and_keeps_none_for_ever(metadata, postgres_url):
    made = await plugin(metadata)
    await attend(metadata, "proxy.clock", Socket(1, made.topic_name, "x"))
    hour = 3_600_000
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        await connection.execute("UPDATE plugin_proxies SET seen_at = seen_at + %s", (hour,))
        await connection.execute(
            "UPDATE plugin_attendance SET heard_at = heard_at + %s, listening_since = listening_since + %s",
            (hour, hour),
        )
    await metadata.plugin_sockets.reap()
    assert made.id in await metadata.plugin_sockets.contacts([made.id])
    await past(postgres_url, LEASE + 100)
    assert await metadata.plugin_sockets.reap() >= 1


async def test_a_plugin_takes_its_sockets_along(metadata):
    made = await plugin(metadata)
    await attend(metadata, "proxy.left", Socket(1, made.topic_name, ""))
    await metadata.plugins.delete(await admin(metadata), made.topic_name, lambda state: [])
    [seat] = await attend(metadata, "proxy.left", Socket(1, made.topic_name, ""))
    assert seat.refusal == "Plugin is not found"
