"""Whose sessions end when rights do."""

from __future__ import annotations

import msgspec
import pytest

from mqtt_bridge.core.acl import Acl
from mqtt_bridge.core.authority import Authority
from mqtt_bridge.core.clients import Clients
from mqtt_bridge.core.watch import Watch
from skep import tokens
from skep.tokens import Claims
from tests.unit.mqtt_bridge.test_clients import KEYS, SOON, Logins, Registry, Users


@pytest.fixture
def users() -> Users:
    return Users()


@pytest.fixture
def clients(users: Users) -> Clients:
    return Clients(Registry(), users, Logins(), KEYS, anonymous=True)


@pytest.fixture
async def watch(clients: Clients) -> Watch:
    """Of c1, who logged in as user 2."""
    watch = Watch(clients)
    assert await clients.connect("c1", "client", "right", "")
    watch.admitted(await clients.client("c1"))
    assert await watch.ended() == []
    return watch


async def test_a_disabled_user(watch: Watch, users: Users) -> None:
    users.disable(2)
    watch.changed([3])
    assert await watch.ended() == []
    watch.changed([2])
    assert await watch.ended() == ["c1"]
    watch.changed([2])
    assert await watch.ended() == []


@pytest.mark.parametrize(("networks", "ends"), [({5, 6}, False), (set(), True), ({6}, True)])
async def test_networks(watch: Watch, users: Users, networks: set[int], ends: bool) -> None:
    users.stored[2] = msgspec.structs.replace(users.stored[2], networks=frozenset(networks))
    watch.changed([])
    assert await watch.ended() == (["c1"] if ends else [])


async def test_an_expired_token(clients: Clients) -> None:
    now = SOON / 1000 - 600
    watch = Watch(clients, lambda: now)
    token = tokens.encode(Claims(2, [0], ["*"], ["*"], SOON), KEYS)
    assert await clients.connect("c1", "", token, "")
    watch.admitted(await clients.client("c1"))
    assert await watch.ended() == []
    narrowed = tokens.encode(Claims(2, [4], ["5"], ["*"], SOON), KEYS)
    assert await clients.authenticated("c1", narrowed)
    now = SOON / 1000 + 1
    assert await watch.ended() == ["c1"]


async def test_anonymous_clients_stay(clients: Clients) -> None:
    watch = Watch(clients)
    assert await clients.connect("c9", "", "", "")
    watch.admitted(await clients.client("c9"))
    watch.changed([])
    assert await watch.ended() == []


async def test_another_user_comes_in_when_the_session_has_ended(watch: Watch, clients: Clients) -> None:
    """The first one was deleted, and the client id with it."""
    registry = clients._registry
    assert isinstance(registry, Registry)
    registry.bound.clear()
    assert await clients.connect("c1", "admin", "right", "")
    newcomer = await clients.client("c1")
    assert not watch.admitted(newcomer)
    assert await watch.ended() == ["c1"]
    assert watch.admitted(newcomer)
    assert await watch.ended() == []


class Slow(Logins):
    """While somebody logs in, it is found whose sessions have to end."""

    watch: Watch

    async def login(self, login: str, password: str, address: str) -> str:
        token = await super().login(login, password, address)
        assert await self.watch.ended() == ["c1"]
        return token


async def test_who_was_logging_in_when_the_end_was_decided_comes_later(users: Users) -> None:
    logins = Slow()
    clients = Clients(Registry(), users, logins, KEYS, anonymous=True)
    watch = logins.watch = Watch(clients)
    authority = Authority(clients, Acl(users), "bridge", "password", "session")  # type: ignore[arg-type]
    authority.on_admitted(watch.admitted)
    assert await clients.connect("c1", "", tokens.encode(Claims(2, [0], ["*"], ["*"], SOON), KEYS), "")
    watch.admitted(await clients.client("c1"))
    registry = clients._registry
    assert isinstance(registry, Registry)
    registry.bound.clear()  # its user is deleted
    watch.changed([2])
    assert not await authority.may_connect("c1", "admin", "right", "")
    assert clients.ending == {"c1"}
    clients.ending.clear()
    assert await authority.may_connect("c1", "admin", "right", "")
