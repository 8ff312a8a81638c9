"""Networks and device types: read, list, insert, update, delete, with the caller's rights."""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from msgspec import Struct

from frontend.core.rights import Rights
from skep.access import Principal
from skep.metadata.lists import descending
from skep.metadata.rows import ContainerChanges, Device, DeviceType, Network
from skep.wire.fields import Description, Name

if TYPE_CHECKING:
    from skep.metadata.containers import Containers as Repository

C = TypeVar("C", Network, DeviceType)


class ContainerBody(Struct):
    """What is absent or null stays."""

    name: Name | None = None
    description: Description | None = None


class NewContainer(ContainerBody):
    """Body of POST."""

    required: ClassVar = ("name",)


class Containers(Generic[C]):
    """sees: whether a principal sees the one of that id. inside: its devices that a principal sees.

    A caller that is limited to some can't tell missing from foreign: both are Forbidden."""

    def __init__(
        self,
        repository: Repository[C],
        rights: Rights,
        sees: Callable[[Principal, int], bool],
        inside: Callable[[Principal, int], Awaitable[list[Device]]],
    ) -> None:
        self._repository: Repository[C] = repository
        self._rights, self._sees, self._inside = rights, sees, inside

    async def list(
        self,
        caller: Principal,
        name: str | None,
        name_pattern: str | None,
        sort_field: str | None,
        sort_order: str | None,
        take: int | None,
        skip: int,
    ) -> list[C]:
        """Raises BadRequest."""
        order = descending(sort_order)
        return await self._repository.list(caller, name, name_pattern, sort_field, order, take, skip)

    async def count(self, caller: Principal, name: str | None, name_pattern: str | None) -> int:
        return await self._repository.count(caller, name, name_pattern)

    async def get(self, caller: Principal, id: int) -> tuple[C, builtins.list[Device]]:
        """It and its devices. Raises NotFound, Forbidden."""
        caller = await self._seen(caller, id)
        found = await self._repository.get(id)
        if found is None:
            raise self._repository.missing(id)
        return found, await self._inside(caller, id)

    async def insert(self, body: NewContainer) -> C:
        """Raises BadRequest; Forbidden where the name is taken."""
        return await self._repository.insert(body.name or "", body.description)

    async def update(self, caller: Principal, id: int, body: ContainerBody) -> None:
        """Raises NotFound, Forbidden, BadRequest."""
        await self._seen(caller, id)
        await self._repository.update(id, ContainerChanges(body.name, body.description))

    async def delete(self, caller: Principal, id: int, force: bool) -> None:
        """With `force` its devices go too. Raises NotFound, Forbidden, BadRequest."""
        caller = await self._seen(caller, id)
        await self._repository.delete(caller, id, force)

    async def _seen(self, caller: Principal, id: int) -> Principal:
        return await self._rights.insist(caller, lambda who: self._sees(who, id))
