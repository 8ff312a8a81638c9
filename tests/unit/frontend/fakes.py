"""A frontend without bus, database and sockets: the test plays all three."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec

from frontend.core.configuration import Configurations
from frontend.core.containers import Containers
from frontend.core.devices import Devices
from frontend.core.identities import Identities
from frontend.core.interests import Interests
from frontend.core.logins import Logins
from frontend.core.messages import Messages
from frontend.core.mqtt_passwords import MqttPasswords
from frontend.core.plugins import Plugins
from frontend.core.polls import Polls
from frontend.core.quiet import QuietScopes
from frontend.core.rights import Rights
from frontend.core.services import Limits, Services, now
from frontend.core.session import Session
from frontend.core.subscriptions import Registry
from frontend.core.tokens import Tokens
from frontend.core.users import Users
from skep import access, errors
from skep.access import Principal, User
from skep.metadata.rows import Device, DeviceType, Network
from skep.tokens import Claims, Keys
from skep.wire import messages, topics
from skep.wire.messages import NOTIFICATION, Command, Events, Found, Get, Item, List, Marker, Notification, Stored
from tests.unit.frontend.fake_entities import (
    FakeConfigurations,
    FakeContainers,
    FakeMqttPasswords,
    FakePasswords,
    FakeUsers,
    inside,
)

FAR = 4_000_000_000_000
DEVICES = {
    "mine": Device("mine", "Mine", None, 1, 1, False),
    "other": Device("other", "Other", b'{"a":1}', 2, 1, False),
}

TOKENS: dict[str, tuple[int, list[int], list[str], list[str]]] = {
    "admin": (1, [0], ["*"], ["*"]),
    "client": (2, sorted(access.CLIENT_ACTIONS), ["*"], ["*"]),
    "manager": (2, [0], ["*"], ["*"]),
    "typed": (2, [0], ["*"], ["1"]),
    "narrow": (1, [0], ["1"], ["1"]),
    "networked": (1, [0], ["1"], ["*"]),
    "personnel": (1, [10, 11, 12], ["*"], ["*"]),
    "nothing": (1, [1], ["*"], ["*"]),
}
"""(user, actions, networks, device types) by token."""


class FakeBus:
    """Inserts are acknowledged unless `silent`; reads give `stored`; sends get rising offsets."""

    def __init__(self) -> None:
        self.run = "frontend-1.test"
        self.silent = False
        self.away = False
        self.calls: list[tuple[str, Any, bytes | None]] = []
        self.waiting: list[tuple[Any, asyncio.Future[bytes]]] = []
        self.sent: list[tuple[bytes | None, bytes | None]] = []
        self.markers: list[tuple[int, int]] = []
        self.marked = 10**9
        """Offset of every marker: behind all that is stored."""
        self.stored: list[Item] = []
        self.storing: list[Item] = []
        """Not readable before the next marker; reads are loose then."""
        self.hold_markers: asyncio.Event | None = None
        self.has_sent = asyncio.Event()
        self.logins: list[messages.Login] = []

    def call(self, topic: str, body: Any, key: bytes | None = None, **_: Any) -> asyncio.Future[bytes]:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.calls.append((topic, body, key))
        if self.silent:
            self.waiting.append((body, future))
        else:
            self.answer(body, future)
        return future

    def answer(self, body: Any, future: asyncio.Future[bytes]) -> None:
        if isinstance(body, messages.InsertNotification):
            future.set_result(messages.encode(Stored(body.notification.id, 1000, 1000)))
        elif isinstance(body, messages.InsertCommand):
            future.set_result(messages.encode(Stored(body.command.id, 1000, 1000)))
        elif isinstance(body, Get):
            found = [i for i in self.stored if message(i).id == body.id and message(i).device_id == body.device_id]
            future.set_result(messages.encode(Found(found)))
        elif isinstance(body, List):
            future.set_result(messages.encode(self.listed(body)))
        else:
            future.set_result(messages.encode(None))

    def listed(self, query: List) -> Found:
        found = [
            i
            for i in self.stored
            if i.kind == query.kind
            and (query.start is None or message(i).timestamp > query.start)
            and (query.device_ids is None or message(i).device_id in query.device_ids)
        ]
        found.sort(key=lambda i: message(i).timestamp)
        page = found[query.skip :][: query.take]
        return Found(page, more=False, loose=bool(self.storing))

    def send(self, topic: str, payload: bytes | None, key: bytes | None = None) -> asyncio.Future[tuple[int, int]]:
        future: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        if self.away:
            future.set_exception(errors.Unavailable())
        else:
            self.sent.append((key, payload))
            self.has_sent.set()
            future.set_result((0, len(self.sent) - 1))
        return future

    async def request(self, topic: str, body: Any, **options: Any) -> bytes:
        if isinstance(body, Marker):
            self.markers.append((options["partition"], body.offset))
            if self.hold_markers is not None:
                await self.hold_markers.wait()
            self.stored, self.storing = self.stored + self.storing, []
            return messages.encode((options["partition"], self.marked))
        assert topic == topics.AUTH_REQUESTS
        if isinstance(body, messages.Login):
            self.logins.append(body)
            if body.password == "wrong":
                raise Failed(401, "Invalid credentials")
        if isinstance(body, messages.Refresh) and body.refresh_token != "good":
            raise Failed(401, "")
        return messages.encode(messages.Tokens("access", "refresh"))

    async def describe(self, topic: str) -> Any:
        return type("Described", (), {"partitions": [(0, 0)] * 3})

    def interests(self) -> list[tuple[bytes | None, bool]]:
        """(key, whether it is a tombstone) of what was published, leases left out."""
        return [(key, payload is None) for key, payload in self.sent if key and not key.startswith(b"lease/")]


class Failed(errors.SkepError):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def message(item: Item) -> Notification | Command:
    found = item.notification or item.command
    assert found is not None
    return found


class FakeCaches:
    def __init__(self) -> None:
        self.devices = dict(DEVICES)
        self.known: set[str] = set()
        self.users = {
            1: User(1, "admin", 0, 0),
            2: User(2, "client", 1, 0, frozenset({1})),
            3: User(3, "other", 1, 0, frozenset({2}), frozenset({2}), False),
        }
        self.asked: list[tuple[str, bool]] = []
        self.slow: asyncio.Event | None = None

    def peek_device(self, id: str) -> Device | None:
        return self.devices.get(id) if id in self.known else None

    async def device(self, id: str, fresh: bool = False) -> Device | None:
        self.asked.append((id, fresh))
        if self.slow is not None:
            await self.slow.wait()
        self.known.add(id)
        return self.devices.get(id)

    async def user(self, id: int, fresh: bool = False) -> User | None:
        return self.users.get(id)

    async def network_exists(self, id: int, fresh: bool = False) -> bool:
        return id in (1, 2)

    async def device_type_exists(self, id: int, fresh: bool = False) -> bool:
        return id == 1

    def sizes(self) -> dict[str, int]:
        return {"device": len(self.devices)}


class FakeRepository:
    def __init__(self, caches: FakeCaches) -> None:
        self.caches = caches
        self.saved: list[tuple[str, Any]] = []

    async def list(self, scope: Principal, *args: Any, **filters: Any) -> list[Device]:
        return [d for d in self.caches.devices.values() if scope.sees(d.network_id, d.device_type_id)]

    async def count(self, scope: Principal, *args: Any, **filters: Any) -> int:
        return len(await self.list(scope))

    async def save(self, principal: Principal, id: str, changes: Any) -> tuple[Device, bool, Any]:
        self.saved.append((id, changes))
        device = Device(id, changes.name or "", None, 1, 1, False)
        self.caches.devices[id] = device
        return device, True, None

    async def delete(self, id: str) -> bool:
        return self.caches.devices.pop(id, None) is not None


class FakeOutlet:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.paused = False

    def send(self, payload: bytes) -> None:
        self.sent.append(payload)

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def pause(self, paused: bool) -> None:
        self.paused = paused

    async def drained(self) -> None:
        await asyncio.sleep(0)

    def take(self) -> list[Any]:
        """What was sent since, decoded."""
        taken, self.sent = self.sent, []
        return [msgspec.json.decode(text) for text in taken]


class Frontend:
    """All of core put together. Those of TOKENS are good, "late" has expired."""

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008
        self.bus, self.caches = FakeBus(), FakeCaches()
        self.registry = Registry(now)
        self.identities = Identities(self.authenticate)
        self.interests = Interests(self.bus, self.registry.lose, linger=60)
        self.quiet = QuietScopes(self.registry, self.interests, lambda: self.time)
        self.time = 100.0
        rights, calls = Rights(self.caches), Messages(self.bus, self.quiet.acknowledged)
        self.repository = FakeRepository(self.caches)
        self.networks = FakeContainers("Network", Network, lambda who: who.networks)
        self.device_types = FakeContainers("Device type", DeviceType, lambda who: who.device_types)
        self.users = FakeUsers(self.networks, self.device_types)
        self.expires = {"late": 1}
        self.lifetime = 0
        """ms that tokens are good for, from their first use; 0: for ever."""
        self.entered: dict[str, int] = {}
        users = Users(self.users, rights, FakePasswords())
        self.services = Services(
            messages=calls,
            devices=Devices(self.repository, rights, self.handled, self.quiet.acknowledged),
            networks=Containers(self.networks, rights, Principal.sees_network, inside(DEVICES, "network_id")),
            device_types=Containers(
                self.device_types, rights, Principal.sees_device_type, inside(DEVICES, "device_type_id")
            ),
            users=users,
            mqtt_passwords=MqttPasswords(FakeMqttPasswords(), users, Keys((b"secret",))),
            configuration=Configurations(FakeConfigurations()),
            rights=rights,
            tokens=Tokens(self.bus),
            plugins=Plugins(self.bus),
            identities=self.identities,
            logins=Logins(self.users.seen),
            interests=self.interests,
            registry=self.registry,
            polls=Polls(self.registry, self.interests, calls, self.identities, self.quiet, now),
            limits=limits,
            caches=self.caches,
            cluster=self.health,
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Frontend:
        self._tasks = [asyncio.create_task(self.interests.keep()), asyncio.create_task(self.identities.follow())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.interests.close()

    async def authenticate(self, token: str) -> Principal:
        user, actions, networks, types = TOKENS.get(token, (0, [], [], []))
        if token in self.expires:
            raise errors.Unauthorized("Token expired")
        if user not in self.caches.users:
            raise errors.Unauthorized
        expires = self.entered.setdefault(token, now()) + self.lifetime if self.lifetime else FAR
        if expires < now():
            raise errors.Unauthorized("Token expired")
        claims = Claims(user, actions, networks, types, expires)
        return access.principal(claims, self.caches.users[user], now())

    async def handled(self, saved: Any) -> bool:
        return True

    async def health(self) -> Any:
        return type("Report", (), {"engine": "postgres"})

    def session(self) -> tuple[Session, FakeOutlet]:
        outlet = FakeOutlet()
        return Session(self.services, outlet, "127.0.0.1", "http://host/api/rest"), outlet

    async def client(self, token: str = "admin") -> tuple[Session, FakeOutlet]:
        session, outlet = self.session()
        await session.authenticate(token)
        return session, outlet

    def live(self, *items: Item, incarnation: str = "log") -> None:
        self.registry.dispatch(Events(incarnation, list(items)))


def notification(offset: int, id: int, device: str = "mine", name: str = "n", time: int = 1000, at: int = 0) -> Item:
    network = DEVICES[device].network_id
    return Item(at, offset, NOTIFICATION, notification=Notification(id, name, device, network, 1, time, b'{"x":1}'))


def command(offset: int, id: int, kind: int, device: str = "mine", time: int = 1000, updated: int = 0) -> Item:
    network = DEVICES[device].network_id
    made = Command(id, "c", device, network, 1, time, updated or time, is_updated=bool(updated))
    return Item(0, offset, kind, command=made)


async def settled(turns: int = 30) -> None:
    """All that can happen without the test has happened."""
    for _ in range(turns):
        await asyncio.sleep(0)


def ids(replies: Iterable[Any]) -> list[int]:
    """Ids of pushed notifications and commands, in order."""
    return [
        (r.get("notification") or r.get("command"))["id"]
        for r in replies
        if "subscriptionId" in r and "status" not in r
    ]
