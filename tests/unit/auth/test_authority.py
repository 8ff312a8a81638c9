"""The rules of the token API on users that live in a dictionary."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import Struct

from auth.api.calls import _CREATE, _decoded
from auth.core.authority import Authority
from auth.settings import Settings
from skep import access, tokens
from skep.access import Action, Principal, User
from skep.errors import BadRequest, Forbidden, NotFound, SkepError, TooManyRequests
from skep.tokens import Claims, Keys

KEYS = Keys.parse("k" * 32)
NOW = 1_750_000_000.0
NOW_MS = int(NOW * 1000)
ADMIN = User(1, "admin", 0, 0)
CLIENT = User(2, "client", 1, 0, frozenset({1, 2}), frozenset({5}), False)
LOCKED = User(3, "locked", 1, access.LOCKED_OUT)
MINUTES_30, DAYS_182 = 1_800_000, 15_724_800_000


class Account(Struct):
    id: int
    password_hash: str
    status: int


class Users:
    """Passwords are stored as "hash of <password>"."""

    def __init__(self) -> None:
        self.all = {user.id: user for user in (ADMIN, CLIENT, LOCKED)}
        self.hashes = dict.fromkeys(self.all, "hash of secret")
        self.events: list[tuple[str, int]] = []

    async def by_login(self, login: str) -> Account | None:
        found = [user for user in self.all.values() if user.login == login]
        return Account(found[0].id, self.hashes[found[0].id], found[0].status) if found else None

    async def rights(self, id: int) -> User | None:
        return self.all.get(id)

    async def rehash(self, id: int, old: str, new: str) -> None:
        self.events.append(("rehash", id))
        self.hashes[id] = new

    async def login_failed(self, id: int) -> int:
        self.events.append(("failed", id))
        return 1

    async def login_succeeded(self, id: int) -> int | None:
        self.events.append(("succeeded", id))
        return NOW_MS


class Passwords:
    def __init__(self) -> None:
        self.checked: list[str | None] = []

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        yield

    async def matches(self, stored: str | None, password: str) -> bool:
        self.checked.append(stored)
        await asyncio.sleep(0)
        return stored in (f"hash of {password}", f"old hash of {password}")

    def is_outdated(self, stored: str) -> bool:
        return stored.startswith("old")

    async def hashed(self, password: str) -> str:
        return f"hash of {password}"


class Plugins:
    """Those of `test_plugin_tokens.py` are their own."""

    async def by_topic(self, topic_name: str) -> None:
        return None


class House:
    def __init__(self, **settings: Any) -> None:
        self.users, self.passwords, self.now = Users(), Passwords(), NOW
        self.authority = Authority(Settings(**settings), KEYS, self.users, self.passwords, Plugins(), lambda: self.now)

    async def refusal(self, login: str, password: str, address: str = "1.1.1.1") -> SkepError:
        with pytest.raises(SkepError) as error:
            await self.authority.login(login, password, address)
        return error.value

    async def create(self, caller: Principal, **body: Any) -> Claims:
        pair = await self.authority.create(caller, _decoded(_CREATE, json.dumps(body).encode()))
        return decoded(pair.access_token)


@pytest.fixture
def house() -> House:
    return House()


def decoded(token: str) -> Claims:
    return tokens.verify(token, KEYS)


def caller(user: User, **given: Any) -> Principal:
    fields: dict[str, Any] = {"actions": [0], "networks": ["*"], "device_types": ["*"], **given}
    return access.principal(Claims(user.id, **fields, expires=NOW_MS + 1), user, NOW_MS)


# -- login ----------------------------------------------------------------------------------------------------------


async def test_login_of_an_administrator(house: House) -> None:
    pair = await house.authority.login(" admin ", "secret", "1.1.1.1")
    assert decoded(pair.access_token) == Claims(1, [0], ["*"], ["*"], NOW_MS + MINUTES_30, 1)
    assert decoded(pair.refresh_token) == Claims(1, [0], ["*"], ["*"], NOW_MS + DAYS_182, 0)
    assert house.users.events == [("succeeded", 1)]


async def test_login_of_a_client(house: House) -> None:
    claims = decoded((await house.authority.login("client", "secret", "")).access_token)
    assert claims.actions == sorted(access.CLIENT_ACTIONS)
    assert (claims.networks, claims.device_types) == (["1", "2"], ["5"])


async def test_an_unknown_login_and_a_wrong_password_are_alike(house: House) -> None:
    wrong, unknown = await house.refusal("client", "x"), await house.refusal("nobody", "x")
    assert (wrong.status, wrong.text) == (unknown.status, unknown.text) == (401, "Invalid credentials")
    assert house.passwords.checked == ["hash of secret", None]  # the same work
    await house.authority.close()
    assert house.users.events == [("failed", 2)]


async def test_a_locked_user_is_told_only_with_the_right_password(house: House) -> None:
    assert (await house.refusal("locked", "secret")).text == "User is locked or disabled"
    assert (await house.refusal("locked", "x")).text == "Invalid credentials"
    await house.authority.close()


@pytest.mark.parametrize(("login", "password"), [("", "x"), ("  ", "x"), ("client", ""), (None, None)])
async def test_blank_credentials(house: House, login: str, password: str) -> None:
    error = await house.refusal(login, password)
    assert (error.status, error.text) == (400, "Invalid or empty authorization request parameters")


async def test_an_old_hash_is_replaced_once(house: House) -> None:
    house.users.hashes[2] = "old hash of secret"
    await house.authority.login("client", "secret", "")
    await house.authority.login("client", "secret", "")
    assert house.users.events == [("rehash", 2), ("succeeded", 2), ("succeeded", 2)]


async def test_a_password_is_not_cut_to_match(house: House) -> None:
    house.users.hashes[2] = "hash of " + "x" * 129
    assert (await house.refusal("client", "x" * 200)).status == 401
    await house.authority.close()


async def test_brute_force(house: House) -> None:
    for _ in range(10):
        assert (await house.refusal("admin", "x")).status == 401
    house.now += 10
    error = await house.refusal("admin", "secret")
    assert isinstance(error, TooManyRequests)
    assert error.retry_after == 51
    assert len(house.passwords.checked) == 10
    await house.authority.login("admin", "secret", "2.2.2.2")
    await house.authority.login("client", "secret", "1.1.1.1")
    house.now += 50
    await house.authority.login("admin", "secret", "1.1.1.1")
    await house.authority.close()


async def test_an_unknown_login_is_limited_alike(house: House) -> None:
    answers = [(await house.refusal("nobody", "x")).status for _ in range(12)]
    assert answers == [401] * 10 + [429] * 2


async def test_tries_at_the_same_time_are_limited_too() -> None:
    house = House()
    turns = asyncio.Semaphore(2)

    @asynccontextmanager
    async def turn() -> AsyncIterator[None]:
        async with turns:
            yield

    house.passwords.turn = turn  # type: ignore[method-assign]
    await asyncio.gather(*(house.refusal("admin", "x") for _ in range(40)))
    assert len(house.passwords.checked) <= 11
    await house.authority.close()


# -- refresh --------------------------------------------------------------------------------------------------------


async def refresh_refusal(house: House, token: str | None) -> tuple[int, str]:
    with pytest.raises(SkepError) as error:
        await house.authority.refresh(token)
    return error.value.status, error.value.text


def refresh_token(expires: int = NOW_MS, user: int | None = 2, **given: Any) -> str:
    return tokens.encode(Claims(user, [3], ["1"], ["5"], expires, **{"type": 0, **given}), KEYS)


async def test_refresh_copies_the_rights(house: House) -> None:
    claims = decoded(await house.authority.refresh(refresh_token()))
    assert claims == Claims(2, [3], ["1"], ["5"], NOW_MS + MINUTES_30, 1)
    assert house.users.events == [("succeeded", 2)]


async def test_refresh_refusals(house: House) -> None:
    assert await refresh_refusal(house, refresh_token(NOW_MS - 1)) == (401, "Token has expired")
    assert await refresh_refusal(house, refresh_token(NOW_MS - 1, type=1)) == (401, "Invalid token type")
    assert await refresh_refusal(house, refresh_token(user=3)) == (401, "")
    assert await refresh_refusal(house, refresh_token(user=99)) == (401, "")
    assert await refresh_refusal(house, refresh_token(user=None, topic="plugin_topic_x")) == (
        401,
        "Plugin is not found",
    )
    assert await refresh_refusal(house, "garbage") == (401, "")
    assert await refresh_refusal(house, "") == await refresh_refusal(house, None)
    assert (await refresh_refusal(house, None))[0] == 400


# -- create ---------------------------------------------------------------------------------------------------------


async def test_create_with_defaults(house: House) -> None:
    assert await house.create(caller(ADMIN), userId=1) == Claims(1, [1], None, None, NOW_MS + MINUTES_30, 1)


async def test_create_as_npm_does_at_each_connect(house: House) -> None:
    own = decoded((await house.authority.login("client", "secret", "")).access_token)
    principal = access.principal(own, CLIENT, NOW_MS)
    made = await house.create(
        principal, userId=2, actions=own.actions, networkIds=own.networks, deviceTypeIds=own.device_types
    )
    assert made == own
    made = await house.create(principal, userId="2", actions=own.actions, networkIds=["*"], deviceTypeIds=["*"])
    assert (made.networks, made.device_types) == (["1", "2"], ["5"])


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        (["*"], [0]),
        ([0], [0]),
        (["GetDevice", "getnetwork", "NoSuchThing", 99, -1, 3], [3, 2]),
        ([3.0, -93186572.0], [3]),
        ([1], [1]),
        ([], [1]),
        (["NoSuchThing"], [1]),
    ],
)
async def test_names_of_actions(house: House, actions: list, expected: list) -> None:
    assert (await house.create(caller(ADMIN), userId=1, actions=actions)).actions == expected


@pytest.mark.parametrize(
    "body",
    [
        {"actions": [1.5]},
        {"actions": [True]},
        {"actions": [None]},
        {"actions": [[2]]},
        {"actions": "*"},
        {"actions": {}},
        {"networkIds": ["1", "*"]},
        {"networkIds": ["**"]},
        {"networkIds": [-1]},
        {"networkIds": [1.5]},
        {"networkIds": [None]},
        {"networkIds": [""]},
        {"networkIds": ["9" * 40]},
        {"networkIds": "*"},
        {"deviceTypeIds": ["٣"]},
        {"deviceTypeIds": [{}]},
        {"expiration": "soon"},
        {"expiration": True},
        {"expiration": -5},
        {"expiration": 0},
        {"refreshExpiration": []},
        {"userId": "x"},
        {"userId": 1.5},
        {"userId": None},
        {"userId": 10**30},
    ],
)
async def test_malformed(house: House, body: dict) -> None:
    with pytest.raises(BadRequest):
        await house.create(caller(ADMIN), **{"userId": 1, **body})


async def test_expirations(house: House) -> None:
    async def both(**body: Any) -> tuple[int, int]:
        pair = await house.authority.create(
            caller(ADMIN), _decoded(_CREATE, json.dumps({"userId": 1, **body}).encode())
        )
        return decoded(pair.access_token).expires, decoded(pair.refresh_token).expires

    assert await both(expiration=NOW_MS + 5) == (NOW_MS + 5, NOW_MS + 5)
    assert await both(expiration=str(NOW_MS + 5), refreshExpiration=NOW_MS + 6) == (NOW_MS + 5, NOW_MS + 6)
    assert await both(expiration="1970-01-01T00:00:01.000") == (1000, 1000)
    assert await both() == (NOW_MS + MINUTES_30, NOW_MS + DAYS_182)


async def test_a_client_s_tokens_do_not_live_longer_than_a_login_s(house: House) -> None:
    await house.create(caller(CLIENT), userId=2, refreshExpiration=NOW_MS + DAYS_182)
    for name in ("expiration", "refreshExpiration"):
        with pytest.raises(Forbidden):
            await house.create(caller(CLIENT), userId=2, **{name: NOW_MS + DAYS_182 + 1})
        with pytest.raises(Forbidden):  # nor does an administrator's narrowed one prolong itself
            await house.create(caller(ADMIN, networks=["1"]), userId=1, **{name: NOW_MS + DAYS_182 + 1})
        await house.create(caller(ADMIN), userId=2, **{name: NOW_MS + DAYS_182 + 1})


async def test_other_users(house: House) -> None:
    for target in (1, 3, 99):
        with pytest.raises(Forbidden, match="Access is denied"):
            await house.create(caller(CLIENT), userId=target)
    assert (await house.create(caller(ADMIN), userId=2)).user_id == 2
    with pytest.raises(NotFound, match="User with id = 99 not found"):
        await house.create(caller(ADMIN), userId=99)
    with pytest.raises(Forbidden, match="User is locked or disabled"):
        await house.create(caller(ADMIN), userId=3)


async def test_escalation(house: House) -> None:
    narrow = caller(CLIENT, actions=[3, 15], networks=["1"])
    for body in ({"actions": [4]}, {"actions": [3], "networkIds": ["2"]}, {"actions": [3], "deviceTypeIds": ["6"]}):
        with pytest.raises(Forbidden):
            await house.create(narrow, userId=2, **body)
    made = await house.create(narrow, userId=2, actions=["*"], networkIds=["*"], deviceTypeIds=["*"])
    assert (made.actions, made.networks) == ([3, 15], ["1"])


async def test_create_needs_its_permission(house: House) -> None:
    with pytest.raises(Forbidden):
        await house.create(caller(CLIENT, actions=[int(Action.GET_DEVICE)]), userId=2)


async def test_compat_gives_what_is_asked_for() -> None:
    """SKEP_COMPAT_TOKENS: what DeviceHive does, for tests of a migration."""
    house = House(compat=True)
    narrow = caller(CLIENT, actions=[15], networks=[])
    far = NOW_MS + 2 * DAYS_182
    asked = {"actions": ["*"], "networkIds": ["*"], "deviceTypeIds": [7], "expiration": far}
    assert await house.create(narrow, userId=1, **asked) == Claims(1, [0], ["*"], ["7"], far)
    assert await house.create(narrow, userId=2, actions=[], networkIds=["9"]) == Claims(
        2, [], ["9"], None, NOW_MS + MINUTES_30
    )
    assert (await house.create(narrow, userId=2)).actions == [1]
    with pytest.raises(Forbidden, match="User is locked or disabled"):
        await house.create(narrow, userId=3)
    with pytest.raises(NotFound, match="User with id = 99 not found"):
        await house.create(narrow, userId=99)
    with pytest.raises(Forbidden, match="Access is denied"):
        await house.create(caller(CLIENT, actions=[3]), userId=2)
    with pytest.raises(BadRequest):
        await house.create(narrow, userId=2, expiration=0)
