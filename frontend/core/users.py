"""Users, their memberships and device types, with the caller's rights.

Stricter than DeviceHive: whoever is no administrator sees and changes himself only, whatever the token's actions, and
can't tell a missing user from a foreign one; networks and device types outside of the caller's scope are not shown,
given or taken. An administrator's narrowed token makes, changes and removes no administrator, and no client whose login
would open more than the token does (`Principal.covers`); nor does it change how its own user logs in.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from frontend.core.rights import Rights
from skep import access, errors
from skep.access import ADMIN, Principal
from skep.metadata import passwords
from skep.metadata.lists import descending
from skep.metadata.rows import ACTIVE, DeviceType, Network, NewUser, User, UserChanges
from skep.metadata.users import ADMIN_ONLY, check_allowed, check_login, missing, no_device_type, no_member
from skep.web.json import json_object
from skep.wire.fields import BAD_ROLE, JsonObject, Login, NewPassword, Password, Role, Status

if TYPE_CHECKING:
    from skep.metadata.users import Users as Repository


class UserBody(Struct, rename="camel"):
    """Body of PUT. What is absent or null stays; a null `data` clears, an empty password and
    `allDeviceTypesAvailable` are ignored."""

    login: Login | None = None
    password: NewPassword | None = None
    role: Role | None = None
    status: Status | None = None
    data: JsonObject | UnsetType = UNSET
    intro_reviewed: bool | None = None
    all_device_types_available: bool | None = None

    def read_data(self) -> bytes | UnsetType | None:
        """Raises BadRequest where it is no object."""
        return UNSET if isinstance(self.data, UnsetType) else json_object(self.data)


class NewUserBody(UserBody, rename="camel"):
    """Body of POST."""

    required: ClassVar = ("login", "password", "role")

    password: Password | None = None


class Users:
    """passwords: hashes off the loop, a few at a time."""

    def __init__(self, repository: Repository, rights: Rights, passwords: passwords.Pool) -> None:
        self._repository, self._rights, self._passwords = repository, rights, passwords

    async def list(
        self,
        caller: Principal,
        login: str | None,
        login_pattern: str | None,
        role: int | None,
        status: int | None,
        sort_field: str | None,
        sort_order: str | None,
        take: int | None,
        skip: int,
    ) -> list[User]:
        """Raises BadRequest."""
        order = descending(sort_order)
        return await self._repository.list(
            login, login_pattern, role, status, sort_field, order, take, skip, only=_only(caller)
        )

    async def count(
        self, caller: Principal, login: str | None, login_pattern: str | None, role: int | None, status: int | None
    ) -> int:
        return await self._repository.count(login, login_pattern, role, status, only=_only(caller))

    async def get(self, caller: Principal, id: int) -> tuple[User, builtins.list[Network]]:
        """The user and the networks of his that the caller sees. Raises NotFound."""
        caller = await self._seen(caller, id)
        found = await self._repository.get(id)
        if found is None:
            raise missing(id)
        return found, [n for n in await self._repository.networks(id) if caller.sees_network(n.id)]

    async def insert(self, caller: Principal, body: NewUserBody) -> User:
        """Raises BadRequest; Forbidden where the login is taken or the user would have more than a client has."""
        all_types = body.all_device_types_available is not False
        if (body.role == ADMIN and not caller.is_unlimited) or (all_types and caller.device_types is not None):
            raise errors.Forbidden(ADMIN_ONLY)
        if body.role is None:
            raise errors.BadRequest(BAD_ROLE)
        new = NewUser(
            login=check_login(body.login or ""),
            password_hash="",
            role=body.role,
            status=ACTIVE if body.status is None else body.status,
            data=body.read_data() or None,
            intro_reviewed=bool(body.intro_reviewed),
            all_device_types=all_types,
        )
        password_hash = await self._hashed(body.password or "")
        return await self._repository.insert(msgspec.structs.replace(new, password_hash=password_hash))

    async def update(self, caller: Principal, id: int, body: UserBody) -> None:
        """Raises NotFound, BadRequest; Forbidden where a client sends login, role or status, the login is taken, or the
        user is out of the caller's reach."""
        caller = await self._seen(caller, id)
        changes = UserChanges(login=body.login, role=body.role, status=body.status, intro_reviewed=body.intro_reviewed)
        check_allowed(caller, changes)
        await self._insist(caller, id, lambda who, user: _may_change(who, user, body))
        changes = msgspec.structs.replace(changes, data=body.read_data())
        if body.password:
            changes = msgspec.structs.replace(changes, password_hash=await self._hashed(body.password))
        await self._repository.update(caller, id, changes)

    async def check_password_change(self, caller: Principal, id: int) -> None:
        """Whether the caller may decide how a user logs in. Raises NotFound, Forbidden."""
        caller = await self._seen(caller, id)
        await self._insist(caller, id, _may_set_password)

    async def delete(self, caller: Principal, id: int) -> None:
        """Raises NotFound; Forbidden for oneself."""
        caller = await self._seen(caller, id)
        if id != caller.user_id:
            await self._insist(caller, id, Principal.covers)
        await self._repository.delete(caller, id)

    async def network(self, caller: Principal, id: int, network_id: int) -> Network:
        """Raises NotFound."""
        await self._seen(caller, id)
        found = await self._repository.network(id, network_id)
        await self._rights.insist(caller, lambda who: who.sees_network(network_id), no_member(id, network_id))
        return found

    async def assign_network(self, caller: Principal, id: int, network_id: int, on: bool) -> None:
        """Raises NotFound, Forbidden."""
        await self._rights.insist(caller, lambda who: who.sees_network(network_id))
        caller = await self._seen(caller, id)
        if on:  # there it sees what is of its types
            await self._insist(caller, id, lambda who, user: _is_admin(user) or who.covers_device_types(user))
        change = self._repository.assign_network if on else self._repository.unassign_network
        await change(id, network_id)

    async def device_types(self, caller: Principal, id: int) -> builtins.list[DeviceType]:
        """Those that the caller sees. Raises NotFound."""
        caller = await self._seen(caller, id)
        return [t for t in await self._repository.device_types(id) if caller.sees_device_type(t.id)]

    async def device_type(self, caller: Principal, id: int, type_id: int) -> DeviceType:
        """Raises NotFound."""
        await self._seen(caller, id)
        found = await self._repository.device_type(id, type_id)
        await self._rights.insist(caller, lambda who: who.sees_device_type(type_id), no_device_type(id, type_id))
        return found

    async def assign_device_type(self, caller: Principal, id: int, type_id: int, on: bool) -> None:
        """Raises NotFound, Forbidden."""
        await self._rights.insist(caller, lambda who: who.sees_device_type(type_id))
        caller = await self._seen(caller, id)
        if on:  # it sees those of its networks
            await self._insist(caller, id, lambda who, user: _is_admin(user) or who.covers_networks(user))
        change = self._repository.assign_device_type if on else self._repository.unassign_device_type
        await change(id, type_id)

    async def all_device_types(self, caller: Principal, id: int, on: bool) -> None:
        """Raises NotFound; Forbidden for a caller that does not see all."""
        await self._rights.insist(caller, lambda who: who.device_types is None)
        caller = await self._seen(caller, id)
        if on:
            await self._insist(caller, id, lambda who, user: _is_admin(user) or who.covers_networks(user))
        await self._repository.all_device_types(id, on)

    async def _seen(self, caller: Principal, id: int) -> Principal:
        return await self._rights.insist(caller, lambda who: _only(who) in (None, id), missing(id))

    async def _insist(self, caller: Principal, id: int, allowed: Callable[[Principal, access.User], bool]) -> None:
        """Of a user's rights as of now. Raises NotFound, Forbidden."""
        if caller.is_unlimited:
            return
        user = await self._rights.user(id)
        if user is None:
            raise missing(id)
        await self._rights.insist(caller, lambda who: allowed(who, user))

    async def _hashed(self, password: str) -> str:
        passwords.check(password)
        async with self._passwords.turn():
            return await self._passwords.hashed(password)


def _is_admin(user: access.User) -> bool:
    return user.role == ADMIN  # sees everything as it is


def _may_change(caller: Principal, user: access.User, body: UserBody) -> bool:
    may_set_password = _may_set_password(caller, user)
    if user.id != caller.user_id:
        return may_set_password and (body.role != ADMIN or caller.is_unlimited)
    same = body.login in (None, user.login) and body.role in (None, user.role) and body.status in (None, user.status)
    return may_set_password or (same and not body.password)


def _may_set_password(caller: Principal, user: access.User) -> bool:
    if user.id != caller.user_id:
        return caller.covers(user)
    # With a password of its choice an administrator's narrowed token would become all that the administrator is.
    return not caller.is_admin or caller.is_unlimited


def _only(caller: Principal) -> int | None:
    """The one user that the caller may see; None: all."""
    return None if caller.is_admin else caller.user_id
