"""Plugins as registered: what they want, what is collected for them, owner, status."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Select, Text, delete, func, insert, select, type_coerce, update

from skep import access, errors
from skep.access import Principal
from skep.wire.plugins import Filter

from . import outbox
from .database import Database, Transaction
from .lists import fits, like, page, within
from .plugin_streams import abandon, take
from .rows import NewPlugin, Plugin
from .tables import device_types, networks, plugins, users
from .users import rights_within

NO_PLUGIN = "No access to plugin"
MISSING = "Plugin is not found"

_SORT = {"id": plugins.c.id, "name": plugins.c.name}
_COLUMNS = [plugins.c[name] for name in Plugin.__struct_fields__]
_CHANGING = ("name", "description", "filter", "status", "parameters", "wanted", "retention", "enabled", "stream")
_wanted = msgspec.json.Decoder(Filter)


class PluginState(Struct, frozen=True):
    """All that decides what is collected for a plugin, as of one moment.

    owner: None where the user is gone. interests: MessagePack of the filters that its present stream was fed by;
    collecting: they are on the bus. networks, device_types: ids that the plugin names and that exist."""

    plugin: Plugin
    owner: access.User | None
    collecting: bool = False
    interests: bytes = b"\x90"
    networks: frozenset[int] = frozenset()
    device_types: frozenset[int] = frozenset()


class PluginChange(Struct, frozen=True):
    """What to write, and records for the bus that go with it. Id, topic, owner and last contact of `plugin` stay."""

    plugin: Plugin
    collecting: bool
    interests: bytes
    records: builtins.list[outbox.Row]


Decide = Callable[[PluginState | None], PluginChange | None]
"""Pure, and raises `SkepError`; None: nothing is to be changed."""


class Plugins:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_topic(self, topic_name: str) -> Plugin | None:
        return (await self.by_topics([topic_name])).get(topic_name)

    async def by_topics(self, topic_names: builtins.list[str]) -> dict[str, Plugin]:
        """Those that exist, by topic name."""
        wanted = [name for name in topic_names if "\0" not in name]
        query = select(*_COLUMNS).where(plugins.c.topic_name.in_(wanted))
        return {row.topic_name: Plugin(*row) for row in await self._database.read(Transaction.all, query)}

    async def topics_of(self, user_ids: builtins.list[int] | None = None) -> builtins.list[str]:
        """Topic names of the plugins of these users; None: of all."""
        query = select(plugins.c.topic_name).where(within(plugins.c.user_id, user_ids)).order_by(plugins.c.id)
        return [row.topic_name for row in await self._database.read(Transaction.all, query)]

    async def topics_naming(self, what: str) -> builtins.list[str]:
        """Topic names of the plugins that name "networks" or "device_types"."""
        naming = type_coerce(plugins.c.wanted, Text).like(f'%"{what}"%')
        query = select(plugins.c.topic_name).where(naming).order_by(plugins.c.id)
        return [row.topic_name for row in await self._database.read(Transaction.all, query)]

    async def list(
        self,
        scope: Principal,
        name: str | None = None,
        name_pattern: str | None = None,
        topic_name: str | None = None,
        status: int | None = None,
        user_id: int | None = None,
        sort_field: str | None = None,
        descending: bool = False,
        take: int | None = None,
        skip: int = 0,
    ) -> builtins.list[Plugin]:
        """Clients see their own, admins all. sort_field: id or name, else BadRequest."""
        query = _filtered(select(*_COLUMNS), scope, name, name_pattern, topic_name, status, user_id)
        query = page(query, _SORT, plugins.c.id, sort_field, descending, take, skip)
        return [Plugin(*row) for row in await self._database.read(Transaction.all, query)]

    async def count(
        self,
        scope: Principal,
        name: str | None = None,
        name_pattern: str | None = None,
        topic_name: str | None = None,
        status: int | None = None,
        user_id: int | None = None,
    ) -> int:
        query = select(func.count()).select_from(plugins)
        query = _filtered(query, scope, name, name_pattern, topic_name, status, user_id)
        count: int = await self._database.read(Transaction.value, query)
        return count

    async def count_of(self, user_id: int) -> int:
        count: int = await self._database.read(Transaction.value, _count_of(user_id))
        return count

    async def insert(self, new: NewPlugin, most: int, records: builtins.list[outbox.Row]) -> Plugin:
        """records: told to the bus with it. Raises Forbidden where the owner has `most` plugins already, Conflict where
        its stream is doomed."""
        return await self._database.write(_insert, new, most, records)

    async def state(self, topic_name: str) -> PluginState | None:
        return await self._database.read(_state, topic_name)

    async def change(self, topic_name: str, decide: Decide) -> Plugin | None:
        """Read, decide and write in one transaction that no other change of the plugin comes into. Gives the plugin
        as it is then; None where there is none. Raises what `decide` raises, and Conflict where the stream it goes on
        with is doomed."""
        return await self._database.write(_change, topic_name, decide)

    async def delete(
        self, scope: Principal, topic_name: str, farewell: Callable[[PluginState], builtins.list[outbox.Row]]
    ) -> Plugin:
        """Gives what was deleted; `farewell` says what the bus is told. Raises NotFound for an admin, Forbidden for a
        client, where it is missing or another's."""
        return await self._database.write(_delete, scope, topic_name, farewell)


def check_access(scope: Principal, plugin: Plugin | None) -> Plugin:
    """Raises NotFound for an admin, Forbidden for a client, where it is missing or another's."""
    if plugin is None and scope.is_admin:
        raise errors.NotFound(MISSING)
    if plugin is None or not (scope.is_admin or plugin.user_id == scope.user_id):
        raise errors.Forbidden(NO_PLUGIN)
    return plugin


def too_many(most: int) -> errors.Forbidden:
    return errors.Forbidden(f"A user can have {most} plugins")


def _count_of(user_id: int) -> Select[Any]:
    return select(func.count()).select_from(plugins).where(plugins.c.user_id == user_id)


def _filtered(
    query: Select[Any],
    scope: Principal,
    name: str | None,
    name_pattern: str | None,
    topic_name: str | None,
    status: int | None,
    user_id: int | None,
) -> Select[Any]:
    if not scope.is_admin:
        if user_id is not None and user_id != scope.user_id:
            raise errors.Forbidden(NO_PLUGIN)
        query = query.where(plugins.c.user_id == scope.user_id)
    if name is not None:
        query = query.where(plugins.c.name == name)
    if name_pattern is not None:
        query = query.where(like(plugins.c.name, name_pattern))
    if topic_name is not None:
        query = query.where(plugins.c.topic_name == topic_name)
    if status is not None:
        query = query.where(within(plugins.c.status, [status] if fits(status) else []))
    if user_id is not None:
        query = query.where(within(plugins.c.user_id, [user_id] if fits(user_id) else []))
    return query


async def _insert(t: Transaction, new: NewPlugin, most: int, records: list[outbox.Row]) -> Plugin:
    # The user's row is the lock: of two registrations at once the second counts the first.
    await t.first(select(users.c.id).where(users.c.id == new.user_id).with_for_update())
    if await t.value(_count_of(new.user_id)) >= most:
        raise too_many(most)
    columns = {name: getattr(new, name) for name in new.__struct_fields__}
    await take(t, new.topic_name, new.stream)
    row = await t.first(insert(plugins).values(columns).returning(*_COLUMNS))
    assert row is not None
    t.changed("plugin", row.topic_name)
    for record in records:
        t.call(record)
    return Plugin(*row)


async def _state(t: Transaction, topic_name: str, lock: bool = False) -> PluginState | None:
    query = select(*_COLUMNS, plugins.c.collecting, plugins.c.interests).where(plugins.c.topic_name == topic_name)
    row = await t.first(query.with_for_update() if lock else query) if "\0" not in topic_name else None
    if row is None:
        return None
    plugin = Plugin(*row[: len(_COLUMNS)])
    asked = _wanted.decode(plugin.wanted)
    return PluginState(
        plugin=plugin,
        owner=(await rights_within(t, [plugin.user_id or 0])).get(plugin.user_id or 0),
        collecting=row.collecting,
        interests=row.interests,
        networks=await _existing(t, networks, asked.networks),
        device_types=await _existing(t, device_types, asked.device_types),
    )


async def _existing(t: Transaction, table: Any, ids: list[int] | None) -> frozenset[int]:
    if not ids:
        return frozenset()
    return frozenset(row.id for row in await t.all(select(table.c.id).where(within(table.c.id, ids))))


async def _change(t: Transaction, topic_name: str, decide: Decide) -> Plugin | None:
    state = await _state(t, topic_name, lock=True)
    change = decide(state)
    if state is None or change is None:
        return None if state is None else state.plugin
    if change.plugin.stream != state.plugin.stream:
        await take(t, topic_name, change.plugin.stream)
    columns = {name: getattr(change.plugin, name) for name in _CHANGING}
    columns |= {"collecting": change.collecting, "interests": change.interests}
    await t.run(update(plugins).where(plugins.c.id == state.plugin.id).values(columns))
    t.changed("plugin", topic_name)
    for record in change.records:
        t.call(record)
    return change.plugin


async def _delete(
    t: Transaction, scope: Principal, topic_name: str, farewell: Callable[[PluginState], list[outbox.Row]]
) -> Plugin:
    state = await _state(t, topic_name, lock=True)
    plugin = check_access(scope, state.plugin if state is not None else None)
    assert state is not None
    await t.run(delete(plugins).where(plugins.c.id == plugin.id))
    await abandon(t, topic_name)
    t.changed("plugin", topic_name)
    for record in farewell(state):
        t.call(record)
    return plugin
