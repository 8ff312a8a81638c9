"""CONNECT, and who a client is afterwards."""

from __future__ import annotations

import time

import msgspec
import pytest

from mqtt_bridge.core.clients import Clients
from skep import access, errors, tokens
from skep.access import Action, User
from skep.tokens import ACCESS, REFRESH, Claims, Keys

KEYS = Keys.parse("a secret of this test")
SOON = int(time.time() * 1000) + 600_000


class Bound(msgspec.Struct):
    user_id: int
    claims: bytes | None


class Registry:
    def __init__(self) -> None:
        self.bound: dict[str, Bound] = {}

    async def get(self, client_id: str, fresh: bool = False) -> Bound | None:
        return self.bound.get(client_id)

    async def bind(self, client_id: str, user_id: int, claims: bytes | None) -> bool:
        known = self.bound.setdefault(client_id, Bound(user_id, claims))
        if known.user_id != user_id:
            return False
        known.claims = claims
        return True


class Users:
    def __init__(self) -> None:
        self.stored = {
            1: User(1, "admin", access.ADMIN, access.ACTIVE),
            2: User(2, "client", access.CLIENT, access.ACTIVE, frozenset({5})),
            3: User(3, "other", access.CLIENT, access.ACTIVE, frozenset({6})),
        }

    async def user(self, id: int, fresh: bool = False) -> User | None:
        return self.stored.get(id)

    def disable(self, id: int) -> None:
        self.stored[id] = msgspec.structs.replace(self.stored[id], status=access.DISABLED)


class Logins:
    """Every user's password is "right"."""

    def __init__(self) -> None:
        self.count = 0
        self.is_away = False

    async def login(self, login: str, password: str, address: str) -> str:
        self.count += 1
        if self.is_away:
            raise errors.Unavailable
        user = {"admin": 1, "client": 2, "other": 3}.get(login)
        if user is None or password != "right":
            raise errors.Unauthorized
        return tokens.encode(Claims(user, [0], ["*"], ["*"], SOON), KEYS)


class World:
    def __init__(self, anonymous: bool = False) -> None:
        self.registry, self.users, self.logins = Registry(), Users(), Logins()
        self.clients = Clients(self.registry, self.users, self.logins, KEYS, anonymous)


@pytest.fixture
def world() -> World:
    return World()


def token(user: int | None = 2, *, actions: list[int] | None = None, expires: int = SOON, **more: object) -> str:
    claims = Claims(user, [0] if actions is None else actions, ["*"], ["*"], expires)
    return tokens.encode(msgspec.structs.replace(claims, **more), KEYS)


async def test_login_and_password(world: World) -> None:
    assert await world.clients.connect("c1", "client", "right", "here")
    principal = (await world.clients.client("c1")).principal
    assert principal is not None
    assert (principal.user_id, principal.networks) == (2, frozenset({5}))
    assert not principal.can(Action.MANAGE_USER)


async def test_a_login_follows_its_user(world: World) -> None:
    await world.clients.connect("c1", "client", "right", "")
    world.users.stored[2] = msgspec.structs.replace(world.users.stored[2], networks=frozenset({9}))
    principal = (await world.clients.client("c1")).principal
    assert principal is not None
    assert principal.networks == {9}
    world.users.disable(2)
    assert (await world.clients.client("c1")).principal is None
    assert await world.clients.token("c1") == ""


async def test_a_token_as_password_limits(world: World) -> None:
    assert await world.clients.connect("c1", "whatever", token(1, actions=[3], networks=["7"]), "")
    principal = (await world.clients.client("c1")).principal
    assert principal is not None
    assert (principal.actions, principal.networks) == ({Action.GET_DEVICE}, {7})
    assert not world.logins.count


@pytest.mark.parametrize(
    "password",
    [
        token(expires=1),
        token(type=REFRESH),
        token(None, topic="plugin_topic_x"),
        token(99),
        token()[:-2],
        tokens.encode(Claims(2, [0], ["*"], ["*"], SOON, ACCESS), Keys.parse("another secret")),
        "a.b.c",
    ],
)
async def test_tokens_that_are_no_good(world: World, password: str) -> None:
    assert not await world.clients.connect("c1", "client", password, "")
    assert not world.registry.bound


async def test_a_token_of_a_disabled_user(world: World) -> None:
    world.users.disable(2)
    assert not await world.clients.connect("c1", "", token(2), "")


async def test_a_token_that_expires_leaves_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.clients.connect("c1", "", token(2), "")
    assert (await world.clients.client("c1")).principal is not None
    monkeypatch.setattr(time, "time", lambda: SOON / 1000 + 1)
    assert (await world.clients.client("c1")).principal is None


@pytest.mark.parametrize("password", ["wrong", "", "x" * 5000])
async def test_wrong_passwords(world: World, password: str) -> None:
    assert not await world.clients.connect("c1", "client", password, "")


async def test_a_client_id_is_its_first_users(world: World) -> None:
    assert await world.clients.connect("c1", "client", "right", "")
    assert not await world.clients.connect("c1", "other", "right", "")
    assert not await world.clients.connect("c1", "", token(1), "")
    assert await world.clients.connect("c1", "client", "right", "")
    assert await world.clients.connect("c1", "", token(2), "")
    assert not await world.clients.authenticated("c1", token(3))
    principal = (await world.clients.client("c1")).principal
    assert principal is not None
    assert principal.user_id == 2


@pytest.mark.parametrize("client_id", ["", "a/b", "+", "#", "a@b"])
async def test_client_ids_that_break_topics(world: World, client_id: str) -> None:
    assert not await world.clients.connect(client_id, "client", "right", "")


async def test_anonymous_where_that_is_allowed() -> None:
    world = World(anonymous=True)
    assert await world.clients.connect("c1", "", "", "")
    assert (await world.clients.client("c1")).principal is None
    assert not await world.clients.connect("c1", "client", "", "")
    await world.clients.connect("c2", "client", "right", "")
    assert not await world.clients.connect("c2", "", "", "")


async def test_anonymous_elsewhere(world: World) -> None:
    assert not await world.clients.connect("c1", "", "", "")


async def test_an_anonymous_client_becomes_somebody() -> None:
    world = World(anonymous=True)
    assert await world.clients.authenticated("c1", token(2))
    assert (await world.clients.client("c1")).principal is not None


async def test_a_password_that_was_right_is_not_checked_again_for_a_while(world: World) -> None:
    for _ in range(3):
        assert await world.clients.connect("c1", "client", "right", "")
    assert world.logins.count == 1
    world.clients.forget([2])
    assert await world.clients.connect("c1", "client", "right", "")
    world.clients.forget([])
    assert await world.clients.connect("c1", "client", "right", "")
    assert world.logins.count == 3
    world.clients.forget([3])
    assert await world.clients.connect("c1", "client", "right", "")
    assert world.logins.count == 3


async def test_a_password_that_was_right_does_not_let_a_disabled_user_in(world: World) -> None:
    assert await world.clients.connect("c1", "client", "right", "")
    world.users.disable(2)
    assert not await world.clients.connect("c1", "client", "right", "")


async def test_while_nobody_can_tell(world: World) -> None:
    world.logins.is_away = True
    with pytest.raises(errors.Unavailable):
        await world.clients.connect("c1", "client", "right", "")


async def test_the_token_for_a_request_lasts_a_minute_and_gives_no_more(world: World) -> None:
    await world.clients.connect("c1", "", token(1, actions=[3], networks=["7"]), "")
    claims = tokens.decode(await world.clients.token("c1"), KEYS, int(time.time() * 1000))
    assert (claims.actions, claims.networks) == ([3], ["7"])
    assert claims.expires <= time.time() * 1000 + 61_000
