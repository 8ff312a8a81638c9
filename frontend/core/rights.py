"""May this caller do something with a device, network, …? From the caches if yes; before a no PostgreSQL is asked.

Codes as in the reference (2.6): a caller whom neither network nor type limits learns that a device is missing (404),
others can't tell missing from foreign (403).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from skep import access, errors
from skep.access import Principal, User
from skep.metadata.containers import NO_DEVICE_TYPES, NO_NETWORKS
from skep.metadata.devices import BLOCKED, check_unblocked
from skep.metadata.rows import Device


class Caches(Protocol):
    """`skep.metadata.Caches`, as it is used here."""

    def peek_device(self, id: str) -> Device | None: ...
    async def device(self, id: str, fresh: bool = False) -> Device | None: ...
    async def user(self, id: int, fresh: bool = False) -> User | None: ...
    async def network_exists(self, id: int, fresh: bool = False) -> bool: ...
    async def device_type_exists(self, id: int, fresh: bool = False) -> bool: ...


NO_DEVICE_ID = "Device id is wrong or empty"


class Rights:
    """compat: as in `skep.access.principal`."""

    def __init__(self, caches: Caches, compat: bool = False) -> None:
        self._caches, self._compat = caches, compat

    def peek(self, caller: Principal, device_id: str) -> Device | None:
        """As `messaging`, if the device is in the cache; None where there may be a refusal."""
        device = self._caches.peek_device(device_id)
        if device is None or device.is_blocked or not caller.sees(device.network_id, device.device_type_id):
            return None
        return device

    async def messaging(self, caller: Principal, device_id: str) -> Device:
        """`device`, where it is to send or get messages: a blocked one is Forbidden."""
        device = self.peek(caller, device_id)
        if device is None:
            device = await self.device(caller, device_id)
            if device.is_blocked:
                device = await self._checked(caller, device_id)
        if device.is_blocked:
            raise errors.Forbidden(BLOCKED)
        return device

    async def removable(self, caller: Principal, device_id: str) -> Device:
        """`device`, where it is to be deleted: a blocked one only by an administrator."""
        device = await self._checked(caller, device_id)
        check_unblocked(device, caller)
        return device

    async def device(self, caller: Principal, device_id: str) -> Device:
        """To read it, and what is stored of it. Raises NotFound, Forbidden, Unavailable."""
        device = await self._caches.device(device_id)
        if device is not None and caller.sees(device.network_id, device.device_type_id):
            return device
        return await self._checked(caller, device_id)

    async def _checked(self, caller: Principal, device_id: str) -> Device:
        device = await self._caches.device(device_id, fresh=True)
        caller = await self.fresh(caller)
        if device is None and caller.sees_everything:
            raise errors.NotFound(f"Device with such deviceId = {device_id} not found")
        if device is None or not caller.sees(device.network_id, device.device_type_id):
            raise errors.Forbidden
        return device

    async def insist(
        self, caller: Principal, allowed: Callable[[Principal], bool], refusal: errors.SkepError | None = None
    ) -> Principal:
        """The caller, with rights as of now where those at hand do not allow it. Raises the refusal, else Forbidden."""
        if not allowed(caller):
            caller = await self.fresh(caller)
            if not allowed(caller):
                raise refusal or errors.Forbidden
        return caller

    async def user(self, id: int) -> User | None:
        """Somebody's rights as PostgreSQL has them."""
        return await self._caches.user(id, fresh=True)

    async def fresh(self, caller: Principal) -> Principal:
        """The same token's principal with the user's rights as PostgreSQL has them."""
        user = await self.user(caller.user_id)
        if user is caller.user:
            return caller
        return access.principal(caller.claims, user, 0, self._compat)

    async def containers(
        self, caller: Principal, networks: list[int] | None, device_types: list[int] | None
    ) -> Principal:
        """Networks and device types a caller names must exist and be visible. Gives the caller, with rights as of now
        where those at hand were not enough. Raises NotFound (administrators), Forbidden (clients)."""
        if any(await self._missing(caller, networks, device_types)):
            caller = await self.fresh(caller)
            no_networks, no_device_types = await self._missing(caller, networks, device_types)
            if (no_networks or no_device_types) and not caller.is_admin:
                raise errors.Forbidden
            if no_networks:
                raise errors.NotFound(NO_NETWORKS.format(", ".join(map(str, no_networks))))
            if no_device_types:
                raise errors.NotFound(NO_DEVICE_TYPES.format(", ".join(map(str, no_device_types))))
        return caller

    async def _missing(
        self, caller: Principal, networks: list[int] | None, device_types: list[int] | None
    ) -> tuple[list[int], list[int]]:
        """The ids that are not there or not visible."""
        caches = self._caches
        return (
            await _absent(networks, caller.sees_network, caches.network_exists),
            await _absent(device_types, caller.sees_device_type, caches.device_type_exists),
        )


async def _absent(
    ids: list[int] | None, sees: Callable[[int], bool], exists: Callable[..., Awaitable[bool]]
) -> list[int]:
    return [i for i in ids or () if not sees(i) or not (await exists(i) or await exists(i, fresh=True))]
