"""What networks and device types have in common: named containers of devices."""

from __future__ import annotations

import builtins
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, ColumnElement, Select, Table, delete, func, insert, not_, select, update

from skep import errors
from skep.access import Principal
from skep.wire.fields import Description, Name, check

from .database import Database, Transaction
from .lists import fits, like, page, within
from .rows import ContainerChanges, DeviceType, Network, values
from .tables import devices

C = TypeVar("C", Network, DeviceType)

TOLD = 1_000
"""Most ids told one by one to the caches; past it they drop the whole entity."""
NAMED = 20
"""Most devices named in a refusal."""

NO_NETWORKS = "Networks with such networkIds wasn't found: {{[{}]}}"
NO_DEVICE_TYPES = "Device types with such deviceTypeIds wasn't found: {{[{}]}}"
"""What administrators are told; the ids, separated by ", "."""


class Containers(Generic[C]):
    """`entity` is the name in `Changed`, `noun` the one in texts. Scope of a principal: `_scope`."""

    row: type[C]
    entity: str
    noun: str
    table: Table
    members: Table
    member_column: Column[int]
    device_column: Column[int]

    def __init__(self, database: Database) -> None:
        self._database = database

    def _scope(self, principal: Principal) -> frozenset[int] | None:
        raise NotImplementedError

    def missing(self, id: int) -> errors.NotFound:
        return errors.NotFound(f"{self.noun} with id = {id} not found")

    async def get(self, id: int) -> C | None:
        return (await self.get_many([id])).get(id)

    async def get_many(self, ids: builtins.list[int]) -> dict[int, C]:
        """Those that exist, by id."""
        query = select(self.table).where(within(self.table.c.id, [i for i in ids if fits(i)]))
        return {row.id: self.row(*row) for row in await self._database.read(Transaction.all, query)}

    async def list(
        self,
        scope: Principal,
        name: str | None = None,
        name_pattern: str | None = None,
        sort_field: str | None = None,
        descending: bool = False,
        take: int | None = None,
        skip: int = 0,
    ) -> builtins.list[C]:
        """Those the principal sees. sort_field: id or name, else BadRequest."""
        query = self._filtered(select(self.table), scope, name, name_pattern)
        sortable = {"id": self.table.c.id, "name": self.table.c.name}
        query = page(query, sortable, self.table.c.id, sort_field, descending, take, skip)
        return [self.row(*row) for row in await self._database.read(Transaction.all, query)]

    async def count(self, scope: Principal, name: str | None = None, name_pattern: str | None = None) -> int:
        query = self._filtered(select(func.count()).select_from(self.table), scope, name, name_pattern)
        count: int = await self._database.read(Transaction.value, query)
        return count

    def _filtered(
        self, query: Select[Any], scope: Principal, name: str | None, name_pattern: str | None
    ) -> Select[Any]:
        query = query.where(within(self.table.c.id, self._scope(scope)))
        if name is not None:
            query = query.where(self.table.c.name == name)
        if name_pattern is not None:
            query = query.where(like(self.table.c.name, name_pattern))
        return query

    async def insert(self, name: str, description: str | None = None) -> C:
        """Nobody is a member yet. Raises Forbidden where the name is taken."""
        return await self._database.write(self._insert, name, description)

    async def _insert(self, t: Transaction, name: str, description: str | None) -> C:
        columns = {"name": check(Name, name), "description": _description(description)}
        row = await t.first(insert(self.table).values(columns).returning(self.table))
        assert row is not None
        t.changed(self.entity, row.id)
        return self.row(*row)

    async def update(self, id: int, changes: ContainerChanges) -> C:
        """Raises NotFound; Forbidden where the name is taken."""
        return await self._database.write(self._update, id, changes)

    async def _update(self, t: Transaction, id: int, changes: ContainerChanges) -> C:
        columns = values(changes, frozenset())  # absent and null both keep, the description too
        if "name" in columns:
            check(Name, str(columns["name"]))
        if "description" in columns:
            _description(str(columns["description"]))
        query: Any = select(self.table).where(self.table.c.id == id)
        if columns:
            query = update(self.table).where(self.table.c.id == id).values(columns).returning(self.table)
        row = await t.first(query) if fits(id) else None
        if row is None:
            raise self.missing(id)
        if columns:
            t.changed(self.entity, id)
        return self.row(*row)

    async def delete(self, scope: Principal, id: int, force: bool = False) -> None:
        """With `force` its devices are deleted too, without it BadRequest names those that the principal sees.
        Raises NotFound; Forbidden where `force` would take devices that the principal may not see or delete."""
        await self._database.write(self._delete, scope, id, force)

    async def _delete(self, t: Transaction, scope: Principal, id: int, force: bool) -> None:
        locked = select(self.table.c.id).where(self.table.c.id == id).with_for_update()
        if not fits(id) or await t.first(locked) is None:
            raise self.missing(id)
        inside = [row.id for row in await t.all(self._devices(id))]
        if inside and not force:
            raise errors.BadRequest(await self._refusal(t, scope, id))
        if inside and await t.first(self._devices(id).where(not_(_commanded(scope)))) is not None:
            raise errors.Forbidden
        members = select(self.members.c.user_id).where(self.member_column == id).limit(TOLD + 1)
        users = [row.user_id for row in await t.all(members)]
        await t.run(delete(self.table).where(self.table.c.id == id))
        t.changed(self.entity, id)
        for entity, ids in (("device", inside), ("user", users)):
            if ids:
                t.changed(entity, *(ids if len(ids) <= TOLD else ()))

    def _devices(self, id: int) -> Select[Any]:
        return select(devices.c.id).where(self.device_column == id).order_by(devices.c.id).limit(TOLD + 1)

    async def _refusal(self, t: Transaction, scope: Principal, id: int) -> str:
        named = self._devices(id).where(_seen(scope)).limit(NAMED)
        names = ", ".join(row.id for row in await t.all(named))
        return f"{self.noun} with id = {id} has devices and is deleted only with force. Devices: [{names}]"


def _seen(scope: Principal) -> ColumnElement[bool]:
    return within(devices.c.network_id, scope.networks) & within(devices.c.device_type_id, scope.device_types)


def _commanded(scope: Principal) -> ColumnElement[bool]:
    return _seen(scope) if scope.is_admin else _seen(scope) & not_(devices.c.is_blocked)


def _description(description: str | None) -> str | None:
    return None if description is None else check(Description, description)
