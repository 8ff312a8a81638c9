"""Users, their memberships in networks and their device types."""

from __future__ import annotations

import builtins
import re
import time
from typing import Any

from sqlalchemy import Select, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from skep import access, errors
from skep.access import Principal
from skep.wire.fields import BAD_LOGIN, BAD_LOGIN_SYMBOLS, BAD_ROLE

from . import configuration
from .database import Database, Transaction
from .lists import fits, like, page, within
from .rows import ADMIN, CLIENT, LOCKED_OUT, DeviceType, Network, NewUser, User, UserChanges, given, values
from .tables import device_types, networks, user_device_type, user_network, users

ADMIN_ONLY = "Admin permissions required for this action"
NOT_ONESELF = "You can not delete a user or access key that you use to authenticate this request"
ALL_TYPES = "Cannot assign device type to user with all device types allowed"

_LOGIN = re.compile("[a-zA-Z0-9_@.-]+")
_TRIMMED = " \t\r\n"
_COLUMNS = [users.c[name] for name in User.__struct_fields__]
_SORT = {"id": users.c.id, "login": users.c.login}


def missing(id: int) -> errors.NotFound:
    return errors.NotFound(f"User with id = {id} not found")


def no_member(id: int, network_id: int) -> errors.NotFound:
    return errors.NotFound(f"Network with id {network_id} for user with id {id} was not found")


def no_device_type(id: int, device_type_id: int) -> errors.NotFound:
    return errors.NotFound(f"Device type with id {device_type_id} for user with id {id} not found")


class Users:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, id: int) -> User | None:
        return await self._one(users.c.id == id) if fits(id) else None

    async def by_login(self, login: str) -> User | None:
        return await self._one(users.c.login == login.strip()) if "\0" not in login else None

    async def _one(self, condition: Any) -> User | None:
        row = await self._database.read(Transaction.first, select(*_COLUMNS).where(condition))
        return None if row is None else User(*row)

    async def rights(self, id: int) -> access.User | None:
        return (await self.rights_of([id])).get(id)

    async def rights_of(self, ids: builtins.list[int]) -> dict[int, access.User]:
        """What each user may see as of now; those that exist, by id."""
        return await self._database.read(rights_within, ids)

    async def list(
        self,
        login: str | None = None,
        login_pattern: str | None = None,
        role: int | None = None,
        status: int | None = None,
        sort_field: str | None = None,
        descending: bool = False,
        take: int | None = None,
        skip: int = 0,
        only: int | None = None,
    ) -> builtins.list[User]:
        """sort_field: id or login, else BadRequest. `login_pattern` overrides `login`. only: at most this user."""
        query = _filtered(select(*_COLUMNS), login, login_pattern, role, status, only)
        query = page(query, _SORT, users.c.id, sort_field, descending, take, skip)
        return [User(*row) for row in await self._database.read(Transaction.all, query)]

    async def count(
        self,
        login: str | None = None,
        login_pattern: str | None = None,
        role: int | None = None,
        status: int | None = None,
        only: int | None = None,
    ) -> int:
        query = _filtered(select(func.count()).select_from(users), login, login_pattern, role, status, only)
        count: int = await self._database.read(Transaction.value, query)
        return count

    async def insert(self, new: NewUser) -> User:
        return await self._database.write(_insert, new)

    async def update(self, caller: Principal, id: int, changes: UserChanges) -> User:
        """Raises NotFound; Forbidden where a client sends login, role or status, or the login is taken."""
        return await self._database.write(_update, caller, id, changes)

    async def delete(self, caller: Principal, id: int) -> None:
        """Memberships go with the user; networks, devices and plugins stay. Raises Forbidden for oneself."""
        await self._database.write(_delete, caller, id)

    async def rehash(self, id: int, old: str, new: str) -> None:
        """Replace the hash of an unchanged password by a better one, unless the password changed meanwhile."""
        match = (users.c.id == id) & (users.c.password_hash == old)
        await self._database.write(Transaction.run, update(users).where(match).values(password_hash=new))

    async def login_failed(self, id: int) -> int:
        """Count a failure; gives the failures since the last success.

        Locks the account at configuration `user.login.maxAttempts` where an admin has set that. It is not set by
        itself (DeviceHive: 10): a lock by count lets anybody lock anybody out.
        """
        return await self._database.write(_login_failed, id)

    async def login_succeeded(self, id: int) -> int | None:
        """Forget the failures, note the time; gives `last_login` in ms."""
        return await self._database.write(_login_succeeded, id)

    async def seen(self, ids: builtins.list[int]) -> None:
        """They are there: notes the time, as `login_succeeded`. Whom somebody else is writing just now is left out."""
        await self._database.write(_seen, ids)

    async def networks(self, id: int) -> builtins.list[Network]:
        """The networks the user is a member of."""
        query = select(networks).join(user_network).where(user_network.c.user_id == id).order_by(networks.c.id)
        return [Network(*row) for row in await self._database.read(Transaction.all, query)]

    async def network(self, id: int, network_id: int) -> Network:
        """Raises NotFound where user, network or membership is missing."""
        await self._existing(id)
        found = [n for n in await self.networks(id) if n.id == network_id]
        if not found:
            raise no_member(id, network_id)
        return found[0]

    async def device_types(self, id: int) -> builtins.list[DeviceType]:
        """Assigned types, all that exist where the user has all. Raises NotFound."""
        query = select(device_types).order_by(device_types.c.id)
        if not (await self._existing(id)).all_device_types:
            query = query.join(user_device_type).where(user_device_type.c.user_id == id)
        return [DeviceType(*row) for row in await self._database.read(Transaction.all, query)]

    async def device_type(self, id: int, device_type_id: int) -> DeviceType:
        """Raises NotFound where user or type is missing or the type not the user's."""
        found = [d for d in await self.device_types(id) if d.id == device_type_id]
        if not found:
            raise no_device_type(id, device_type_id)
        return found[0]

    async def _existing(self, id: int) -> User:
        user = await self.get(id)
        if user is None:
            raise missing(id)
        return user

    async def assign_network(self, id: int, network_id: int) -> None:
        await self._database.write(_member, id, network_id, True)

    async def unassign_network(self, id: int, network_id: int) -> None:
        await self._database.write(_member, id, network_id, False)

    async def assign_device_type(self, id: int, device_type_id: int) -> None:
        """Raises Forbidden where the user has all device types."""
        await self._database.write(_typed, id, device_type_id, True)

    async def unassign_device_type(self, id: int, device_type_id: int) -> None:
        await self._database.write(_typed, id, device_type_id, False)

    async def all_device_types(self, id: int, on: bool) -> None:
        """On: all types, and the assignments are forgotten. Off: none but what is assigned from now on."""
        await self._database.write(_all_types, id, on)


async def rights_within(t: Transaction, ids: list[int]) -> dict[int, access.User]:
    """`Users.rights_of`, as the transaction sees them."""
    return {row.id: _user(row) for row in await t.all(_rights([i for i in ids if fits(i)]))}


def check_login(login: str) -> str:
    """The login as stored: trimmed. Raises BadRequest."""
    login = login.strip(_TRIMMED)
    if not 3 <= len(login) <= 128:
        raise errors.BadRequest(BAD_LOGIN)
    if _LOGIN.fullmatch(login) is None:
        raise errors.BadRequest(BAD_LOGIN_SYMBOLS)
    return login


def check_allowed(caller: Principal, changes: UserChanges) -> None:
    """Raises Forbidden where a client sends login, role or status."""
    if not caller.is_admin and any(given(v) is not None for v in (changes.login, changes.role, changes.status)):
        raise errors.Forbidden(ADMIN_ONLY)


def _check(role: int | None, status: int | None) -> None:
    if role is not None and role not in (ADMIN, CLIENT):
        raise errors.BadRequest(BAD_ROLE)
    if status is not None and status not in (0, 1, 2):
        raise errors.BadRequest


def _rights(ids: list[int]) -> Select[Any]:
    in_networks = select(func.array_agg(user_network.c.network_id)).where(user_network.c.user_id == users.c.id)
    in_types = select(func.array_agg(user_device_type.c.device_type_id)).where(user_device_type.c.user_id == users.c.id)
    return select(
        users.c.id,
        users.c.login,
        users.c.role,
        users.c.status,
        in_networks.scalar_subquery().label("networks"),
        in_types.scalar_subquery().label("device_types"),
        users.c.all_device_types,
    ).where(within(users.c.id, ids))


def _user(row: Any) -> access.User:
    return access.User(
        id=row.id,
        login=row.login,
        role=row.role,
        status=row.status,
        networks=frozenset(row.networks or ()),
        device_types=frozenset(row.device_types or ()),
        all_device_types=row.all_device_types,
    )


def _filtered(
    query: Select[Any],
    login: str | None,
    login_pattern: str | None,
    role: int | None,
    status: int | None,
    only: int | None,
) -> Select[Any]:
    if only is not None:
        query = query.where(users.c.id == only)
    if login_pattern is not None:
        query = query.where(like(users.c.login, login_pattern))
    elif login is not None:
        query = query.where(users.c.login == login)
    if role is not None:
        query = query.where(within(users.c.role, [role] if fits(role) else []))
    if status is not None:
        query = query.where(within(users.c.status, [status] if fits(status) else []))
    return query


async def _locked(t: Transaction, id: int) -> User:
    row = await t.first(select(*_COLUMNS).where(users.c.id == id).with_for_update()) if fits(id) else None
    if row is None:
        raise missing(id)
    return User(*row)


async def _insert(t: Transaction, new: NewUser) -> User:
    login = check_login(new.login)
    _check(new.role, new.status)
    columns = {name: getattr(new, name) for name in new.__struct_fields__} | {"login": login}
    row = await t.first(insert(users).values(columns).returning(*_COLUMNS))
    assert row is not None
    t.changed("user", row.id)
    return User(*row)


async def _update(t: Transaction, caller: Principal, id: int, changes: UserChanges) -> User:
    user = await _locked(t, id)
    check_allowed(caller, changes)
    _check(given(changes.role), given(changes.status))
    columns = values(changes, frozenset({"data"}))
    login = given(changes.login)
    if login is not None:
        columns["login"] = check_login(login)
    if not columns:
        return user
    row = await t.first(update(users).where(users.c.id == id).values(columns).returning(*_COLUMNS))
    assert row is not None
    t.changed("user", id)
    return User(*row)


async def _delete(t: Transaction, caller: Principal, id: int) -> None:
    if id == caller.user_id:
        raise errors.Forbidden(NOT_ONESELF)
    if not fits(id) or not await t.affected(delete(users).where(users.c.id == id)):
        raise missing(id)
    t.changed("user", id)


async def _login_failed(t: Transaction, id: int) -> int:
    query = update(users).where(users.c.id == id).values(login_attempts=users.c.login_attempts + 1)
    attempts: int = await t.value(query.returning(users.c.login_attempts)) or 0
    limit = await configuration.number(t, "user.login.maxAttempts", None)
    if limit is not None and attempts >= limit:
        locked = update(users).where(users.c.id == id).values(status=LOCKED_OUT, login_attempts=0)
        await t.run(locked)
        t.changed("user", id)
    return attempts


async def _seen(t: Transaction, ids: list[int]) -> None:
    now, every = await _times(t)
    old = or_(users.c.last_login.is_(None), users.c.last_login < now - every)
    due = select(users.c.id).where(within(users.c.id, ids) & old).with_for_update(skip_locked=True)
    await t.run(update(users).where(users.c.id.in_(due)).values(last_login=now))


async def _times(t: Transaction) -> tuple[int, int]:
    """Now, and how old a `last_login` is to be renewed; ms."""
    return time.time_ns() // 1_000_000, await configuration.number(t, "user.login.lastTimeout", 1000) or 0


async def _login_succeeded(t: Transaction, id: int) -> int | None:
    now, every = await _times(t)
    user = await _locked(t, id)
    last = now if user.last_login is None or user.last_login < now - every else user.last_login
    await t.run(update(users).where(users.c.id == id).values(login_attempts=0, last_login=last))
    return last


async def _member(t: Transaction, id: int, network_id: int, on: bool) -> None:
    await _locked(t, id)
    exists = select(networks.c.id).where(networks.c.id == network_id).with_for_update(read=True, key_share=True)
    if not fits(network_id) or await t.first(exists) is None:
        raise errors.NotFound(f"Network with id = {network_id} not found")
    await _set(t, user_network, {"user_id": id, "network_id": network_id}, on)
    t.changed("user", id)


async def _typed(t: Transaction, id: int, device_type_id: int, on: bool) -> None:
    user = await _locked(t, id)
    exists = select(device_types.c.id).where(device_types.c.id == device_type_id)
    if not fits(device_type_id) or await t.first(exists.with_for_update(read=True, key_share=True)) is None:
        raise errors.NotFound(f"Device type with id = {device_type_id} not found")
    if user.all_device_types:
        raise errors.Forbidden(ALL_TYPES)
    await _set(t, user_device_type, {"user_id": id, "device_type_id": device_type_id}, on)
    t.changed("user", id)


async def _set(t: Transaction, table: Any, pair: dict[str, int], on: bool) -> None:
    if on:
        await t.run(upsert(table).values(pair).on_conflict_do_nothing())
    else:
        await t.run(delete(table).filter_by(**pair))


async def _all_types(t: Transaction, id: int, on: bool) -> None:
    await _locked(t, id)
    await t.run(delete(user_device_type).where(user_device_type.c.user_id == id))
    await t.run(update(users).where(users.c.id == id).values(all_device_types=on))
    t.changed("user", id)
