import pytest

from skep import access, tokens, web
from skep.access import User
from skep.errors import Unauthorized
from skep.tokens import Claims, Keys

KEYS = Keys.parse("k" * 32)
USER = User(1, "x", 1, 0, frozenset({1}))


class Users:
    def __init__(self, user: User | None, fresh: User | None = None) -> None:
        self.now, self.later, self.asked = user, fresh, 0

    async def get(self, id: int) -> User | None:
        return self.now

    async def fresh(self, id: int) -> User | None:
        self.asked += 1
        return self.later


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def token(expires: int = 2_000_000, **given: object) -> str:
    return tokens.encode(
        Claims(**{"user_id": 1, "actions": [3], "networks": ["*"], "device_types": None, **given, "expires": expires}),
        KEYS,
    )  # type: ignore[arg-type]


def made(users: Users, clock: Clock | None = None) -> web.Authenticator:
    return web.Authenticator(KEYS, users.get, fresh=users.fresh, clock=clock or Clock())


@pytest.mark.parametrize("header", ["Basic abc", "bearer abc", "Beare", "", "Bearer"])
def test_other_schemes(header: str) -> None:
    with pytest.raises(Unauthorized):
        web.bearer(header)


def test_bearer() -> None:
    assert web.bearer(None) is None
    assert web.bearer("Bearer  abc ") == "abc"
    assert web.bearer("Bearerabc") == "abc"


async def test_the_same_principal_until_rights_change() -> None:
    users = Users(USER)
    authenticate = made(users)
    first = await authenticate(token())
    assert await authenticate(token()) is first
    users.now = User(1, "x", 1, 0, frozenset({2}))
    assert (await authenticate(token())).networks == {2}


async def test_a_known_token_expires() -> None:
    clock = Clock()
    authenticate = made(Users(USER), clock)
    await authenticate(token())
    clock.now = 2_000.002
    with pytest.raises(Unauthorized, match="Token expired"):
        await authenticate(token())


async def test_a_known_token_of_a_disabled_user() -> None:
    users = Users(USER)
    authenticate = made(users)
    await authenticate(token())
    users.now = users.later = User(1, "x", 1, access.DISABLED)
    with pytest.raises(Unauthorized, match="Unauthorized"):
        await authenticate(token())


async def test_a_refusal_is_checked_again() -> None:
    users = Users(None, fresh=USER)
    assert (await made(users)(token())).user is USER
    assert users.asked == 1


@pytest.mark.parametrize(
    "given", [{"type": tokens.REFRESH}, {"user_id": None, "topic": "plugin_topic_x"}], ids=["refresh", "plugin"]
)
async def test_other_kinds_of_token(given: dict) -> None:
    with pytest.raises(Unauthorized, match="Unauthorized"):
        await made(Users(USER))(token(**given))


class Owned:
    def __init__(self, user_id: int | None) -> None:
        self.user_id = user_id


async def test_a_plugins_token_stands_for_its_owner_where_it_is_served() -> None:
    plugins = {"plugin_topic_x": Owned(1), "plugin_topic_left": Owned(None)}

    async def plugin(topic: str) -> Owned | None:
        return plugins.get(topic)

    authenticate = web.Authenticator(KEYS, Users(USER).get, plugin=plugin, clock=Clock())
    made = await authenticate(token(user_id=None, topic="plugin_topic_x"))
    assert (made.topic, made.user, made.networks, made.actions) == ("plugin_topic_x", USER, {1}, {3})
    assert (await authenticate(token())).topic is None
    for topic in ("plugin_topic_left", "plugin_topic_missing"):
        with pytest.raises(Unauthorized):
            await authenticate(token(user_id=None, topic=topic))
    plugins["plugin_topic_x"] = Owned(2)
    with pytest.raises(Unauthorized):
        await web.Authenticator(KEYS, Users(None).get, plugin=plugin, clock=Clock())(
            token(user_id=None, topic="plugin_topic_x")
        )
