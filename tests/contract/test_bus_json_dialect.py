"""The DeviceHive JSON dialect, by raw frames: tools on the core proxy; on every engine."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.contract.bus_support import token
from tests.contract.json_support import ENGINES, HOUR, Json, publish, running_core
from ws_kafka_proxy.app import Core


@pytest.fixture(params=ENGINES)
async def core(request: pytest.FixtureRequest) -> AsyncIterator[Core]:
    async with running_core(request) as made:
        yield made


@pytest.fixture
async def topic(core: Core) -> str:
    name = f"plugin_topic_{uuid.uuid4()}"
    await core._engine.create(name, 2, HOUR)
    return name


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
    assert answer["p"] == {"prx": "Available", "mb": "Available", "mbfp": "0.00", "comm": "Available", "ack": True}
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
