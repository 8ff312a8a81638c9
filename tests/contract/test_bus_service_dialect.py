"""The service dialect at the socket (`skep/wire/proxy.py`): a whole proxy on PostgreSQL, frames by hand."""

import asyncio
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator

import msgspec
import pytest
from websockets.exceptions import InvalidStatus
from websockets.protocol import State

from skep import tokens
from skep.wire import proxy as wire
from skep.wire import topics
from skep.wire.proxy import Code, Record
from tests.contract.bus_support import SECRET, Client, client, socket, token
from ws_kafka_proxy.app import Core
from ws_kafka_proxy.settings import Settings

pytestmark = pytest.mark.engines("postgres")


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[Core]:
    made = Core(settings_of(postgres_url))
    async with asyncio.timeout(20):
        await made.start()
    yield made
    await made.stop()


def settings_of(url: str, **changed: object) -> Settings:
    values = {"hold": 0.0, "full_after": 0.3, "session_timeout": 0.5, "log_upkeep": 60.0, **changed}
    return Settings(instance="proxy-1", port=0, bus_secret=SECRET, database_url=url, **values)  # type: ignore[arg-type]


@pytest.fixture
async def frontend(proxy: Core) -> AsyncIterator[Client]:
    made = await client(proxy.listener.port, "frontend", publisher=11)
    yield made
    if made.socket.state is State.OPEN:
        await made.socket.close()


@pytest.fixture
async def backend(proxy: Core) -> AsyncIterator[Client]:
    made = await client(proxy.listener.port, "backend", publisher=22)
    yield made
    if made.socket.state is State.OPEN:
        await made.socket.close()


@pytest.fixture
async def tool(proxy: Core) -> AsyncIterator[Client]:
    made = await client(proxy.listener.port, "tool", publisher=33)
    yield made
    if made.socket.state is State.OPEN:
        await made.socket.close()


@pytest.fixture
async def topic(tool: Client) -> str:
    """A durable topic of this test alone, with two partitions."""
    name = f"plugin_topic_{secrets.token_hex(8)}"
    assert (await tool.ask(wire.CreateTopic(1, name, 2), wire.Done)).failure is None
    return name


def refused(answer: wire.Published) -> dict[int, int]:
    return {index: failure.code for index, failure in answer.failures.items()}


async def closed(made: Client) -> tuple[int, str]:
    """Code and reason."""
    async with asyncio.timeout(10):
        await made.socket.wait_closed()
    assert made.socket.close_code is not None
    return made.socket.close_code, made.socket.close_reason or ""


# -- the handshake


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer",
        "Bearer not-a-token",
        "Basic Zm9vOmJhcg==",
        f"Bearer {token('frontend', 'frontend-1', secret='another secret of sufficient length')}",
        f"Bearer {token('frontend', 'frontend-1', seconds=-1)}",
        f"Bearer {token('nobody', 'nobody-1')}",
        f"Bearer {token('frontend', 'a b*')}",
        f"Bearer {tokens.encode(tokens.Claims(1, [0], ['*'], ['*'], 1 << 45, 1, None), tokens.Keys.parse(SECRET))}",
    ],
)
async def test_without_a_good_service_token_there_is_no_socket(proxy: Core, authorization: str | None) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await socket(proxy.listener.port, authorization)
    assert caught.value.response.status_code == 401


async def test_hello_and_welcome(proxy: Core) -> None:
    made = await client(proxy.listener.port, "frontend", hello=False)
    welcome = await made.ask(wire.Hello(wire.VERSION + 7, 1), wire.Welcome)
    assert (welcome.version, welcome.engine) == (wire.VERSION, "postgres")
    assert welcome.boot
    await made.send(wire.Hello(1, 1))
    assert (await closed(made))[0] == 1002


@pytest.mark.parametrize("frame", [wire.Health(1), wire.Publish(1, []), wire.Hello(0, 1), wire.Hello(1, -1)])
async def test_a_bad_beginning_closes(proxy: Core, frame: wire.ClientFrame) -> None:
    made = await client(proxy.listener.port, "frontend", hello=False)
    await made.send(frame)
    code, reason = await closed(made)
    assert code == 1002
    assert "Hello" in reason


# -- bad frames


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", 1002),
        (b"\x00\xff\xfe", 1002),
        (b"\xc1", 1002),
        (b"\x91" * 100_000, 1002),
        (b"\xdd\xff\xff\xff\xff", 1002),
        (msgspec.msgpack.encode([99, 1]), 1002),
        (msgspec.msgpack.encode([1, "id", []]), 1002),
        (msgspec.msgpack.encode([1, 1, [["requests", None, None, "seq"]]]), 1002),
        (msgspec.msgpack.encode({"type": 1}), 1002),
        (wire.encode(wire.Credit(1, -1, 0)), 1002),
        (wire.encode(wire.Ack(1, 0, 1, b"x" * 3_001)), 1009),
        (wire.encode(wire.Publish(1, [Record("requests", None, b"", 1)] * (wire.MAX_BATCH + 1))), 1009),
        (b"\x00" * (wire.MAX_FRAME + 1), 1009),
        ("text", 1003),
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) else "",
)
async def test_a_bad_frame_closes_its_socket_alone(
    proxy: Core, backend: Client, frontend: Client, data: bytes | str, code: int
) -> None:
    await frontend.socket.send(data)
    found, reason = await closed(frontend)
    assert found == code
    assert reason
    assert (await backend.ask(wire.Health(1), wire.HealthReport)).available


async def test_the_same_sid_twice_closes(frontend: Client) -> None:
    frame = wire.Subscribe(1, 5, topics.METADATA_CHANGES)
    assert (await frontend.ask(frame, wire.Subscribed)).failure is None
    await frontend.send(frame)
    assert (await closed(frontend))[0] == 1002


async def test_unknown_sids_are_ignored(frontend: Client) -> None:
    """They may belong to what ended a moment ago."""
    await frontend.send(wire.Ack(9, 0, 5), wire.Credit(9, 5, 5))
    assert (await frontend.ask(wire.Unsubscribe(1, 9), wire.Done)).failure is None


# -- rights


async def test_what_a_service_may_publish(frontend: Client) -> None:
    answer = await frontend.publish(
        1,
        Record(topics.REQUESTS, b"k", b"v", 1),
        Record("events.frontend-1.x", None, b"v", 2),
        Record(topics.MQTT_OUT, None, b"v", 3),
        Record("__consumer_offsets", None, b"v", 4),
        Record("requests\u200b", None, b"v", 5),
        Record(topics.REQUESTS, b"k", b"v", 6),
    )
    assert refused(answer) == {1: Code.FORBIDDEN, 2: Code.FORBIDDEN, 3: Code.BAD, 4: Code.BAD}
    assert answer.positions[0][1] + 1 == answer.positions[5][1]


@pytest.mark.parametrize(
    "name", [topics.REQUESTS, "replies.frontend-2.x", "replies.frontend-1", topics.QUERIES, "plugin_topic_x", "*", ""]
)
async def test_what_a_service_may_not_subscribe_to(frontend: Client, name: str) -> None:
    answer = await frontend.ask(wire.Subscribe(1, 1, name), wire.Subscribed)
    assert answer.failure is not None
    assert answer.failure.code == Code.FORBIDDEN


async def test_own_streams_are_ones_own(frontend: Client) -> None:
    answer = await frontend.ask(wire.Subscribe(1, 1, topics.replies("frontend-1.5f")), wire.Subscribed)
    assert answer.failure is None


@pytest.mark.parametrize(
    "frame",
    [wire.CreateTopic(1, "plugin_topic_y"), wire.DeleteTopic(1, "requests"), wire.DeleteTopic(1, "plugin_topic_y")],
)
async def test_only_the_plugin_manager_makes_topics(frontend: Client, frame: wire.CreateTopic) -> None:
    answer = await frontend.ask(frame, wire.Done)
    assert answer.failure is not None
    assert answer.failure.code == Code.FORBIDDEN


async def test_catalogue_topics_can_not_be_deleted(tool: Client) -> None:
    answer = await tool.ask(wire.DeleteTopic(1, topics.REQUESTS), wire.Done)
    assert answer.failure is not None
    assert answer.failure.code == Code.FORBIDDEN


async def test_describe(frontend: Client, tool: Client) -> None:
    found = await frontend.ask(wire.Describe(1, topics.REQUESTS), wire.Described)
    assert len(found.partitions) == 8
    assert found.incarnation
    forbidden = await frontend.ask(wire.Describe(2, "plugin_topic_x"), wire.Described)
    assert forbidden.failure is not None
    assert forbidden.failure.code == Code.FORBIDDEN
    assert found.groups == {}
    missing = await tool.ask(wire.Describe(3, "plugin_topic_x", True), wire.Described)
    assert missing.failure is not None
    assert missing.failure.code == Code.NO_TOPIC


# -- durable topics


async def test_publish_deliver_acknowledge(tool: Client, topic: str) -> None:
    subscribed = await tool.ask(wire.Subscribe(2, 1, topic, "g", wire.Start("earliest")), wire.Subscribed)
    assert subscribed.failure is None
    assigned = {(await tool.next(wire.Assigned)).partition for _ in range(2)}
    assert assigned == {0, 1}
    answer = await tool.publish(3, *(Record(topic, None, b"%d" % n, n, 0) for n in range(10)))
    assert answer.positions == [(0, n) for n in range(10)]
    assert await tool.delivered(10) == [b"%d" % n for n in range(10)]
    await tool.send(wire.Ack(1, 0, 7, b"state"))
    await tool.ask(wire.Unsubscribe(4, 1), wire.Done)
    await tool.send(wire.Subscribe(5, 1, topic, "g"))
    again = await tool.next(wire.Assigned)
    while again.partition != 0:
        again = await tool.next(wire.Assigned)
    assert (again.sid, again.offset, again.end, again.state) == (1, 7, 10, b"state")
    assert await tool.delivered(3) == [b"7", b"8", b"9"]
    described = await tool.ask(wire.Describe(6, topic, True), wire.Described)
    assert described.groups == {"g": {0: 7, 1: 0}}


async def test_a_batch_with_refused_records(tool: Client, topic: str) -> None:
    answer = await tool.publish(
        1,
        Record(topic, None, b"a", 1, 0),
        Record(topic, None, b"x" * (wire.MAX_BODY + 1), 2, 0),
        Record(topic, b"k" * 2_000, b"b", 3, 0),
        Record(topic, None, b"c", 4, 9),
        Record("plugin_topic_missing", None, b"d", 5, 0),
        Record(topic, None, b"e", -1, 0),
        Record(topic, None, b"f", 7, 0),
    )
    assert answer.positions == [(0, 0), *[(-1, -1)] * 5, (0, 1)]
    assert refused(answer) == {1: Code.TOO_LARGE, 2: Code.BAD, 3: Code.BAD, 4: Code.NO_TOPIC, 5: Code.BAD}
    assert all(failure.reason for failure in answer.failures.values())


async def test_a_payload_of_one_mebibyte_passes(tool: Client, topic: str) -> None:
    await tool.send(wire.Subscribe(2, 1, topic, None, wire.Start("earliest"), bytes=1))
    payload = secrets.token_bytes(wire.MAX_BODY)
    assert not (await tool.publish(3, Record(topic, None, payload, 1, 0))).failures
    assert await tool.delivered(1) == [payload]


async def test_credit_in_records_bounds_delivery(tool: Client, topic: str) -> None:
    await tool.ask(wire.Subscribe(2, 1, topic, None, wire.Start("earliest"), records=3), wire.Subscribed)
    await tool.publish(3, *(Record(topic, None, b"%d" % n, n, 0) for n in range(10)))
    assert await tool.delivered(3) == [b"0", b"1", b"2"]
    await tool.ask(wire.Health(4), wire.HealthReport)
    with pytest.raises(TimeoutError):
        await tool.next(wire.Deliver, 0.1)
    await tool.send(wire.Credit(1, 2, 0))
    assert await tool.delivered(2) == [b"3", b"4"]
    await tool.send(wire.Credit(1, 100, 0))
    assert await tool.delivered(5) == [b"5", b"6", b"7", b"8", b"9"]


async def test_credit_in_bytes_bounds_delivery(tool: Client, topic: str) -> None:
    await tool.ask(wire.Subscribe(2, 1, topic, None, wire.Start("earliest"), bytes=2_500), wire.Subscribed)
    await tool.publish(3, *(Record(topic, None, b"x" * 1_000, n, 0) for n in range(10)))
    await tool.delivered(3)
    with pytest.raises(TimeoutError):
        await tool.next(wire.Deliver, 0.1)
    await tool.send(wire.Credit(1, 0, 10_000))
    await tool.delivered(7)


async def test_a_member_without_credit_is_told_what_it_lost(proxy: Core, tool: Client, topic: str) -> None:
    await tool.ask(wire.Subscribe(2, 1, topic, "g", wire.Start("earliest"), records=0), wire.Subscribed)
    await tool.next(wire.Assigned)
    other = await client(proxy.listener.port, "tool", "tool-2")
    await other.ask(wire.Subscribe(1, 1, topic, "g"), wire.Subscribed)
    gone = (await tool.next(wire.Revoked)).partitions
    assert [(await other.next(wire.Assigned)).partition] == gone
    await other.socket.close()


async def test_the_same_instance_twice_in_a_group_fences_the_older(proxy: Core, tool: Client, topic: str) -> None:
    await tool.ask(wire.Subscribe(2, 1, topic, "g"), wire.Subscribed)
    newer = await client(proxy.listener.port, "tool")
    await newer.ask(wire.Subscribe(1, 1, topic, "g"), wire.Subscribed)
    ended = await tool.next(wire.Closed)
    assert (ended.sid, ended.failure.code) == (1, Code.FENCED)
    assert {(await newer.next(wire.Assigned)).partition for _ in range(2)} == {0, 1}
    await newer.socket.close()


async def test_deleting_a_topic_ends_its_subscriptions(tool: Client, topic: str) -> None:
    await tool.ask(wire.Subscribe(2, 1, topic), wire.Subscribed)
    assert (await tool.ask(wire.DeleteTopic(3, topic), wire.Done)).failure is None
    assert (await tool.next(wire.Closed)).failure.code == Code.NO_TOPIC
    assert refused(await tool.publish(4, Record(topic, None, b"v", 1))) == {0: Code.NO_TOPIC}
    answer = await tool.ask(wire.Subscribe(5, 1, topic), wire.Subscribed)
    assert answer.failure is not None
    assert answer.failure.code == Code.NO_TOPIC


async def test_a_socket_that_died_keeps_its_partitions_for_a_while(proxy: Core, tool: Client, topic: str) -> None:
    await tool.ask(wire.Subscribe(2, 1, topic, "g"), wire.Subscribed)
    other = await client(proxy.listener.port, "tool", "tool-2")
    await other.ask(wire.Subscribe(1, 1, topic, "g"), wire.Subscribed)
    kept = (await other.next(wire.Assigned)).partition
    other.socket.transport.abort()
    back = await client(proxy.listener.port, "tool", "tool-2")
    await back.ask(wire.Subscribe(1, 1, topic, "g"), wire.Subscribed)
    assert (await back.next(wire.Assigned)).partition == kept
    back.socket.transport.abort()
    began = time.monotonic()
    while (await tool.next(wire.Assigned)).partition != kept or time.monotonic() - began < 0.1:
        pass
    assert time.monotonic() - began > 0.3


# -- short-lived topics


async def test_short_lived_records_are_confirmed_when_taken(frontend: Client, backend: Client) -> None:
    name = topics.replies("frontend-1.run")
    answer = await frontend.ask(wire.Subscribe(1, 1, name), wire.Subscribed)
    assert (answer.failure, answer.gap) == (None, False)
    await backend.send(wire.Publish(7, [Record(name, None, b"%d" % n, n) for n in range(3)]))
    delivered = await frontend.next(wire.Deliver)
    assert [(r.offset, r.publisher, r.seq, r.payload) for r in delivered.records] == [
        (n, 22, n, b"%d" % n) for n in range(3)
    ]
    with pytest.raises(TimeoutError):
        await backend.next(wire.Published, 0.1)
    await frontend.send(wire.Ack(1, 0, 3))
    published = await backend.next(wire.Published)
    assert (published.id, published.positions, published.failures) == (7, [(-1, -1)] * 3, {})


async def test_nobody_there_and_the_gap_it_leaves(frontend: Client, backend: Client) -> None:
    name = topics.events("frontend-1.run")
    assert refused(await backend.publish(1, Record(name, None, b"v", 1))) == {0: Code.NO_SUBSCRIBER}
    assert (await frontend.ask(wire.Subscribe(1, 1, name), wire.Subscribed)).gap


async def test_a_subscriber_that_stays_full_is_cut_and_told(frontend: Client, backend: Client) -> None:
    name = topics.events("frontend-1.run")
    await frontend.ask(wire.Subscribe(1, 1, name, records=1), wire.Subscribed)
    await backend.send(wire.Publish(1, [Record(name, None, b"%d" % n, n) for n in range(3)]))
    gap = await frontend.next(wire.Gap)
    assert (gap.sid, gap.start, gap.end) == (1, -1, -1)
    assert gap.reason
    await frontend.send(wire.Ack(1, 0, 1))
    assert refused(await backend.next(wire.Published)) == {1: Code.FULL, 2: Code.FULL}
    await frontend.send(wire.Credit(1, 10, 0))
    await backend.send(wire.Publish(2, [Record(name, None, b"again", 9)]))
    assert await frontend.delivered(2) == [b"0", b"again"]


async def test_a_question_whose_taker_vanished_goes_to_another(proxy: Core, frontend: Client, backend: Client) -> None:
    other = await client(proxy.listener.port, "backend", "backend-2", publisher=23)
    await other.ask(wire.Subscribe(1, 1, topics.QUERIES), wire.Subscribed)
    await frontend.send(wire.Publish(1, [Record(topics.QUERIES, None, b"%d" % n, n) for n in range(4)]))
    assert len(await other.delivered(4)) == 4
    await backend.ask(wire.Subscribe(1, 1, topics.QUERIES), wire.Subscribed)
    other.socket.transport.abort()
    assert await backend.delivered(4) == [b"%d" % n for n in range(4)]
    await backend.send(wire.Ack(1, 0, 4))
    assert not (await frontend.next(wire.Published)).failures


async def test_acknowledging_what_was_not_delivered_closes(frontend: Client) -> None:
    await frontend.ask(wire.Subscribe(1, 1, topics.events("frontend-1.run")), wire.Subscribed)
    await frontend.send(wire.Ack(1, 0, 1))
    assert (await closed(frontend))[0] == 1002


async def test_a_mixed_batch_has_one_answer(frontend: Client, backend: Client) -> None:
    await backend.ask(wire.Subscribe(1, 1, topics.QUERIES), wire.Subscribed)
    await frontend.send(
        wire.Publish(5, [Record(topics.QUERIES, None, b"q", 1), Record(topics.REQUESTS, b"k", b"r", 2, 0)])
    )
    await backend.next(wire.Deliver)
    await backend.send(wire.Ack(1, 0, 1))
    answer = await frontend.next(wire.Published)
    assert answer.positions[0] == (-1, -1)
    assert answer.positions[1][0] == 0
    assert not answer.failures


async def test_a_fresh_proxy_holds_short_lived_records(postgres_url: str) -> None:
    made = Core(settings_of(postgres_url, hold=10.0))
    await made.start()
    try:
        backend = await client(made.listener.port, "backend")
        name = topics.events("frontend-1.run")
        await backend.send(wire.Publish(1, [Record(name, None, b"early", 1)]))
        await backend.ask(wire.Health(2), wire.HealthReport)
        frontend = await client(made.listener.port, "frontend", publisher=2)
        assert not (await frontend.ask(wire.Subscribe(1, 1, name), wire.Subscribed)).gap
        assert await frontend.delivered(1) == [b"early"]
        await backend.socket.close()
        await frontend.socket.close()
    finally:
        await made.stop()


# -- the engine away, health


async def test_where_the_engine_can_not_tell_the_socket_is_dropped_without_an_answer(proxy: Core, tool: Client) -> None:
    await tool.send(wire.Publish(1, [Record(topics.REQUESTS, b"k", b"v", 1)]))
    await tool.next(wire.Published)
    appender = proxy._engine._appender  # type: ignore[attr-defined]
    appending = proxy._engine.append

    def lose(publisher: int, records: list[Record]) -> object:
        result = appending(publisher, records)
        appender._lose("pulled the plug")
        return result

    proxy._engine.append = lose  # type: ignore[method-assign]
    await tool.send(wire.Publish(2, [Record(topics.REQUESTS, b"k", b"v", 2)]))
    code, reason = await closed(tool)
    assert code == 1013
    assert "can't tell" in reason


async def test_health_over_http(proxy: Core) -> None:
    def get() -> tuple[int, dict[str, object]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{proxy.listener.port}/health") as answer:
            return answer.status, msgspec.json.decode(answer.read())

    status, report = await asyncio.to_thread(get)
    assert status == 200
    assert (report["status"], report["engine"]) == ("ok", "postgres")


async def test_other_http_is_told_that_this_is_a_websocket(proxy: Core) -> None:
    def get() -> int:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{proxy.listener.port}/anything")
        caught.value.close()
        return caught.value.code

    assert await asyncio.to_thread(get) == 426


async def test_health_over_the_socket(tool: Client, topic: str) -> None:
    await tool.ask(wire.Subscribe(2, 1, topic, "g", wire.Start("earliest")), wire.Subscribed)
    await tool.publish(3, Record(topic, None, b"a", 1, 0), Record(topic, None, b"b", 2, 0))
    report = await tool.ask(wire.Health(4), wire.HealthReport)
    assert (report.engine, report.available, report.lag[f"g/{topic}"]) == ("postgres", True, 2)


async def test_a_socket_that_answers_no_ping_is_found_dead(postgres_url: str) -> None:
    made = Core(settings_of(postgres_url, ping_interval=0.1, ping_timeout=0.2))
    await made.start()
    try:
        mute = await client(made.listener.port, "tool")
        mute.socket.transport.pause_reading()
        async with asyncio.timeout(5):
            while made._sockets:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        mute.socket.transport.abort()
    finally:
        await made.stop()


async def test_a_stopping_proxy_closes_with_1001(postgres_url: str) -> None:
    made = Core(settings_of(postgres_url))
    await made.start()
    frontend = await client(made.listener.port, "frontend")
    stopping = asyncio.create_task(made.stop())
    assert (await closed(frontend))[0] == 1001
    await stopping
