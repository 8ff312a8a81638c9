"""The DeviceHive JSON dialect, by raw frames: tools on the core proxy, plugins on the plugin proxy; on every engine."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from skep import settings, tokens
from skep.wire.proxy import SUBPROTOCOL, Record, Source
from tests.contract.bus_support import SECRET, token
from ws_kafka_proxy.app import Core, Plugins
from ws_kafka_proxy.settings import Settings

JWT_SECRET = "the secret of the users' tokens, long enough"
HOUR = 3_600_000


def load(**environment: str) -> Settings:
    common = {"SKEP_PROFILE": "development", "BUS_SECRET": SECRET, "JWT_SECRET": JWT_SECRET, "PROXY_HOLD": "0"}
    return settings.load(Settings, common | environment)


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.engines(name)) for name in ("postgres", "kafka")])
async def core(request: pytest.FixtureRequest) -> AsyncIterator[Core]:
    if request.param == "kafka":
        engine = {"KAFKA_BOOTSTRAP": request.getfixturevalue("kafka")}
    else:
        engine = {"DATABASE_URL": request.getfixturevalue("postgres_url"), "BUS_SESSION_TIMEOUT": "0.5"}
    made = Core(load(PROXY_PORT="0", BUS_ENGINE=request.param, REQUEST_PARTITIONS="4", **engine))
    async with asyncio.timeout(30):
        await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def plugins(core: Core) -> AsyncIterator[Plugins]:
    urls = f"ws://127.0.0.1:{core.listener.port}"
    made = Plugins(load(PROXY_ROLE="plugin", PROXY_PLUGIN_PORT="0", BUS_URLS=urls))
    async with asyncio.timeout(30):
        await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def topic(core: Core) -> str:
    name = f"plugin_topic_{uuid.uuid4()}"
    await core._engine.create(name, 2, HOUR)
    return name


class Json:
    """A raw socket. `ask` keeps pushes for `pushed`."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._pushes: list[dict[str, Any]] = []

    async def send(self, message: object) -> None:
        await self.socket.send(json.dumps(message))

    async def next(self, timeout: float = 15.0) -> dict[str, Any]:
        async with asyncio.timeout(timeout):
            frame = await self.socket.recv()
            assert isinstance(frame, str)
            decoded = json.loads(frame)
            assert isinstance(decoded, dict)
            return decoded

    async def reply(self) -> dict[str, Any]:
        while (frame := await self.next())["t"] == "notif" and "id" not in frame and "a" not in frame:
            self._pushes.append(frame)
        return frame

    async def ask(self, t: str, a: str | None = None, p: object = None, id: object = "1") -> dict[str, Any]:
        message = {"id": id, "t": t, "a": a, "p": p}
        await self.send({key: value for key, value in message.items() if value is not None})
        return await self.reply()

    async def pushed(self, count: int) -> list[str]:
        while len(self._pushes) < count:
            self._pushes.append(await self.next())
        taken, self._pushes = self._pushes[:count], self._pushes[count:]
        assert all(frame["t"] == "notif" and frame["s"] == 0 and "id" not in frame for frame in taken)
        return [frame["p"]["m"] for frame in taken]


Open = Callable[..., Any]


@pytest.fixture
async def tool(core: Core) -> AsyncIterator[Open]:
    made: list[ClientConnection] = []

    async def open(service: str = "tool") -> Json:
        headers = {"Authorization": f"Bearer {token(service, f'{service}-1')}"}
        url = f"ws://127.0.0.1:{core.listener.port}/any/path"
        made.append(await connect(url, additional_headers=headers, proxy=None))
        return Json(made[-1])

    yield open
    for socket in made:
        await socket.close()


@pytest.fixture
async def plugin(plugins: Plugins) -> AsyncIterator[Open]:
    made: list[ClientConnection] = []

    async def open(topic: str | None = None) -> Json:
        made.append(await connect(f"ws://127.0.0.1:{plugins.listener.port}", proxy=None))
        client = Json(made[-1])
        if topic is not None:
            answer = await client.ask("plugin", "authenticate", {"token": plugin_token(topic)})
            assert answer["s"] == 0
        return client

    yield open
    for socket in made:
        await socket.close()


def plugin_token(topic: str, seconds: float = 60, type: int = tokens.ACCESS, secret: str = JWT_SECRET) -> str:
    expires = round((time.time() + seconds) * 1000)
    claims = tokens.Claims(None, [16], None, None, expires, type, topic)
    return tokens.encode(claims, tokens.Keys.parse(secret))


async def publish(core: Core, topic: str, *texts: str, partition: int = 0, source: int | None = None) -> None:
    made = None if source is None else Source("log", 0, source)
    records = [Record(topic, None, text.encode(), i + 1, partition, made) for i, text in enumerate(texts)]
    results = await core._engine.append(time.monotonic_ns(), records)
    assert all(isinstance(result, tuple) for result in results)


# -- tools


async def test_create_list_subscribe_publish_unsubscribe(tool: Open) -> None:
    client, name = await tool(), f"plugin_topic_{uuid.uuid4()}"
    assert await client.ask("topic", "create", {"t": [name, "requests"]}) == {
        "id": "1", "t": "topic", "a": "create", "s": 0, "p": {"t": [name, "requests"]},
    }  # fmt: skip
    listed = await client.ask("topic", "list", id=7)
    assert listed["id"] == 7
    assert {name, "requests"} <= set(listed["p"]["t"])
    assert await client.ask("topic", "subscribe", {"t": [name]}) == {
        "id": "1", "t": "topic", "a": "subscribe", "s": 0, "p": {"t": [name]},
    }  # fmt: skip
    assert await client.ask("notif", "create", {"t": name, "m": "grüße"}, id="n") == {
        "id": "n", "t": "notif", "a": "create", "s": 0,
    }  # fmt: skip
    assert await client.pushed(1) == ["grüße"]
    assert await client.ask("topic", "unsubscribe", {"t": [name]}) == {
        "id": "1", "t": "topic", "a": "unsubscribe", "s": 0, "p": {"t": [name]},
    }  # fmt: skip
    await client.ask("notif", "create", {"t": name, "m": "unread"})
    answer = await client.ask("health")
    assert answer["p"] == {"prx": "Available", "mb": "Available", "mbfp": "0.00", "comm": "Available"}
    assert client._pushes == []


async def test_every_element_of_a_batch_is_answered_in_order(tool: Open, topic: str) -> None:
    client = await tool()
    await client.send(
        [
            {"id": 1, "t": "notif", "a": "create", "p": {"t": topic, "m": "a"}},
            {"id": 2, "t": "notif", "a": "create"},
            {"id": 3, "t": "what"},
            "no object",
            {"id": 4, "t": "topic", "a": "fly"},
            {"id": 5, "t": "topic", "a": "subscribe", "p": {"t": topic}},
            {"id": 6, "t": "notif", "a": "create", "p": {"t": "plugin_topic_none", "m": "a"}},
            {"id": 7, "t": "notif", "a": "create", "p": {"t": topic, "m": "b"}},
            {"id": 8, "t": "plugin", "a": "authenticate", "p": {"token": "x"}},
            {"t": "topic", "a": "unsubscribe", "p": {"t": [topic]}},
        ]
    )
    answers = [await client.reply() for _ in range(10)]
    malformed = [answer for answer in answers if answer["t"] == "ack"]
    assert [(m["s"], "id" in m) for m in malformed] == [(1, False)]
    others = [answer for answer in answers if answer["t"] != "ack"]
    assert [(a.get("id"), a["s"]) for a in others] == [
        (1, 0), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 0), (8, 1), (None, 0),
    ]  # fmt: skip
    assert others[2]["p"]["m"] == "Unsupported message type: what"
    assert others[3]["p"]["m"] == "Unsupported topic message action: fly"
    assert others[7]["p"]["m"] == "Plugin API not enabled"


async def test_a_publish_is_confirmed_when_the_engine_has_it(core: Core, tool: Open, topic: str) -> None:
    client = await tool()
    await client.send(
        [{"id": n, "t": "notif", "a": "create", "p": {"t": topic, "m": str(n), "part": 1}} for n in range(500)]
    )
    answers = [await client.reply() for _ in range(500)]
    assert [(answer["id"], answer["s"]) for answer in answers] == [(n, 0) for n in range(500)]
    assert (await core._engine.describe(topic))[1] == [(0, 0), (0, 500)]


async def test_a_text_as_part_is_a_key(core: Core, tool: Open, topic: str) -> None:
    client = await tool()
    for n in range(20):
        await client.ask("notif", "create", {"t": topic, "m": str(n), "part": "device-1"})
    assert sorted((await core._engine.describe(topic))[1]) == [(0, 0), (0, 20)]


async def test_broadcast_gets_what_comes_after_the_reply(core: Core, tool: Open, topic: str) -> None:
    await publish(core, topic, "before")
    readers = [await tool() for _ in range(2)]
    for reader in readers:
        await reader.ask("topic", "subscribe", {"t": [topic]})
    await publish(core, topic, "after")
    for reader in readers:
        assert await reader.pushed(1) == ["after"]


async def test_a_group_goes_on_where_its_batch_was_handed_over(core: Core, tool: Open, topic: str) -> None:
    first = await tool()
    answer = await first.ask("topic", "subscribe", {"t": [topic], "sg": "g"})
    assert answer["p"] == {"t": [topic], "sg": "g"}
    await publish(core, topic, "1", "2")
    assert await first.pushed(2) == ["1", "2"]
    # Everything this socket sent before was handled, the pong to the ping behind the pushes too.
    await first.ask("health")
    await first.socket.close()
    await publish(core, topic, "3")
    second = await tool()
    await second.ask("topic", "subscribe", {"t": [topic], "sg": "g"})
    assert await second.pushed(1) == ["3"]


async def test_a_client_that_acknowledges_gets_the_rest_again(core: Core, tool: Open, topic: str) -> None:
    first = await tool()
    await first.ask("topic", "subscribe", {"t": [topic], "sg": "g", "ack": True})
    await publish(core, topic, "1", "2", "3")
    frames = [await first.next() for _ in range(3)]
    assert [f["p"] for f in frames] == [{"m": str(n + 1), "part": 0, "off": n} for n in range(3)]
    assert await first.ask("ack", None, {"t": topic, "part": 0, "off": 1}) == {"id": "1", "t": "ack", "s": 0}
    assert (await first.ask("ack", None, {"t": "other", "part": 0, "off": 1}))["s"] == 1
    await first.socket.close()
    second = await tool()
    await second.ask("topic", "subscribe", {"t": [topic], "sg": "g", "ack": True})
    assert await second.pushed(1) == ["3"]


async def test_a_group_shares(core: Core, tool: Open, topic: str) -> None:
    members = [await tool() for _ in range(2)]
    for member in members:
        await member.ask("topic", "subscribe", {"t": [topic], "sg": "g"})
    async with asyncio.timeout(15):
        got: list[list[str]] = [[], []]
        while not all(got):
            await publish(core, topic, "x", partition=0)
            await publish(core, topic, "y", partition=1)
            for member, texts in zip(members, got, strict=True):
                await member.ask("health")
                texts += [frame["p"]["m"] for frame in member._pushes]
                member._pushes.clear()


async def test_rights_of_the_service_hold(tool: Open, topic: str) -> None:
    client = await tool("auth")
    assert (await client.ask("topic", "subscribe", {"t": [topic]}))["s"] == 1
    assert (await client.ask("topic", "subscribe", {"t": ["metadata-changes"]}))["s"] == 0
    assert (await client.ask("notif", "create", {"t": topic, "m": "x"}))["s"] == 1
    assert (await client.ask("topic", "create", {"t": [f"plugin_topic_{uuid.uuid4()}"]}))["s"] == 1
    assert (await client.ask("topic", "list"))["p"]["t"] == ["metadata-changes"]
    assert (await client.ask("topic", "subscribe", {"t": ["metadata-changes"], "sg": "no/slash"}))["s"] == 1


@pytest.mark.parametrize("bad", ["{", "[1,", '"', "\x00", "[" * 5000])
async def test_what_is_no_json_is_answered(tool: Open, bad: str) -> None:
    client = await tool()
    await client.socket.send(bad)
    answer = await client.next()
    assert (answer["t"], answer["s"], "id" in answer) == ("ack", 1, False)
    assert (await client.ask("health"))["s"] == 0


async def test_without_a_service_token_no_tool(core: Core) -> None:
    url = f"ws://127.0.0.1:{core.listener.port}"
    async with connect(url, proxy=None) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


# -- plugins


async def test_a_plugin_connects_as_the_libraries_do(core: Core, plugin: Open, topic: str) -> None:
    client = await plugin()
    answer = await client.ask("plugin", "authenticate", {"token": plugin_token(topic)})
    assert (answer["s"], answer["p"]["tpc"], answer["p"]["t"]) == (0, topic, 1)
    assert abs(answer["p"]["e"] - (time.time() + 60) * 1000) < 5000
    # The conformance tests send no id.
    await client.send({"t": "topic", "a": "subscribe", "p": {"t": [topic]}})
    assert await client.reply() == {"t": "topic", "a": "subscribe", "s": 0, "p": {"t": [topic]}}
    await publish(core, topic, '{"b":1}', "two")
    assert await client.pushed(2) == ['{"b":1}', "two"]
    assert (await client.ask("topic", "unsubscribe", {"t": [topic]}))["s"] == 0


async def test_a_plugin_may_do_nothing_else(plugin: Open, topic: str) -> None:
    other = f"plugin_topic_{uuid.uuid4()}"
    client = await plugin()
    for t, a, p in (
        ("topic", "subscribe", {"t": [topic]}),
        ("topic", "authenticate", {}),
        ("notif", "authenticate", {}),
        ("topic", "list", None),
        ("ack", None, {}),
    ):
        answer = await client.ask(t, a, p)
        assert (answer["s"], answer["p"]["m"]) == (1, "Plugin not authorized")
    assert (await client.ask("health"))["s"] == 0
    assert (await client.ask("plugin", "authenticate", {"token": plugin_token(topic)}))["s"] == 0
    for t, a, p in (
        ("topic", "subscribe", {"t": [other]}),
        ("topic", "subscribe", {"t": [topic, other]}),
        ("topic", "subscribe", {"t": [topic, topic]}),
        ("topic", "subscribe", {"t": []}),
        ("topic", "subscribe", {"t": topic}),
        ("topic", "subscribe", {"t": ["requests"]}),
        ("topic", "subscribe", {"t": [topic.replace("plugin", "рlugin")]}),
        ("topic", "unsubscribe", {"t": [other]}),
        ("topic", "create", {"t": [topic]}),
        ("topic", "list", None),
        ("topic", "authenticate", {"t": [other]}),
        ("notif", "create", {"t": topic, "m": "x"}),
        ("notif", "create", {"t": "requests", "m": "x"}),
        ("notif", "authenticate", {"t": "requests", "m": "x"}),
        ("ack", "create", {"t": "requests"}),
    ):
        answer = await client.ask(t, a, p)
        assert (answer["s"], answer["p"]["m"]) == (1, "Plugin has no permissions for this operation"), (t, a, p)
    assert (await client.ask("topic", "subscribe", {"t": [topic], "sg": "a/../backend"}))["s"] == 1


async def test_bad_tokens(plugin: Open, topic: str) -> None:
    client = await plugin()
    user = tokens.encode(
        tokens.Claims(1, [0], ["*"], ["*"], round(time.time() * 1000) + HOUR), tokens.Keys.parse(JWT_SECRET)
    )
    for bad, text in (
        ("", "Token is empty"),
        ("x.y.z", "Token is not valid"),
        (user, "Token is not valid"),
        (token("tool", "tool-1"), "Token is not valid"),
        (plugin_token(topic, secret=SECRET), "Token is not valid"),
        (plugin_token("requests"), "Token is not valid"),
        (plugin_token(topic, type=tokens.REFRESH), "Invalid token type"),
        (plugin_token(topic, seconds=-5), "Token has expired"),
    ):
        answer = await client.ask("plugin", "authenticate", {"token": bad})
        assert (answer["s"], answer["p"]["m"]) == (1, text)
    assert (await client.ask("plugin", "authenticate", {}))["s"] == 1
    assert (await client.ask("topic", "subscribe", {"t": [topic]}))["p"]["m"] == "Plugin not authorized"


async def test_an_expired_token_ends_the_socket(plugin: Open, topic: str) -> None:
    client = await plugin()
    await client.ask("plugin", "authenticate", {"token": plugin_token(topic, seconds=1)})
    await client.ask("topic", "subscribe", {"t": [topic]})
    with pytest.raises(ConnectionClosed) as closed:
        await client.next(5)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


async def test_another_token_ends_what_the_first_let_in(core: Core, plugin: Open, topic: str) -> None:
    other = f"plugin_topic_{uuid.uuid4()}"
    await core._engine.create(other, 1, HOUR)
    client = await plugin(topic)
    await client.ask("topic", "subscribe", {"t": [topic]})
    await client.ask("plugin", "authenticate", {"token": plugin_token(other)})
    await client.ask("topic", "subscribe", {"t": [other]})
    await publish(core, topic, "foreign")
    await publish(core, other, "own")
    assert await client.pushed(1) == ["own"]
    assert (await client.ask("topic", "subscribe", {"t": [topic]}))["s"] == 1


async def test_a_plugin_resumes_its_group_and_repeated_sources_are_dropped(
    core: Core, plugin: Open, topic: str
) -> None:
    first = await plugin(topic)
    await first.ask("topic", "subscribe", {"t": [topic], "sg": "g"})
    await publish(core, topic, "5", source=5)
    await publish(core, topic, "6", source=6)
    await publish(core, topic, "5 again", source=5)
    await publish(core, topic, "7", source=7)
    assert await first.pushed(3) == ["5", "6", "7"]
    await first.ask("health")
    await first.socket.close()
    await publish(core, topic, "7 again", source=7)
    await publish(core, topic, "8", source=8)
    second = await plugin(topic)
    await second.ask("topic", "subscribe", {"t": [topic], "sg": "g"})
    assert await second.pushed(1) == ["8"]


async def test_so_many_sessions_of_one_plugin(plugin: Open, topic: str) -> None:
    clients = [await plugin(topic) for _ in range(4)]
    fifth = await plugin()
    answer = await fifth.ask("plugin", "authenticate", {"token": plugin_token(topic)})
    assert (answer["s"], answer["p"]["m"]) == (1, "Too many sessions of this plugin")
    await clients[0].socket.close()
    async with asyncio.timeout(10):
        while (await fifth.ask("plugin", "authenticate", {"token": plugin_token(topic)}))["s"]:
            await fifth.ask("health")


async def test_limits_of_a_plugin(plugin: Open, topic: str) -> None:
    client = await plugin(topic)
    await client.send([{"t": "health"}] * 1001)
    answer = await client.next()
    assert (answer["t"], answer["s"]) == ("ack", 1)
    await client.send([{"id": n, "t": "topic", "a": "list"} for n in range(1000)])
    assert [(await client.next())["id"] for _ in range(1000)] == list(range(1000))
    await client.socket.send("x" * ((1 << 20) + 1))
    with pytest.raises(ConnectionClosed) as closed:
        await client.next()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_the_plugin_port_refuses_the_service_dialect(plugins: Plugins) -> None:
    headers = {"Authorization": f"Bearer {token('backend', 'backend-1')}"}
    with pytest.raises(InvalidStatus) as refused:
        await connect(
            f"ws://127.0.0.1:{plugins.listener.port}",
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            additional_headers=headers,
            proxy=None,
        )
    assert refused.value.response.status_code == 400
