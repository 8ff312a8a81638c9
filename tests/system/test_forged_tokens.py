"""Forged tokens at every entry: none is accepted, none makes a 5xx, all are answered or closed cleanly."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage, InvalidStatus

from skep.wire.proxy import SUBPROTOCOL
from tests.cases.forgeries import forgeries, service_forgeries
from tests.system.rights import callers
from tests.system.rights import world as worlds
from tests.system.rights.wire import Answer, Http, Socket
from tests.system.rights.world import World

pytestmark = pytest.mark.system
LIFE = 600_000
AT_A_TIME = 50
Try = Callable[[str], Awaitable[Answer]]


def now() -> int:
    return int(time.time() * 1000)


@pytest.fixture(scope="module", autouse=True)
def no_service_stumbles(suite: Any) -> Iterator[None]:
    before = suite.logs().count("Traceback")
    yield
    assert suite.logs().count("Traceback") == before


@pytest.fixture
def world(suite: Any) -> Iterator[World]:
    with worlds.connect(suite) as db:
        [made] = worlds.build(db, 1, suite.sign)
        yield made
        worlds.erase(db, [made])


@pytest.fixture
def base(world: World) -> dict[str, Any]:
    """What an administrator's access token says."""
    return {"u": world.person["root"], "a": [0], "n": ["*"], "dt": ["*"], "t": 1, "e": now() + LIFE}


def forged(suite: Any, base: dict[str, Any]) -> dict[str, str]:
    made = forgeries(base, suite.secret("jwt_secret").encode(), now())
    assert len(made) > 60
    return made


def wrong_users(world: World) -> dict[str, str]:
    """Signed as they should be, for somebody who may not come in, or for something else."""
    refused = [name for name in callers.REFUSED if name != "anonymous"]
    return {f"user: {name}": callers.made(name, world).token for name in refused}


async def each(tokens: dict[str, str], attempt: Try) -> dict[str, Answer]:
    """The answers that are not 401."""
    answers = {}
    for name, token in tokens.items():
        answer = await attempt(token)
        if answer.status != 401:
            answers[name] = answer
    return answers


def rest(http: Http, method: str, path: str, body: Any = None) -> Try:
    data = None if body is None else json.dumps(body).encode()
    return lambda token: http.ask(method, path, data, token)


@pytest.mark.parametrize(
    ("service", "method", "path", "body"),
    [
        ("rest", "GET", "/device", None),
        ("rest", "GET", "/info", None),
        ("rest", "PUT", "/user/current", {"introReviewed": True}),
        ("rest", "POST", "/token/create", {"userId": None, "actions": ["*"]}),
        ("auth", "POST", "/token/create", {"userId": None, "actions": ["*"]}),
        ("auth", "GET", "/info", None),
        ("plugin_manager", "GET", "/plugin", None),
        ("plugin_manager", "GET", "/info", None),
    ],
)
async def test_bearer(suite, world, base, service, method, path, body):
    if body and "userId" in body:
        body = body | {"userId": base["u"]}
    async with Http(getattr(suite, service)) as http:
        attempt = rest(http, method, path, body)
        assert (await attempt(suite.sign(base))).status in (200, 201, 204)
        answers = await each(forged(suite, base) | wrong_users(world), attempt)
    # More than a header may have: closed before it is read.
    assert answers == {"huge": Answer(0, "", "")}


@pytest.mark.parametrize("service", ["rest", "plugin_manager"])
async def test_bearer_of_a_plugin(suite, world, service):
    """At the endpoints that take a plugin's token; at all others it is refused as a forged one is."""
    base = of_plugin(world)
    async with Http(getattr(suite, service)) as http:
        assert (await http.ask("GET", "/plugin", None, suite.sign(base))).status == 200
        answers = await each(forged(suite, base) | wrong_plugins(suite, world), rest(http, "GET", "/plugin"))
        assert answers == {"huge": Answer(0, "", "")}
        for path in ("/info", "/device", "/user/current") if service == "rest" else ("/info",):
            assert (await http.ask("GET", path, None, suite.sign(base | {"a": [0]}))).status == 401, path


@pytest.mark.parametrize("service", ["rest", "auth"])
async def test_a_plugin_s_token_in_the_query(suite, world, service):
    base = of_plugin(world)
    async with Http(getattr(suite, service)) as http:

        async def attempt(token: str) -> Answer:
            return await http.ask(
                "GET", f"/token/plugin/authenticate?token={quote(token, safe='', encoding='latin-1')}"
            )

        assert (await attempt(suite.sign(base))).text == "Plugin is disabled"  # all else is well
        users = {f"user: {name}": callers.made(name, world).token for name in ("root", "client")}
        tokens = forged(suite, base) | wrong_plugins(suite, world) | users
        for name, token in tokens.items():
            if name == "huge":
                continue  # no request line is that long
            answer = await attempt(token)
            assert answer.status in (400, 401), (name, answer)
            assert answer.text != "Plugin is disabled", name


def of_plugin(world: World) -> dict[str, Any]:
    return {"tpc": world.topic["own"], "a": [16], "t": 1, "e": now() + LIFE}


def wrong_plugins(suite: Any, world: World) -> dict[str, str]:
    base = of_plugin(world)
    return {
        "refresh token": suite.sign(base | {"t": 0}),
        "missing": suite.sign(base | {"tpc": world.topic["missing"]}),
        "topic of the bus": suite.sign(base | {"tpc": "requests"}),
        "topic with a wildcard": suite.sign(base | {"tpc": "*"}),
        "topic with a path": suite.sign(base | {"tpc": world.topic["own"] + "/../requests"}),
        "list of topics": suite.sign(base | {"tpc": [world.topic["own"]]}),
        "topic and user": suite.sign(base | {"u": world.person["root"]}),
    }


@pytest.mark.parametrize("service", ["rest", "auth", "websocket"])
async def test_refresh(suite, world, base, service):
    base, others = base | {"t": 0}, wrong_users(world) | {"user: an access token": suite.sign(base)}
    others["user: refresh"] = suite.sign(base | {"u": world.person["missing"]})
    if service == "websocket":
        answers = await over_sockets(
            suite, "token/refresh", "refreshToken", suite.sign(base), forged(suite, base) | others
        )
    else:
        async with Http(getattr(suite, service)) as http:

            async def attempt(token: str) -> Answer:
                return await http.ask("POST", "/token/refresh", json.dumps({"refreshToken": token}).encode())

            assert (await attempt(suite.sign(base))).status == 201
            answers = await each(forged(suite, base) | others, attempt)
    assert {name: answer.status for name, answer in answers.items()} == {"empty": 400}


async def test_websocket_authenticate(suite, world, base):
    tokens = forged(suite, base) | wrong_users(world)
    assert await over_sockets(suite, "authenticate", "token", suite.sign(base), tokens) == {}


async def over_sockets(suite: Any, action: str, field: str, good: str, tokens: dict[str, str]) -> dict[str, Answer]:
    """On sockets that stay anonymous all along."""
    answers: dict[str, Answer] = {}
    names = list(tokens)
    for start in range(0, len(names), AT_A_TIME):
        socket = await Socket.open(suite.ws)

        async def attempt(token: str, socket: Socket = socket) -> Answer:
            return await socket.ask({"action": action, field: token})

        try:
            answers |= await each({name: tokens[name] for name in names[start : start + AT_A_TIME]}, attempt)
            assert (await socket.ask({"action": "device/list"})).text == "Unauthorized"
            assert (await socket.ask({"action": "token/create", "payload": {"userId": 1}})).text == "Unauthorized"
            assert (await attempt(good)).status == 200
        finally:
            await socket.close()
    return answers


async def test_websocket_handshake(suite, world, base):
    async with connect(suite.ws, additional_headers={"Authorization": f"Bearer {suite.sign(base)}"}):
        pass
    statuses = await handshakes(suite.ws, forged(suite, base) | wrong_users(world))
    assert statuses.pop("huge") in (0, 431)
    assert set(statuses.values()) == {401}


async def test_plugins_proxy(suite, world):
    """The proxy answers each and goes on; the socket stays without rights until a good token comes."""
    users = {name: suite.sign(callers.made(name, world).claims) for name in ("root", "client", "refresh", "expired")}
    tokens = forged(suite, of_plugin(world)) | users | wrong_plugins(suite, world)
    async with connect(suite.plugins, compression=None, max_size=None) as socket:

        async def ask(type: str, action: str, **payload: Any) -> dict[str, Any]:
            await socket.send(json.dumps({"id": "1", "t": type, "a": action, "p": payload}))
            answer: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 10))
            return answer

        for name, token in tokens.items():
            assert (await ask("plugin", "authenticate", token=token))["s"] == 1, name
        for topic in (world.topic["own"], "requests"):
            assert (await ask("topic", "subscribe", t=[topic]))["s"] == 1
        async with Http(suite.plugin_manager) as http:
            body, admin = json.dumps({"name": f"{world.mark}-plg-new"}).encode(), suite.token()
            made = json.loads((await http.ask("POST", "/plugin", body, admin)).body)
            try:
                assert (await ask("plugin", "authenticate", token=made["accessToken"]))["s"] == 0
            finally:
                await http.ask("DELETE", f"/plugin?topicName={made['topicName']}", None, admin)


async def test_bus(suite):
    """In the handshake of both dialects, with the tokens of a service."""
    base = {"service": "tool", "instance": "tool-forged", "expires": now() + LIFE}
    key = suite.secret("bus_secret").encode()
    tokens = service_forgeries(base, key, now()) | {
        "a user's": suite.sign({"u": 1, "a": [0], "t": 1, "e": now() + LIFE})
    }
    assert len(tokens) > 60
    statuses = await handshakes(suite.bus, tokens, SUBPROTOCOL)
    assert statuses.pop("huge") in (0, 431)
    assert {name: status for name, status in statuses.items() if status != 401} == {}
    codes = await handshakes(suite.bus, tokens)
    assert codes.pop("huge") in (0, 431)
    assert {name: code for name, code in codes.items() if code != 1008} == {}


async def handshakes(url: str, tokens: dict[str, str], subprotocol: str | None = None) -> dict[str, int]:
    """The status of each refusal; of a socket that is opened all the same, the code it is closed with."""

    async def attempt(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        protocols: Any = [subprotocol] if subprotocol else None
        try:
            async with connect(url, additional_headers=headers, subprotocols=protocols, compression=None) as socket:
                await asyncio.wait_for(socket.wait_closed(), 10)
                return socket.close_code or 0
        except InvalidStatus as error:
            return error.response.status_code
        except (InvalidMessage, ConnectionError):
            return 0

    return {name: await attempt(token) for name, token in tokens.items()}
