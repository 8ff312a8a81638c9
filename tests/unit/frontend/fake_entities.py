"""Networks, device types, users and configuration in memory. Rules of content are the real repositories' business:
their contract tests are in tests/contract/test_metadata_*.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace

from skep import access, errors
from skep.access import Principal
from skep.metadata import users
from skep.metadata.mqtt_passwords import MqttAccount
from skep.metadata.rows import Configuration, ContainerChanges, Device, DeviceType, Network, NewUser, User, UserChanges
from skep.metadata.rows import values as changed_values

Scope = Callable[[Principal], frozenset[int] | None]


class FakeContainers:
    """scope: the ids a principal sees, None for all."""

    def __init__(self, noun: str, row: type[Any], scope: Scope) -> None:
        self.noun, self.row, self.scope = noun, row, scope
        self.rows = {id: row(id, f"{noun} {id}", None) for id in (1, 2)}
        self.deleted: list[tuple[int, bool]] = []
        self.pages: list[tuple[Any, ...]] = []

    def missing(self, id: int) -> errors.NotFound:
        return errors.NotFound(f"{self.noun} with id = {id} not found")

    async def get(self, id: int) -> Any:
        return self.rows.get(id)

    async def list(self, caller: Principal, *page: Any) -> list[Any]:
        self.pages.append(page)
        ids = self.scope(caller)
        return [row for row in self.rows.values() if ids is None or row.id in ids]

    async def count(self, caller: Principal, *filters: Any) -> int:
        return len(await self.list(caller))

    async def insert(self, name: str, description: str | None) -> Any:
        made = self.rows[3] = self.row(3, name, description)
        return made

    async def update(self, id: int, changes: ContainerChanges) -> None:
        if id not in self.rows:
            raise self.missing(id)
        self.rows[id] = replace(self.rows[id], **changed_values(changes, frozenset()))

    async def delete(self, caller: Principal, id: int, force: bool) -> None:
        if self.rows.pop(id, None) is None:
            raise self.missing(id)
        self.deleted.append((id, force))


class FakeUsers:
    """1 is an administrator, 2 a client and member of network 1, 3 another client, of network 2 and of one type."""

    def __init__(self, networks: FakeContainers, types: FakeContainers) -> None:
        self._networks, self._types = networks, types
        self.rows = {
            1: User(1, "admin", "h", 0, 0, 0, 1_000, None, False, True),
            2: User(2, "client", "h", 1, 0, 0, None, b'{"a":1}', False, True),
            3: User(3, "other", "h", 1, 0, 0, None, None, False, False),
        }
        self.members = {1: {1, 2}, 2: {1}, 3: {2}}
        self.typed = {1: set[int](), 2: set[int](), 3: {2}}
        self.pages: list[tuple[Any, ...]] = []
        self.noted: list[int] = []

    async def seen(self, ids: list[int]) -> None:
        self.noted += ids

    async def list(self, *page: Any, only: int | None = None) -> list[User]:
        self.pages.append(page)
        return [row for row in self.rows.values() if only in (None, row.id)]

    async def count(self, *filters: Any, only: int | None = None) -> int:
        return len(await self.list(only=only))

    async def get(self, id: int) -> User | None:
        return self.rows.get(id)

    async def insert(self, new: NewUser) -> User:
        user = User(4, new.login, new.password_hash, new.role, new.status, 0, None, new.data, False, True)
        self.rows[4] = replace(user, intro_reviewed=new.intro_reviewed, all_device_types=new.all_device_types)
        return self.rows[4]

    async def update(self, caller: Principal, id: int, changes: UserChanges) -> None:
        users.check_allowed(caller, changes)
        self.rows[id] = replace(self.existing(id), **changed_values(changes, frozenset({"data"})))

    async def delete(self, caller: Principal, id: int) -> None:
        if id == caller.user_id:
            raise errors.Forbidden(users.NOT_ONESELF)
        del self.rows[self.existing(id).id]

    async def networks(self, id: int) -> list[Network]:
        return [self._networks.rows[n] for n in sorted(self.members[id])]

    async def network(self, id: int, network_id: int) -> Network:
        self.existing(id)
        if network_id not in self.members[id]:
            raise users.no_member(id, network_id)
        return self._networks.rows[network_id]

    async def device_types(self, id: int) -> list[DeviceType]:
        every = self.existing(id).all_device_types
        return [row for row in self._types.rows.values() if every or row.id in self.typed[id]]

    async def device_type(self, id: int, type_id: int) -> DeviceType:
        found = [row for row in await self.device_types(id) if row.id == type_id]
        if not found:
            raise users.no_device_type(id, type_id)
        return found[0]

    async def assign_network(self, id: int, network_id: int) -> None:
        self.existing(id)
        self.members[id].add(network_id)

    async def unassign_network(self, id: int, network_id: int) -> None:
        self.existing(id)
        self.members[id].discard(network_id)

    async def assign_device_type(self, id: int, type_id: int) -> None:
        self.existing(id)
        self.typed[id].add(type_id)

    async def unassign_device_type(self, id: int, type_id: int) -> None:
        self.existing(id)
        self.typed[id].discard(type_id)

    async def all_device_types(self, id: int, on: bool) -> None:
        self.rows[id] = replace(self.existing(id), all_device_types=on)

    def existing(self, id: int) -> User:
        if id not in self.rows:
            raise users.missing(id)
        return self.rows[id]


class FakeConfigurations:
    def __init__(self) -> None:
        self.rows = {name: Configuration(name, "1000", 0) for name in ("timeout", "jwt.secret")}

    async def get(self, name: str) -> Configuration | None:
        return self.rows.get(name)

    async def put(self, name: str, value: str) -> Configuration:
        if not value:
            raise errors.BadRequest
        self.rows[name] = Configuration(name, value, 1 if name in self.rows else 0)
        return self.rows[name]

    async def delete(self, name: str) -> None:
        if self.rows.pop(name, None) is None:
            raise errors.NotFound(f"Requested config with name = {name} not found in the database")


class FakeMqttPasswords:
    """made: salts by user."""

    def __init__(self) -> None:
        self.made: dict[int, bytes] = {}

    async def make(self, user_id: int, salt: bytes, key: str) -> MqttAccount:
        self.made[user_id] = salt
        return MqttAccount(access.User(user_id, f"u{user_id}", 1, access.ACTIVE), f"u{user_id}", salt, key)

    async def take(self, user_id: int) -> None:
        self.made.pop(user_id, None)


class FakePasswords:
    """Counts those at work."""

    def __init__(self) -> None:
        self.working = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        self.working += 1
        yield
        self.working -= 1

    async def hashed(self, password: str) -> str:
        assert self.working, "hashed out of turn"
        await asyncio.sleep(0)
        return f"hash of {password}"


def inside(devices: dict[str, Device], column: str) -> Callable[[Principal, int], Any]:
    """As `Devices.within`."""

    async def found(caller: Principal, id: int) -> list[Device]:
        return [d for d in devices.values() if getattr(d, column) == id and caller.sees(d.network_id, d.device_type_id)]

    return found
