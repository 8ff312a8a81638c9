"""The plugin proxy, by raw frames, with a manager in the test's hands; on every engine."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from aiokafka.protocol.admin import DeleteRecordsRequest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode
from websockets.typing import Subprotocol

from skep import tokens
from skep.wire.messages import Changed, encode
from skep.wire.proxy import SUBPROTOCOL, Record, Source
from skep.wire.topics import METADATA_CHANGES
from tests.contract.bus_support import SECRET, token
from tests.contract.json_support import (
    ENGINES,
    HOUR,
    JWT_SECRET,
    Json,
    Manager,
    committed,
    plugin_token,
    publish,
    running_core,
    running_plugins,
)
from ws_kafka_proxy.api import plugin as plugin_sockets
from ws_kafka_proxy.app import Core, Plugins
from ws_kafka_proxy.core import attendance


@pytest.fixture(params=ENGINES)
async def core(request: pytest.FixtureRequest) -> AsyncIterator[Core]:
    async with running_core(request) as made:
        yield made


@pytest.fixture
async def manager(core: Core) -> AsyncIterator[Manager]:
    async with Manager(core).running() as made:
        yield made


@pytest.fixture
async def plugins(core: Core, manager: Manager) -> AsyncIterator[Plugins]:
    async with running_plugins(core, PLUGIN_ACK_TIMEOUT="4") as made:
        yield made


Make = Callable[..., Any]


@pytest.fixture
def make(core: Core, manager: Manager) -> Make:
    """A plugin with its first stream; the next one when called with its topic."""

    async def make(topic: str = "", partitions: int = 2) -> tuple[str, str]:
        topic = topic or f"plugin_topic_{uuid.uuid4()}"
        stream = f"{topic}.{int(manager.streams.get(topic, '.0').rpartition('.')[2]) + 1}"
        await core._engine.create(stream, partitions, HOUR)
        manager.streams[topic] = stream
        return topic, stream

    return make


Open = Callable[..., Any]


@pytest.fixture
async def plugin(plugins: Plugins) -> AsyncIterator[Open]:
    """A socket, authenticated where a topic is given, subscribed where more than that is."""
    made: list[ClientConnection] = []

    async def open(topic: str | None = None, at: Plugins = plugins, **subscribe: object) -> Json:
        made.append(await connect(f"ws://127.0.0.1:{at.listener.port}", proxy=None, max_queue=None))
        client = Json(made[-1])
        if topic is not None:
            answer = await client.ask("plugin", "authenticate", {"token": plugin_token(topic)})
            assert answer["s"] == 0, answer
        if topic is not None and subscribe:
            await client.subscribe(topic, **{k: v for k, v in subscribe.items() if v is not None})
        return client

    yield open
    for socket in made:
        await socket.close()


async def closed(client: Json, timeout: float = 10.0) -> tuple[int, str]:
    """Code and reason, whatever is pushed before."""
    async with asyncio.timeout(timeout):
        await client.socket.wait_closed()
    assert client.socket.close_code is not None
    assert client.socket.close_reason is not None
    return client.socket.close_code, client.socket.close_reason


# -- who is let in


async def test_a_plugin_connects_as_the_libraries_do(core: Core, plugin: Open, make: Make) -> None:
    topic, stream = await make()
    client = await plugin()
    answer = await client.ask("plugin", "authenticate", {"token": plugin_token(topic)})
    assert (answer["s"], answer["p"]["tpc"], answer["p"]["t"]) == (0, topic, 1)
    assert abs(answer["p"]["e"] - (time.time() + 60) * 1000) < 5000
    # The conformance tests send no id.
    await client.send({"t": "topic", "a": "subscribe", "p": {"t": [topic]}})
    assert await client.reply() == {"t": "topic", "a": "subscribe", "s": 0, "p": {"t": [topic]}}
    await client.send({"t": "topic", "a": "subscribe", "p": {"t": ["plugin_topic_other"]}})
    refused = await client.reply()
    assert (refused["t"], refused["a"], refused["s"], "id" in refused) == ("topic", "subscribe", 1, False)
    await publish(core, stream, '{"b":1}', "two")
    assert await client.frames(2) == [
        {"t": "notif", "s": 0, "p": {"m": text}, "st": topic} for text in ('{"b":1}', "two")
    ]
    await client.subscribe(topic)  # again: nothing changes
    await publish(core, stream, "three")
    assert await client.pushed(1) == ["three"]
    assert (await client.ask("topic", "unsubscribe", {"t": [topic]}))["s"] == 0
    health = await client.ask("health")
    assert health["p"] == {
        "prx": "Available", "mb": "Available", "mbfp": "0.00", "comm": "Available", "ack": True,
    }  # fmt: skip


async def test_a_plugin_may_do_nothing_else(plugin: Open, make: Make) -> None:
    topic, stream = await make()
    other, _ = await make()
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
        ("topic", "subscribe", {"t": [stream]}),
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
    for group in ("a/../backend", "-0", "x" * 65, 5):
        assert (await client.ask("topic", "subscribe", {"t": [topic], "sg": group}))["s"] == 1


async def test_bad_tokens(plugin: Open, make: Make) -> None:
    topic, _ = await make()
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
        (plugin_token(f"plugin_topic_{uuid.uuid4()}"), "Plugin is not found"),
    ):
        answer = await client.ask("plugin", "authenticate", {"token": bad})
        assert (answer["s"], answer["p"]["m"]) == (1, text)
    assert (await client.ask("plugin", "authenticate", {}))["s"] == 1
    assert (await client.ask("topic", "subscribe", {"t": [topic]}))["p"]["m"] == "Plugin not authorized"


async def test_an_expired_token_ends_the_socket_and_a_fresh_one_keeps_it(core: Core, plugin: Open, make: Make) -> None:
    topic, stream = await make()
    stays, ends = await plugin(), await plugin()
    for client in (stays, ends):
        await client.ask("plugin", "authenticate", {"token": plugin_token(topic, seconds=2)})
        await client.subscribe(topic)
    assert (await stays.ask("plugin", "authenticate", {"token": plugin_token(topic)}))["s"] == 0
    assert await closed(ends) == (1008, "Token expired")
    await publish(core, stream, "still there")
    assert await stays.pushed(1) == ["still there"]


async def test_another_token_ends_what_the_first_let_in(core: Core, plugin: Open, make: Make, manager: Manager) -> None:
    topic, stream = await make()
    other, other_stream = await make()
    client = await plugin(topic, sg=None, ack=False)
    answer = await client.ask("plugin", "authenticate", {"token": plugin_token(f"plugin_topic_{uuid.uuid4()}")})
    assert answer["s"] == 1
    await publish(core, stream, "still own")
    assert await client.pushed(1) == ["still own"]
    await client.ask("plugin", "authenticate", {"token": plugin_token(other)})
    await client.subscribe(other)
    await publish(core, stream, "foreign")
    await publish(core, other_stream, "own")
    assert await client.pushed(1) == ["own"]
    assert (await client.ask("topic", "subscribe", {"t": [topic]}))["s"] == 1
    assert [s.topic for s in (await manager.told("")).sockets] == [other]


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


# -- attendance


async def test_the_manager_knows_every_socket(plugin: Open, make: Make, manager: Manager, plugins: Plugins) -> None:
    topic, _ = await make()
    first = await plugin(topic)
    told = await manager.told(None)
    assert (told.run, told.lease) == (plugins._bus.run, 3_000)
    [socket] = told.sockets
    assert (socket.topic, socket.address) == (topic, "127.0.0.1")
    assert abs(socket.since - time.time() * 1000) < 5_000
    await first.subscribe(topic, sg="main")
    second = await plugin(topic, sg=None, ack=True)
    await manager.told("main", "")
    await first.ask("topic", "unsubscribe", {"t": [topic]})
    await manager.told(None, "")
    await second.socket.close()
    again = await manager.told(None)
    assert again.number > told.number
    await first.socket.close()
    await manager.told()


async def test_a_refused_socket_is_closed_and_told_why(
    core: Core, plugin: Open, make: Make, manager: Manager, plugins: Plugins
) -> None:
    topic, stream = await make()
    other, _ = await make()
    client, bystander = await plugin(topic, sg="main"), await plugin(other, sg="main")
    manager.refused[topic] = "Owner of the plugin is disabled"
    began = time.monotonic()
    assert await closed(client) == (1008, "Owner of the plugin is disabled")
    assert time.monotonic() - began < 5
    await publish(core, stream, "unseen")
    await bystander.none_pushed()
    refused = await plugin()
    answer = await refused.ask("plugin", "authenticate", {"token": plugin_token(topic)})
    assert (answer["s"], answer["p"]["m"]) == (1, "Owner of the plugin is disabled")
    assert plugins._counters.refused == 1
    await manager.told("main")


async def test_a_change_of_the_plugin_is_asked_about_at_once(
    plugin: Open, make: Make, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, _ = await make()
    client = await plugin(topic, sg="main")
    monkeypatch.setattr("ws_kafka_proxy.adapters.attending.INTERVAL", 60.0)
    await manager.told("main")  # the last one of the old interval
    manager.refused[topic] = "Plugin is deleted"
    await manager.bus.publish(METADATA_CHANGES, encode(Changed("plugin", [topic])))
    assert await closed(client) == (1008, "Plugin is deleted")


async def test_without_an_answer_nobody_gets_in(
    plugin: Open, make: Make, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, _ = await make()
    monkeypatch.setattr(plugin_sockets, "ENTER", 1.0)
    await manager.pause()
    client = await plugin()
    answer = await client.ask("plugin", "authenticate", {"token": plugin_token(topic)})
    assert (answer["s"], answer["p"]["m"]) == (1, plugin_sockets.NO_ANSWER)
    await manager.resume()
    assert (await client.ask("plugin", "authenticate", {"token": plugin_token(topic)}))["s"] == 0


async def test_without_answers_for_long_pushing_stops_and_goes_on_with_the_next(
    core: Core, plugin: Open, make: Make, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, stream = await make()
    client = await plugin(topic, sg="main")
    monkeypatch.setattr(attendance, "TRUSTED", 1_500)
    await manager.told("main")
    await manager.pause()
    await publish(core, stream, "trusted")
    assert await client.pushed(1) == ["trusted"]
    await asyncio.sleep(2)  # what this is about: time without an answer
    await publish(core, stream, "waits", "too")
    await client.none_pushed()
    await asyncio.sleep(0.5)
    await client.none_pushed()
    await manager.resume()
    assert await client.pushed(2) == ["waits", "too"]


# -- positions


async def test_a_socket_without_group_gets_all_and_its_slot_remembers(
    core: Core, plugin: Open, make: Make, plugins: Plugins
) -> None:
    topic, stream = await make()
    await publish(core, stream, "before the first", partition=1)
    first = await plugin(topic, sg=None, ack=False)
    assert await first.pushed(1) == ["before the first"]
    second = await plugin(topic, sg=None, ack=False)
    await publish(core, stream, *(f"a{n}" for n in range(3)))
    await publish(core, stream, *(f"b{n}" for n in range(3)), partition=1)
    for client in (first, second):
        got = await client.pushed(6)
        assert [t for t in got if t[0] == "a"] == ["a0", "a1", "a2"]
        assert [t for t in got if t[0] == "b"] == ["b0", "b1", "b2"]
        await client.none_pushed()
    await first.socket.close()
    await second.ask("health")
    await publish(core, stream, *(f"c{n}" for n in range(1500)))
    assert await second.pushed(1500) == [f"c{n}" for n in range(1500)]
    back = await plugin(topic, sg=None, ack=False)
    assert await back.pushed(1500) == [f"c{n}" for n in range(1500)]
    third = await plugin(topic, sg=None, ack=False)
    await third.none_pushed()


async def test_a_group_goes_on_and_repeated_sources_are_dropped(core: Core, plugin: Open, make: Make) -> None:
    topic, stream = await make()
    first = await plugin(topic, sg="g")
    await publish(core, stream, "5", source=5)
    await publish(core, stream, "6", source=6)
    await publish(core, stream, "5 again", source=5)
    await publish(core, stream, "7", source=7)
    assert await first.pushed(3) == ["5", "6", "7"]
    await first.ask("health")
    await first.socket.close()
    await publish(core, stream, "7 again", source=7)
    await publish(core, stream, "8", source=8)
    second = await plugin(topic, sg="g")
    assert await second.pushed(1) == ["8"]
    await second.none_pushed()
    await committed(core, stream, f"plugin-{topic}.g", (0, 6))


async def test_what_was_not_confirmed_comes_again(core: Core, plugin: Open, make: Make) -> None:
    """A client that reads but does not answer the ping has confirmed nothing."""
    topic, stream = await make()
    first = await plugin(topic, sg="g")
    await publish(core, stream, "1")
    assert await first.pushed(1) == ["1"]
    await first.ask("health")
    send = first.socket.protocol.send_frame
    first.socket.protocol.send_frame = lambda frame: frame.opcode is Opcode.PONG or send(frame)  # type: ignore[assignment]
    await publish(core, stream, "2", "3")
    assert await first.pushed(2) == ["2", "3"]
    await publish(core, stream, "4")
    first.socket.transport.abort()
    second = await plugin(topic, sg="g")
    assert await second.pushed(3) == ["2", "3", "4"]


async def test_a_client_that_acknowledges_gets_the_rest_again(core: Core, plugin: Open, make: Make) -> None:
    topic, stream = await make()
    first = await plugin(topic, sg="g", ack=True)
    await publish(core, stream, "1", "2", "3")
    frames = await first.frames(3)
    assert [f["p"] for f in frames] == [{"m": str(n + 1), "part": 0, "off": n} for n in range(3)]
    await first.ask("health")
    assert await first.ask("ack", None, {"t": topic, "part": 0, "off": 1}) == {"id": "1", "t": "ack", "s": 0}
    assert (await first.ask("ack", None, {"t": "other", "part": 0, "off": 1}))["s"] == 1
    first.socket.transport.abort()  # the answer was the promise
    second = await plugin(topic, sg="g", ack=True)
    assert await second.pushed(1) == ["3"]


async def test_acknowledgements_one_by_one_overlap(core: Core, plugin: Open, make: Make) -> None:
    topic, stream = await make()
    client = await plugin(topic, sg="g", ack=True)
    await publish(core, stream, *map(str, range(800)))
    for frame in await client.frames(800):
        place = {"t": topic, "part": frame["p"]["part"], "off": frame["p"]["off"]}
        await client.send({"id": place["off"], "t": "ack", "p": place})
    async with asyncio.timeout(5):
        answers = [await client.reply() for _ in range(800)]
    assert [(a["id"], a["s"]) for a in answers] == [(n, 0) for n in range(800)]


async def test_who_acknowledges_nothing_is_closed_in_the_end(core: Core, plugin: Open, make: Make) -> None:
    topic, stream = await make()
    silent, idle = await plugin(topic, sg="g", ack=True), await plugin(topic, sg="h", ack=True)
    await publish(core, stream, "1")
    await silent.frames(1)
    [frame] = await idle.frames(1)
    await idle.acknowledge(frame)
    code, reason = await closed(silent)
    assert (code, reason) == (1013, "pushes were not acknowledged in time")
    await idle.none_pushed()


# -- sharing


@pytest.mark.parametrize("core", ENGINES[1:], indirect=True)
async def test_a_backlog_that_retention_cut_is_told(core: Core, plugin: Open, make: Make, plugins: Plugins) -> None:
    """To a client that acknowledges; the others' libraries end on what is no message."""
    topic, stream = await make()
    acknowledging, other = await plugin(topic, sg="a", ack=True), await plugin(topic, sg="b")
    await publish(core, stream, "1")
    [frame] = await acknowledging.frames(1)
    await acknowledging.acknowledge(frame)
    assert await other.pushed(1) == ["1"]
    await other.none_pushed()
    await committed(core, stream, f"plugin-{topic}.b", (0, 1))
    for client in (acknowledging, other):
        await client.socket.close()
    await publish(core, stream, "2", "3", "4")
    cluster = core._engine._cluster  # type: ignore[attr-defined]
    request = DeleteRecordsRequest([(stream, [(0, 3)])], 5_000)
    response = await cluster.client.send(cluster.leader(stream, 0), request, group="test")
    assert response.topics[0][1][0][2] == 0
    again, others = await plugin(topic, sg="a", ack=True), await plugin(topic, sg="b")
    gap, push = await again.frames(2)
    assert gap == {"t": "notif", "s": 1, "p": {"part": 0, "gap": [1, 3]}, "st": topic}
    assert (push["p"]["m"], push["p"]["off"]) == ("4", 3)
    assert await others.pushed(1) == ["4"]
    assert plugins._counters.missed == 4


async def test_sockets_of_one_group_share_by_partition(core: Core, plugin: Open, make: Make) -> None:
    topic, stream = await make(partitions=4)
    members = [await plugin(topic, sg="g") for _ in range(2)]
    got: list[list[str]] = [[], []]
    async with asyncio.timeout(20):
        for n in range(1_000):
            for partition in range(4):
                await publish(core, stream, f"{partition}:{n}", partition=partition)
            for member, texts in zip(members, got, strict=True):
                await member.ask("health")
                texts += [frame["p"]["m"] for frame in member._pushes]
                member._pushes.clear()
            if all(len({t[0] for t in texts[-4:]}) >= 2 for texts in got):
                break
    every = sorted(got[0] + got[1])
    assert len(every) == len(set(every)), "each message went to one of them"
    for texts in got:
        for partition in "0123":
            mine = [int(t[2:]) for t in texts if t[0] == partition]
            assert mine == sorted(mine)


async def test_what_one_socket_has_not_confirmed_is_not_with_another(core: Core, plugin: Open, make: Make) -> None:
    topic, stream = await make()
    first = await plugin(topic, sg="g", ack=True)
    for partition in range(2):
        await publish(core, stream, f"{partition}:1", f"{partition}:2", partition=partition)
    held = await first.frames(4)
    second = await plugin(topic, sg="g", ack=True)
    for partition in range(2):
        await publish(core, stream, f"{partition}:3", partition=partition)
    await asyncio.sleep(1.5)  # as long as the group takes to share anew
    await second.none_pushed()
    for frame in held:
        await first.acknowledge(frame)
    [next_] = await second.frames(1)
    assert next_["p"]["m"] in ("0:3", "1:3")
    [own] = await first.frames(1)
    assert {next_["p"]["m"], own["p"]["m"]} == {"0:3", "1:3"}
    for client, frame in ((second, next_), (first, own)):
        await client.acknowledge(frame)
        await client.none_pushed()


async def test_a_socket_that_is_gone_has_confirmed_what_it_has_confirmed(core: Core, plugin: Open, make: Make) -> None:
    topic, stream = await make()
    first = await plugin(topic, sg="g", ack=True)
    await publish(core, stream, "1", "2", "3")
    [held, *_] = await first.frames(3)
    second = await plugin(topic, sg="g", ack=True)
    await first.acknowledge(held)
    first.socket.transport.abort()
    assert await second.pushed(2) == ["2", "3"]


async def test_changing_the_group_on_an_open_socket(core: Core, plugin: Open, make: Make, manager: Manager) -> None:
    topic, stream = await make()
    client = await plugin(topic, sg="g")
    await publish(core, stream, "1")
    assert await client.pushed(1) == ["1"]
    await client.subscribe(topic)
    await manager.told("")
    await publish(core, stream, "2")
    assert await client.pushed(1) == ["2"]
    await client.subscribe(topic, sg="g", ack=True)
    assert await client.pushed(1) == ["2"]


# -- fresh streams


@pytest.mark.parametrize("told_first", [True, False], ids=["told first", "deleted first"])
async def test_a_fresh_stream_takes_the_place_of_the_old_one(
    core: Core, plugin: Open, make: Make, manager: Manager, plugins: Plugins, told_first: bool
) -> None:
    topic, old = await make()
    client, sharing = await plugin(topic, sg=None, ack=True), await plugin(topic, sg="g")
    await publish(core, old, *(f"old {n}" for n in range(10)))
    [*_, last] = await client.frames(10)
    assert len(await sharing.pushed(10)) == 10
    if told_first:
        _, fresh = await make(topic)
        await manager.told("", "g")
        await publish(core, old, "nobody may see this")
        await core._engine.delete(old)
    else:
        await core._engine.delete(old)
        await client.none_pushed()
        _, fresh = await make(topic)
    await publish(core, fresh, "new 0", "new 1")
    frames = await client.frames(2)
    assert [f["p"]["m"] for f in frames] == ["new 0", "new 1"]
    assert await sharing.pushed(2) == ["new 0", "new 1"]
    # Late for the old stream: it counts for nothing.
    late = {"t": topic, "part": last["p"]["part"], "off": last["p"]["off"]}
    assert (await client.ask("ack", None, late))["s"] == 0
    group = f"plugin-{topic}.-0"
    assert (await core._engine.positions(fresh))[group][0] == 0
    await client.acknowledge(frames[0])
    await committed(core, fresh, group, (0, 1))
    client.socket.transport.abort()
    again = await plugin(topic, sg=None, ack=True)
    assert await again.pushed(1) == ["new 1"]
    assert plugins._counters.moved == 2


async def test_a_backlog_of_the_old_stream_is_not_pushed_after_the_move(
    core: Core, plugin: Open, make: Make, manager: Manager
) -> None:
    """A client that is busy reads on after the move: what it finds was sent before."""
    topic, old = await make()
    client = await plugin(topic, sg="g", ack=True)
    await publish(core, old, *(f"old {n}" for n in range(3_000)))
    await client.frames(1_000)  # as many as may be unacknowledged
    _, fresh = await make(topic)
    await manager.told("g")
    await publish(core, fresh, "new")
    await core._engine.delete(old)
    assert await client.pushed(1) == ["new"]
    await client.none_pushed()


# -- bounds


async def test_limits_of_a_plugin(plugin: Open, make: Make, plugins: Plugins) -> None:
    topic, _ = await make()
    client = await plugin(topic)
    await client.send([{"t": "health"}] * 1001)
    answer = await client.next()
    assert (answer["t"], answer["s"]) == ("ack", 1)
    await client.send([{"id": n, "t": "topic", "a": "list"} for n in range(1000)])
    assert [(await client.next())["id"] for _ in range(1000)] == list(range(1000))
    await client.socket.send("x" * ((1 << 20) + 1))
    assert (await closed(client))[0] == 1009
    flooding = await plugin(topic)
    with suppress(ConnectionClosed):
        for n in range(100_000):
            await flooding.send({"id": n, "t": "health"})
    assert await closed(flooding) == (1008, "too many messages")
    assert plugins._counters.limited == 1


async def test_so_many_sockets_are_open_at_a_time(core: Core, manager: Manager) -> None:
    async with running_plugins(core, PLUGIN_CONNECTIONS="2") as small:
        url = f"ws://127.0.0.1:{small.listener.port}"
        async with connect(url, proxy=None), connect(url, proxy=None), connect(url, proxy=None) as third:
            assert await closed(Json(third)) == (1013, "too many sockets are open here")


async def test_a_plugin_that_does_not_read_holds_up_nobody_else(
    core: Core, plugin: Open, make: Make, plugins: Plugins
) -> None:
    slow_topic, slow_stream = await make()
    topic, stream = await make()
    slow, quick = await plugin(slow_topic, sg="g"), await plugin(topic, sg="g")
    slow.socket.transport.pause_reading()
    before = plugins._counters.pushed
    text = "x" * 100_000
    for n in range(40):
        source = Source("log", 0, n)
        await core._engine.append(
            time.monotonic_ns(),
            [Record(slow_stream, None, f"{n}:{m}:{text}".encode(), n, 0, source) for m in range(20)],
        )
        await publish(core, stream, str(n))
        assert await quick.pushed(1) == [str(n)]
    # 80 MB wait in the log. What is in memory of them is bounded: the window, a batch, the socket's buffers.
    assert plugins._counters.pushed - before - 40 < 100
    slow.socket.transport.resume_reading()
    assert [text[:3] for text in await slow.pushed(3)] == ["0:0", "1:0", "2:0"]


# -- several proxies


async def test_a_second_proxy_shares_and_takes_over(core: Core, plugin: Open, make: Make) -> None:
    topic, stream = await make()
    first = await plugin(topic, sg="g", ack=True)
    got: list[str] = []
    async with running_plugins(core, INSTANCE="proxy-plugins-2") as other:
        second = await plugin(topic, other, sg="g", ack=True)
        theirs: list[str] = []
        sent = 0
        async with asyncio.timeout(20):
            while not theirs:
                for partition in range(2):
                    await publish(core, stream, f"{partition}:{sent}", partition=partition)
                sent += 1
                got += await first.taken()
                theirs += await second.taken()
        for partition in range(2):
            await publish(core, stream, f"{partition}:{sent}", partition=partition)
        await second.frames(1)  # and not acknowledged: it is for the first one
    sent += 1
    while len(got) + len(theirs) < 2 * sent:
        [frame] = await first.frames(1)
        await first.acknowledge(frame)
        got.append(frame["p"]["m"])
    expected = {f"{partition}:{n}" for partition in range(2) for n in range(sent)}
    assert len(got) + len(theirs) == len(expected)
    assert {*got, *theirs} == expected
    for partition in "01":
        mine = [int(text[2:]) for text in got if text[0] == partition]
        assert mine == sorted(mine)
