"""Open sockets of plugins, as their proxies told: which proxy, which plugin, which place. True for a lease.

Times are ms of PostgreSQL's clock, whichever service writes them.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct
from sqlalchemy import BigInteger, and_, cast, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from skep import access, errors
from skep.wire.plugins import Attend, Seat

from .database import Database, Transaction
from .lists import within
from .rows import PLUGIN_ACTIVE, PLUGIN_INACTIVE, Plugin
from .tables import plugin_attendance, plugin_groups, plugin_proxies, plugin_sockets, plugins
from .users import rights_within

DEAF = 2_000
"""So long without a word from any proxy means that nobody was there to hear them: their leases begin anew."""

HEARD = 500
"""That somebody listened is written so often."""

_PLUGIN = [plugins.c[name] for name in Plugin.__struct_fields__]
_NOW = cast(func.extract("epoch", func.clock_timestamp()) * 1000, BigInteger)


class PluginSocket(Struct, frozen=True):
    """suffix: the subscription group it asked for, None while it is not subscribed. slot: the place of one without a
    group. since: ms of the proxy's clock; asked_at: when it was first heard of."""

    run: str
    id: int
    plugin_id: int
    suffix: str | None
    slot: int | None
    address: str
    since: int
    asked_at: int


class PluginGroup(Struct, frozen=True):
    """A group of the bus that reads a plugin's streams. stream: the number of the first one it was seen on. is_first:
    the plugin's first group of all."""

    plugin_id: int
    name: str
    stream: int
    is_first: bool
    used_at: int


class Hall(Struct):
    """What is known when a proxy tells its sockets. plugins: those it names or named, by topic, with their owners.
    sockets, groups: of these plugins. proxies: (silence in ms, lease) of each that has sockets there, the one that
    tells included; a lapsed one's silence is longer than its lease."""

    now: int
    plugins: dict[str, tuple[Plugin, access.User | None]]
    sockets: builtins.list[PluginSocket]
    proxies: dict[str, tuple[int, int]]
    groups: builtins.list[PluginGroup]


class Arrangement(Struct):
    """seats: one for each socket of the `Attend`. entered: those that were let in just now. The rest is to be written;
    `active`: whether the plugin, by id, has sockets now, for those where that may have changed."""

    seats: builtins.list[Seat]
    entered: builtins.list[PluginSocket] = []
    sockets: builtins.list[PluginSocket] = []
    gone: builtins.list[PluginSocket] = []
    groups: builtins.list[PluginGroup] = []
    forgotten: builtins.list[PluginGroup] = []
    active: dict[int, bool] = {}

    @property
    def is_empty(self) -> bool:
        return not (self.sockets or self.gone or self.groups or self.forgotten or self.active)


class Contact(Struct, frozen=True):
    """The sockets of one plugin; `at`: when one of them was last heard of."""

    sockets: builtins.list[PluginSocket]
    at: int


class PluginSockets:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def attend(self, told: Attend, arrange: Callable[[Hall], Arrangement]) -> Arrangement:
        """Take what a proxy tells, and what `arrange` makes of it. Raises Conflict for what a newer one overtook."""
        return await self._database.write(_attend, told, arrange)

    async def reap(self) -> int:
        """Forget proxies whose lease lapsed, with their sockets; how many."""
        return await self._database.write(_reap)

    async def contacts(self, plugin_ids: builtins.list[int]) -> dict[int, Contact]:
        """Of those that have open sockets."""
        return await self._database.read(_contacts, plugin_ids)


async def _attend(t: Transaction, told: Attend, arrange: Callable[[Hall], Arrangement]) -> Arrangement:
    now: int = await t.value(select(_NOW))
    listening = await _listen(t, now)
    locked = select(plugin_proxies.c.number).where(plugin_proxies.c.run == told.run).with_for_update()
    number = await t.value(locked)
    if number is not None and number >= told.number:
        raise errors.Conflict
    row = {"run": told.run, "number": told.number, "lease": told.lease, "seen_at": now}
    changed = {name: row[name] for name in ("number", "lease", "seen_at")}
    await t.run(upsert(plugin_proxies).values(row).on_conflict_do_update(index_elements=["run"], set_=changed))
    # Most of the time nothing changes, and nothing is locked then.
    arrangement = arrange(await _hall(t, told, now, listening, lock=False))
    if not arrangement.is_empty:
        arrangement = arrange(await _hall(t, told, now, listening, lock=True))
        await _write(t, arrangement, now)
    return arrangement


async def _listen(t: Transaction, now: int) -> int:
    """Since when proxies are listened to without a break. A clock that was set back begins anew as well."""
    row = await t.first(select(plugin_attendance))
    assert row is not None
    # Who waited for others has a `now` a little behind theirs.
    if -DEAF <= now - row.heard_at <= HEARD:
        return int(row.listening_since)
    row = await t.first(select(plugin_attendance).with_for_update())
    assert row is not None
    since, heard = row.listening_since, row.heard_at
    if -DEAF <= now - heard <= DEAF:
        heard = max(now, heard)
    else:
        since = heard = now
        await t.run(update(plugin_proxies).where(plugin_proxies.c.seen_at > now).values(seen_at=now))
    await t.run(update(plugin_attendance).values(heard_at=heard, listening_since=since))
    return int(since)


async def _hall(t: Transaction, told: Attend, now: int, listening: int, lock: bool) -> Hall:
    named = sorted({socket.topic for socket in told.sockets if "\0" not in socket.topic})
    own = select(plugin_sockets.c.plugin_id).where(plugin_sockets.c.run == told.run)
    query = select(*_PLUGIN).where(plugins.c.topic_name.in_(named) | plugins.c.id.in_(own)).order_by(plugins.c.id)
    found = [Plugin(*row) for row in await t.all(query.with_for_update() if lock else query)]
    ids = [plugin.id for plugin in found]
    owners = await rights_within(t, [plugin.user_id or 0 for plugin in found]) if found else {}
    sockets = await t.all(select(plugin_sockets).where(within(plugin_sockets.c.plugin_id, ids))) if found else []
    groups = await t.all(select(plugin_groups).where(within(plugin_groups.c.plugin_id, ids))) if found else []
    runs = {row.run for row in sockets} | {told.run}
    proxies = await t.all(select(plugin_proxies).where(plugin_proxies.c.run.in_(sorted(runs))))
    return Hall(
        now=now,
        plugins={plugin.topic_name: (plugin, owners.get(plugin.user_id or 0)) for plugin in found},
        sockets=[PluginSocket(*row) for row in sockets],
        proxies={row.run: (now - max(row.seen_at, listening), row.lease) for row in proxies},
        groups=[PluginGroup(*row) for row in groups],
    )


async def _write(t: Transaction, arrangement: Arrangement, now: int) -> None:
    await _delete(t, arrangement.gone)
    for group in arrangement.forgotten:
        match = and_(plugin_groups.c.plugin_id == group.plugin_id, plugin_groups.c.name == group.name)
        await t.run(delete(plugin_groups).where(match))
    await _put(t, plugin_groups, arrangement.groups, ["plugin_id", "name"], ["used_at"])
    # Places that become free come first: another socket may have got one of them.
    sockets = sorted(arrangement.sockets, key=lambda socket: socket.slot is not None)
    await _put(t, plugin_sockets, sockets, ["run", "id"], ["suffix", "slot", "address"])
    await _note(t, arrangement.active, now)


async def _delete(t: Transaction, sockets: list[PluginSocket]) -> None:
    if sockets:
        key = tuple_(plugin_sockets.c.run, plugin_sockets.c.id)
        await t.run(delete(plugin_sockets).where(key.in_([(s.run, s.id) for s in sockets])))


async def _put(t: Transaction, table: Any, rows: Iterable[Struct], key: list[str], changing: list[str]) -> None:
    for row in rows:
        columns = {name: getattr(row, name) for name in row.__struct_fields__}
        changed = {name: columns[name] for name in changing}
        await t.run(upsert(table).values(columns).on_conflict_do_update(index_elements=key, set_=changed))


async def _note(t: Transaction, active: dict[int, bool], now: int) -> None:
    for id, is_active in active.items():
        await t.run(update(plugins).where(plugins.c.id == id).values(last_contact=now))
        # A plugin that was disabled keeps the status that says so.
        shown = update(plugins).where(plugins.c.id == id, plugins.c.enabled)
        await t.run(shown.values(status=PLUGIN_ACTIVE if is_active else PLUGIN_INACTIVE))


async def _reap(t: Transaction) -> int:
    now: int = await t.value(select(_NOW))
    listening = await _listen(t, now)
    seen = func.greatest(plugin_proxies.c.seen_at, listening)
    lapsed = select(plugin_proxies.c.run).where(seen + plugin_proxies.c.lease < now)
    runs = [row.run for row in await t.all(lapsed.with_for_update(skip_locked=True))]
    if not runs:
        return 0
    own = select(plugin_sockets.c.plugin_id).where(plugin_sockets.c.run.in_(runs))
    ids = [row.id for row in await t.all(_locked(plugins.c.id.in_(own)))]
    await t.run(delete(plugin_proxies).where(plugin_proxies.c.run.in_(runs)))
    left = {row.plugin_id for row in await t.all(select(plugin_sockets).where(within(plugin_sockets.c.plugin_id, ids)))}
    await _note(t, dict.fromkeys((id for id in ids if id not in left), False), now)
    return len(runs)


def _locked(match: Any) -> Any:
    return select(plugins.c.id).where(match).order_by(plugins.c.id).with_for_update()


async def _contacts(t: Transaction, plugin_ids: list[int]) -> dict[int, Contact]:
    query = select(plugin_sockets, plugin_proxies.c.seen_at).join(plugin_proxies)
    rows = await t.all(query.where(within(plugin_sockets.c.plugin_id, plugin_ids)).order_by(plugin_sockets.c.since))
    found: dict[int, Contact] = {}
    for *columns, seen in rows:
        socket = PluginSocket(*columns)
        before = found.get(socket.plugin_id, Contact([], 0))
        found[socket.plugin_id] = Contact([*before.sockets, socket], max(before.at, seen))
    return found
