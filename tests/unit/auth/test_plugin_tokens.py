"""Tokens of plugins, with plugins that live in a dictionary."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Struct

from auth.core.plugin_tokens import PluginRequest, PluginTokens
from auth.settings import Settings
from skep import access, tokens
from skep.access import Principal, User
from skep.errors import BadRequest, Forbidden, SkepError, Unauthorized
from skep.tokens import ACCESS, REFRESH, Claims, Keys
from skep.wire.plugins import Filter

KEYS = Keys.parse("k" * 32)
NOW = 1_750_000_000_000
ADMIN = User(1, "admin", access.ADMIN, access.ACTIVE)
OWNER = User(2, "owner", access.CLIENT, access.ACTIVE, frozenset({1, 2}))
OTHER = User(3, "other", access.CLIENT, access.ACTIVE, frozenset({1, 2}))


class Plugin(Struct):
    user_id: int | None = 2
    wanted: bytes = b"{}"
    enabled: bool = True


class House:
    def __init__(self, **settings: Any) -> None:
        self.users: dict[int, User] = {user.id: user for user in (ADMIN, OWNER, OTHER)}
        self.plugins = {"t": Plugin(), "narrow": Plugin(wanted=msgspec.json.encode(Filter(networks=[1])))}
        self.tokens = PluginTokens(Settings(**settings), KEYS, self, self, lambda: NOW / 1000)

    async def rights(self, id: int) -> User | None:
        return self.users.get(id)

    async def by_topic(self, topic: str) -> Plugin | None:
        return self.plugins.get(topic)

    async def made(self, who: Principal, **request: Any) -> tuple[Claims, Claims]:
        pair = await self.tokens.create(who, PluginRequest(**{"tpc": "t", **request}))
        return tokens.verify(pair.access_token, KEYS), tokens.verify(pair.refresh_token, KEYS)

    async def refusal(self, who: Principal, **request: Any) -> SkepError:
        with pytest.raises(SkepError) as error:
            await self.made(who, **request)
        return error.value

    async def says(self, **claims: Any) -> str:
        """The refusal of an access token, "" where it is good."""
        made = {"user_id": None, "topic": "t", "actions": [16], "networks": None, "device_types": None}
        token = tokens.encode(Claims(**{**made, "expires": NOW + 1_000, **claims}), KEYS)
        try:
            await self.tokens.authenticate(token)
        except Unauthorized as error:
            return error.text or "no text"
        return ""


@pytest.fixture
def house() -> House:
    return House()


def caller(user: User = OWNER, **claims: Any) -> Principal:
    given = {"actions": [0], "networks": ["*"], "device_types": ["*"], "expires": 2**52, **claims}
    return access.principal(Claims(user_id=None if "topic" in claims else user.id, **given), user, 0)


async def test_what_is_not_given(house):
    access_claims, refresh_claims = await house.made(caller())
    assert access_claims == Claims(None, [16], None, None, NOW + 1_800_000, ACCESS, "t")
    assert refresh_claims == Claims(None, [16], None, None, NOW + 15_724_800_000, REFRESH, "t")


async def test_an_expiry_counts_for_both(house):
    pair = await house.made(caller(), e=NOW + 5)
    assert [claims.expires for claims in pair] == [NOW + 5, NOW + 5]
    assert isinstance(await house.refusal(caller(), e=0), BadRequest)
    assert isinstance(await house.refusal(caller(), e=NOW + 15_724_800_001), Forbidden)


@pytest.mark.parametrize(
    ("held", "asked", "given"),
    [
        ([0], [0], [0]),
        ([16, 3], [0], [3, 16]),
        ([16, 3], [3], [3]),
        ([16], [], [1]),
        ([16], None, [16]),
        ([0], ["*"], [0]),
    ],
)
async def test_actions_are_never_more_than_the_callers(house, held, asked, given):
    assert (await house.made(caller(actions=held), a=asked))[0].actions == given


async def test_more_is_refused(house):
    assert isinstance(await house.refusal(caller(actions=[16]), a=[12]), Forbidden)
    assert isinstance(await house.refusal(caller(actions=[3])), Forbidden)


async def test_only_its_creator_makes_a_plugins_tokens(house):
    stranger = await house.refusal(caller(OTHER))
    missing = await house.refusal(caller(OTHER), tpc="missing")
    assert (
        (stranger.status, stranger.text)
        == (missing.status, missing.text)
        == (403, "No permisions or invalid topic name")
    )
    assert (await house.refusal(caller(ADMIN))).text == "User with id 2 is not a plugin creator"
    assert (await house.refusal(caller(ADMIN), tpc="*")).text == "No permisions or invalid topic name"
    assert (await house.refusal(caller(topic="t"))).status == 401


async def test_a_narrowed_token_opens_no_wider_stream(house):
    narrow = caller(networks=["1"])
    assert isinstance(await house.refusal(narrow), Forbidden)
    assert (await house.made(narrow, tpc="narrow"))[0].topic == "narrow"
    assert isinstance(await house.refusal(caller(device_types=["5"]), tpc="narrow"), Forbidden)
    assert (await house.made(caller(networks=["1", "2"])))[0].topic == "t"
    compat = House(compat=True)
    assert (await compat.made(narrow, a=[12]))[0].actions == [12]


async def test_who_is_let_in(house):
    assert await house.says() == ""
    assert await house.says(type=REFRESH) == "Invalid token type"
    assert await house.says(expires=NOW - 1) == "Token has expired"
    assert await house.says(topic="missing") == "Plugin is not found"
    assert await house.says(user_id=2, topic=None) == "Token is not valid"
    with pytest.raises(Unauthorized, match="Token is empty"):
        await house.tokens.authenticate("")
    house.plugins["t"].enabled = False
    assert await house.says() == "Plugin is disabled"
    house.plugins["t"].enabled = True
    house.users[2] = msgspec.structs.replace(OWNER, status=access.DISABLED)
    assert await house.says() == "no text"
    house.plugins["t"].user_id = None
    assert await house.says() == "no text"


async def test_what_authenticate_shows(house):
    token = tokens.encode(Claims(None, [16], None, None, NOW + 1, ACCESS, "t"), KEYS)
    assert msgspec.to_builtins(await house.tokens.authenticate(token)) == {
        "a": [16],
        "e": "2025-06-15T15:06:40.001",
        "t": 1,
        "tpc": "t",
    }


async def test_refreshing(house):
    claims = Claims(None, [16], None, None, NOW + 1, REFRESH, "t")
    assert tokens.verify(await house.tokens.refresh(claims), KEYS) == Claims(
        None, [16], None, None, NOW + 1_800_000, ACCESS, "t"
    )
    house.plugins["t"].enabled = False
    with pytest.raises(Unauthorized, match="Plugin is disabled"):
        await house.tokens.refresh(claims)
