"""Plugins as registered: filter, topic, status, owner."""

from __future__ import annotations

import builtins
from typing import Any

from sqlalchemy import Select, delete, func, insert, select, update

from skep import errors
from skep.access import Principal

from .database import Database, Transaction
from .lists import fits, like, page, within
from .rows import NewPlugin, Plugin, PluginChanges, values
from .tables import plugins

NO_PLUGIN = "No access to plugin"
MISSING = "Plugin is not found"

_SORT = {"id": plugins.c.id, "name": plugins.c.name}
_CLEARABLE = frozenset({"description", "subscription_id", "parameters"})


class Plugins:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_topic(self, topic_name: str) -> Plugin | None:
        return (await self.by_topics([topic_name])).get(topic_name)

    async def by_topics(self, topic_names: builtins.list[str]) -> dict[str, Plugin]:
        """Those that exist, by topic name."""
        wanted = [name for name in topic_names if "\0" not in name]
        query = select(plugins).where(plugins.c.topic_name.in_(wanted))
        return {row.topic_name: Plugin(*row) for row in await self._database.read(Transaction.all, query)}

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
        query = _filtered(select(plugins), scope, name, name_pattern, topic_name, status, user_id)
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

    async def insert(self, new: NewPlugin) -> Plugin:
        return await self._database.write(_insert, new)

    async def update(self, scope: Principal, topic_name: str, changes: PluginChanges) -> Plugin:
        """Raises NotFound for an admin, Forbidden for a client, where it is missing or another's."""
        return await self._database.write(_update, scope, topic_name, changes)

    async def delete(self, scope: Principal, topic_name: str) -> Plugin:
        """Gives what was deleted. Raises as `update`."""
        return await self._database.write(_delete, scope, topic_name)


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


async def _insert(t: Transaction, new: NewPlugin) -> Plugin:
    columns = {name: getattr(new, name) for name in new.__struct_fields__}
    row = await t.first(insert(plugins).values(columns).returning(plugins))
    assert row is not None
    t.changed("plugin", row.topic_name)
    return Plugin(*row)


async def _owned(t: Transaction, scope: Principal, topic_name: str) -> Plugin:
    row = await t.first(select(plugins).where(plugins.c.topic_name == topic_name).with_for_update())
    if row is None and scope.is_admin:
        raise errors.NotFound(MISSING)
    if row is None or not (scope.is_admin or row.user_id == scope.user_id):
        raise errors.Forbidden(NO_PLUGIN)
    return Plugin(*row)


async def _update(t: Transaction, scope: Principal, topic_name: str, changes: PluginChanges) -> Plugin:
    plugin = await _owned(t, scope, topic_name)
    columns = values(changes, _CLEARABLE)
    if not columns:
        return plugin
    row = await t.first(update(plugins).where(plugins.c.id == plugin.id).values(columns).returning(plugins))
    assert row is not None
    t.changed("plugin", topic_name)
    return Plugin(*row)


async def _delete(t: Transaction, scope: Principal, topic_name: str) -> Plugin:
    plugin = await _owned(t, scope, topic_name)
    await t.run(delete(plugins).where(plugins.c.id == plugin.id))
    t.changed("plugin", topic_name)
    return plugin
