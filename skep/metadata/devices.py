"""Devices: lists, and the rules of saving one (DeviceHive API, PUT /device/{id}).

Stricter than DeviceHive: a network or device type given must also be within the caller's token, one that is not there
gets the same answer as a foreign one, and an existing device is updated only by a caller who sees both its network and
its type, a blocked one only by an administrator. An absent `data` keeps what is stored.
"""

from __future__ import annotations

import builtins
import re
from typing import Any

from msgspec import UNSET, Struct
from sqlalchemy import ColumnElement, Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from skep import errors
from skep.access import Principal
from skep.wire.fields import DeviceName, check

from . import failures, outbox
from .database import Database, Transaction
from .lists import fits, like, order, page, within
from .rows import Device, DeviceChanges, given
from .tables import device_types, devices, networks, user_network

NO_NETWORK = "No access to network!"
NO_DEVICE_TYPE = "No access to device type!"
NO_DEVICE = "No access to device"
BAD_ID = "Device Id can only contain letters, digits and dashes."
LONG_ID = "Device Id can not be longer than 48 characters."
BLOCKED = "Device is blocked"
NO_NAME = "name field cannot be null."

CONTAINER_LIMIT = 10_000
"""Most devices in the view of one network or device type."""

_ID = re.compile(r"[a-zA-Z0-9-]+")
_COLUMNS = [devices.c[name] for name in Device.__struct_fields__]
_SORT = {
    "name": devices.c.name,
    "network": devices.c.network_id,
    "deviceType": devices.c.device_type_id,
    "status": devices.c.is_blocked,
}


class Saved(Struct, frozen=True):
    """The `$device-add` or `$device-update` on its way. `Relay.handled` waits until it can be read; the device is
    saved whether or not that is in time."""

    device_id: str
    notification_id: int


class Devices:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, id: str) -> Device | None:
        return (await self.get_many([id])).get(id)

    async def get_many(self, ids: builtins.list[str]) -> dict[str, Device]:
        """Those that exist, by id."""
        wanted = [i for i in ids if valid(i)]
        rows = await self._database.read(Transaction.all, select(*_COLUMNS).where(devices.c.id.in_(wanted)))
        return {row.id: Device(*row) for row in rows}

    async def list(
        self,
        scope: Principal,
        name: str | None = None,
        name_pattern: str | None = None,
        network_id: int | None = None,
        network_name: str | None = None,
        sort_field: str | None = None,
        descending: bool = False,
        take: int | None = None,
        skip: int = 0,
    ) -> builtins.list[Device]:
        """Devices the principal sees. sort_field: name, network, deviceType or status, else BadRequest."""
        ids = page(select(devices.c.id), _SORT, devices.c.id, sort_field, descending, take, skip)
        by = order(_SORT, devices.c.id, sort_field, descending)
        return await self._database.read(_list, scope, name, name_pattern, network_id, network_name, ids, by)

    async def count(
        self,
        scope: Principal,
        name: str | None = None,
        name_pattern: str | None = None,
        network_id: int | None = None,
        network_name: str | None = None,
    ) -> int:
        return await self._database.read(_count, scope, name, name_pattern, network_id, network_name)

    async def within(
        self, scope: Principal, network_id: int | None = None, device_type_id: int | None = None
    ) -> builtins.list[Device]:
        """The devices of a network or device type that the principal sees, at most CONTAINER_LIMIT."""
        in_networks, of_types = scope.networks, scope.device_types
        if network_id is not None:
            in_networks = _common(in_networks, network_id)
        if device_type_id is not None:
            of_types = _common(of_types, device_type_id)
        query = _filtered(select(*_COLUMNS), in_networks, of_types)
        query = query.order_by(devices.c.id).limit(CONTAINER_LIMIT)
        return [Device(*row) for row in await self._database.read(Transaction.all, query)]

    async def save(self, principal: Principal, id: str, changes: DeviceChanges) -> tuple[Device, bool, Saved]:
        """Create or change a device. Gives the device, whether it is new, and what its notification is known by.
        Raises BadRequest, Forbidden, TooLarge with the API's texts."""
        check_id(id)
        return await self._database.write(_save, principal, id, changes)

    async def delete(self, id: str) -> bool:
        """False: there was none."""
        return await self._database.write(_delete, id)


def valid(id: str) -> bool:
    return len(id) <= 48 and _ID.fullmatch(id) is not None


def check_unblocked(device: Device, principal: Principal) -> None:
    """A blocked device is changed and deleted by administrators only, or it would unblock itself. Raises Forbidden."""
    if device.is_blocked and not principal.is_admin:
        raise errors.Forbidden(BLOCKED)


def check_id(id: str) -> None:
    """Characters only: what is too long is told after the rights, in the API's order."""
    if _ID.fullmatch(id) is None:
        raise errors.BadRequest(BAD_ID)


async def _list(
    t: Transaction,
    scope: Principal,
    name: str | None,
    name_pattern: str | None,
    network_id: int | None,
    network_name: str | None,
    ids: Select[Any],
    by: builtins.list[ColumnElement[Any]],
) -> builtins.list[Device]:
    """Ids from an index that has all that is filtered and sorted by, then the rows of the page: what is skipped or
    does not match is never read, however long its `data`."""
    networks = await _networks(t, scope, network_id, network_name)
    if networks is not None and not networks:
        return []
    page = _filtered(ids, networks, scope.device_types, name, name_pattern).subquery()
    query = select(*_COLUMNS).join(page, page.c.id == devices.c.id).order_by(*by)
    return [Device(*row) for row in await t.all(query)]


async def _count(
    t: Transaction,
    scope: Principal,
    name: str | None,
    name_pattern: str | None,
    network_id: int | None,
    network_name: str | None,
) -> int:
    networks = await _networks(t, scope, network_id, network_name)
    if networks is not None and not networks:
        return 0
    query = select(func.count()).select_from(devices)
    count: int = await t.value(_filtered(query, networks, scope.device_types, name, name_pattern))
    return count


async def _networks(
    t: Transaction, scope: Principal, network_id: int | None, network_name: str | None
) -> frozenset[int] | None:
    """Those to look into; None: all. As plain ids, so that the planner knows how many devices they have."""
    wanted = scope.networks
    if network_id is not None:
        wanted = _common(wanted, network_id if fits(network_id) else None)
    if network_name is not None:
        wanted = _common(wanted, await t.value(select(networks.c.id).where(networks.c.name == network_name)))
    return wanted


def _common(ids: frozenset[int] | None, id: int | None) -> frozenset[int]:
    return frozenset() if id is None or (ids is not None and id not in ids) else frozenset({id})


def _filtered(
    query: Select[Any],
    networks: frozenset[int] | None,
    device_types: frozenset[int] | None,
    name: str | None = None,
    name_pattern: str | None = None,
) -> Select[Any]:
    query = query.where(within(devices.c.network_id, networks))
    query = query.where(within(devices.c.device_type_id, device_types))
    if name is not None:
        query = query.where(devices.c.name == name)
    if name_pattern is not None:
        query = query.where(like(devices.c.name, name_pattern))
    return query


async def _save(t: Transaction, principal: Principal, id: str, changes: DeviceChanges) -> tuple[Device, bool, Saved]:
    # The network before the device: deleting a network locks in this order too.
    network_id = await _network(t, principal, given(changes.network_id))
    device_type_id = await _device_type(t, principal, given(changes.device_type_id))
    query = select(*_COLUMNS).where(devices.c.id == id).with_for_update(key_share=True)
    row = await t.first(query) if len(id) <= 48 else None
    if row is None:
        device = _new(id, changes, network_id, device_type_id)
        insert = upsert(devices).values(_columns(device)).on_conflict_do_nothing()
        if (
            await t.first(insert.returning(devices.c.id)) is None
        ):  # somebody else's save came first: this one is an update of it
            raise failures.Again
    else:
        device = _changed(Device(*row), principal, changes)
        await t.run(update(devices).where(devices.c.id == id).values(_columns(device)))
    notification_id = outbox.message_id()
    t.changed("device", id)
    t.call(outbox.device_saved(device, row is None, notification_id))
    return device, row is None, Saved(id, notification_id)


async def _network(t: Transaction, principal: Principal, wanted: int | None) -> int:
    member = select(user_network.c.network_id).where(user_network.c.user_id == principal.user_id)
    if wanted is None:
        query = member.where(within(user_network.c.network_id, principal.networks))
        found: int | None = await t.value(query.order_by(user_network.c.network_id).limit(1))
        if found is None:
            raise errors.Forbidden(NO_NETWORK)
        return found
    if not principal.sees_network(wanted):  # it may be there or not: whoever does not see it is not told
        raise errors.Forbidden(NO_NETWORK)
    locked = select(networks.c.id).where(networks.c.id == wanted).with_for_update(read=True, key_share=True)
    if not fits(wanted) or await t.first(locked) is None:
        raise errors.BadRequest
    if not principal.is_admin and await t.first(member.where(user_network.c.network_id == wanted)) is None:
        raise errors.Forbidden(NO_NETWORK)
    return wanted


async def _device_type(t: Transaction, principal: Principal, wanted: int | None) -> int:
    if wanted is None:
        seen = within(device_types.c.id, principal.device_types)
        found: int | None = await t.value(select(func.min(device_types.c.id)).where(seen))
        if found is None:
            raise errors.Forbidden(NO_DEVICE_TYPE)
        return found
    if not principal.sees_device_type(wanted):
        raise errors.Forbidden(NO_DEVICE_TYPE)
    if not fits(wanted) or await t.first(select(device_types.c.id).where(device_types.c.id == wanted)) is None:
        raise errors.BadRequest
    return wanted


def _new(id: str, changes: DeviceChanges, network_id: int, device_type_id: int) -> Device:
    if len(id) > 48:
        raise errors.BadRequest(LONG_ID)
    name = given(changes.name)
    if name is None:
        raise errors.BadRequest(NO_NAME)
    return Device(
        id=id,
        name=check(DeviceName, name),
        data=given(changes.data),
        network_id=network_id,
        device_type_id=device_type_id,
        is_blocked=given(changes.is_blocked) or False,
    )


def _changed(old: Device, principal: Principal, changes: DeviceChanges) -> Device:
    if not principal.sees(old.network_id, old.device_type_id):
        raise errors.Forbidden(NO_DEVICE)
    check_unblocked(old, principal)
    name, network_id = given(changes.name), given(changes.network_id)
    device_type_id, is_blocked = given(changes.device_type_id), given(changes.is_blocked)
    return Device(
        id=old.id,
        name=old.name if name is None else check(DeviceName, name),
        data=old.data if changes.data is UNSET else given(changes.data),
        network_id=old.network_id if network_id is None else network_id,
        device_type_id=old.device_type_id if device_type_id is None else device_type_id,
        is_blocked=old.is_blocked if is_blocked is None else is_blocked,
    )


def _columns(device: Device) -> dict[str, object]:
    return {name: getattr(device, name) for name in device.__struct_fields__}


async def _delete(t: Transaction, id: str) -> bool:
    if not valid(id) or not await t.affected(delete(devices).where(devices.c.id == id)):
        return False
    t.changed("device", id)
    return True
