"""Devices: read, list, save, delete, with the caller's rights."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from msgspec import UNSET, Struct, UnsetType

from frontend.core.messages import Acknowledged
from frontend.core.rights import Rights
from skep import errors
from skep.access import Principal
from skep.metadata.lists import descending
from skep.metadata.rows import Device, DeviceChanges
from skep.web.json import json_object
from skep.wire.fields import DeviceName, Integer, JsonObject
from skep.wire.messages import NOTIFICATION


class Repository(Protocol):
    """`skep.metadata.Metadata.devices`."""

    async def list(self, scope: Principal, *args: Any, **filters: Any) -> list[Device]: ...
    async def count(self, scope: Principal, *args: Any, **filters: Any) -> int: ...
    async def save(self, principal: Principal, id: str, changes: DeviceChanges) -> tuple[Device, bool, Any]: ...
    async def delete(self, id: str) -> bool: ...


class Handled(Protocol):
    """`skep.metadata.Relay.handled`."""

    def __call__(self, saved: Any) -> Awaitable[bool]: ...


class DeviceBody(Struct, rename="camel"):
    """Body of PUT /device/{id} and `device` of device/save. An absent `data` keeps what is stored, null clears it."""

    name: DeviceName | None = None
    data: JsonObject | UnsetType = UNSET
    network_id: Integer | None = None
    device_type_id: Integer | None = None
    is_blocked: bool | None = None

    def changes(self) -> DeviceChanges:
        """Raises BadRequest where `data` is no object."""
        data = UNSET if isinstance(self.data, UnsetType) else json_object(self.data)
        return DeviceChanges(self.name, data, self.network_id, self.device_type_id, self.is_blocked)


class Devices:
    """acknowledged: as in `Messages`."""

    def __init__(self, repository: Repository, rights: Rights, handled: Handled, acknowledged: Acknowledged) -> None:
        self._repository, self._rights, self._handled = repository, rights, handled
        self._acknowledged = acknowledged

    async def list(
        self,
        caller: Principal,
        name: str | None,
        name_pattern: str | None,
        network_id: int | None,
        network_name: str | None,
        sort_field: str | None,
        sort_order: str | None,
        take: int | None,
        skip: int,
    ) -> list[Device]:
        """Raises BadRequest."""
        order = descending(sort_order)
        return await self._repository.list(
            caller, name, name_pattern, network_id, network_name, sort_field, order, take, skip
        )

    async def count(
        self,
        caller: Principal,
        name: str | None,
        name_pattern: str | None,
        network_id: int | None,
        network_name: str | None,
    ) -> int:
        return await self._repository.count(caller, name, name_pattern, network_id, network_name)

    async def save(self, caller: Principal, id: str, body: DeviceBody) -> None:
        """Returns when the device's notification can be read, too."""
        changes = body.changes()
        try:
            device, _, saved = await self._repository.save(caller, id, changes)
        except errors.Forbidden:
            fresh = await self._rights.fresh(caller)  # the refusal may be older than the right
            if fresh is caller:
                raise
            device, _, saved = await self._repository.save(fresh, id, changes)
        await self._handled(saved)
        self._acknowledged(NOTIFICATION, device)

    async def delete(self, caller: Principal, id: str) -> None:
        """Raises NotFound, Forbidden."""
        await self._rights.removable(caller, id)
        if not await self._repository.delete(id):
            raise errors.NotFound(f"Device with such deviceId = {id} not found")
