"""Our MQTT broker while nobody can tell who may what. Connections are real; who may what is the test's to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy import ports
from mqtt_bridge.adapters.broker import Broker, Door
from mqtt_bridge.core import topics
from mqtt_bridge.core.authority import PUBLISH, Question
from skep import errors
from tests.system import mqtt_raw
from tests.system.mqtt_raw import CONNACK, PUBACK, SUBACK, Raw

BRIDGE = "bridge"
EVENTS = "dh/notification/1/1/lamp/#"
WITH_QOS_1 = 2
PUBREC, PUBREL = 5, 6


class Judge:
    """`Authority` as the broker uses it. is_away: nobody can tell."""

    def __init__(self) -> None:
        self.is_away = False
        self.refused: set[str] = set()
        """Topics."""
        self.asked: asyncio.Queue[Question] = asyncio.Queue()

    def is_bridge(self, username: str) -> bool:
        return username == BRIDGE

    async def owner(self, client_id: str) -> int | None:
        return 1

    async def may_connect(self, client_id: str, username: str, password: str, address: str) -> bool:
        return self._told(True)

    async def may(self, question: Question) -> bool:
        self.asked.put_nowait(question)
        return self.is_bridge(question.username) or self._told(question.topic not in self.refused)

    def _told(self, answer: bool) -> bool:
        if self.is_away:
            raise errors.Unavailable
        return answer


class Site:
    def __init__(self, judge: Any, port: int) -> None:
        self.judge, self.port = judge, port
        self.broker = Broker(judge, 1 << 20, Door("127.0.0.1", port))
        self._open: list[Raw] = []

    async def client(self, client_id: str, username: str = "user") -> Raw:
        raw = await self.connecting(client_id, username)
        assert await self.answer(raw) == (CONNACK, b"\0\0")
        return raw

    async def connecting(self, client_id: str, username: str = "user") -> Raw:
        raw = await asyncio.to_thread(Raw, self.port)
        self._open.append(raw)
        raw.say(mqtt_raw.connect(client_id, username, "password"))
        return raw

    async def subscriber(self, qos: int) -> Raw:
        raw = await self.client("subscriber")
        raw.say(mqtt_raw.subscribe(EVENTS, qos))
        assert await self.answer(raw) == (SUBACK, bytes([0, 1, qos]))
        return raw

    async def bridge(self) -> Raw:
        """With it others are let in."""
        raw = await self.client(BRIDGE, BRIDGE)
        for filter_ in topics.INBOUND:
            raw.say(mqtt_raw.subscribe(filter_, 1))
            assert await self.answer(raw) == (SUBACK, b"\0\1\1")
        return raw

    async def tell(self, bridge: Raw, name: str) -> None:
        """An event, which the broker has when this returns."""
        bridge.say(mqtt_raw.publish(f"dh/notification/1/1/lamp/{name}", flags=WITH_QOS_1))
        assert await self.answer(bridge) == (PUBACK, b"\0\2")

    @staticmethod
    async def answer(raw: Raw) -> tuple[int, bytes]:
        return await asyncio.to_thread(raw.answer)

    async def event(self, raw: Raw) -> str:
        """Its name."""
        kind, body = await self.answer(raw)
        assert kind == mqtt_raw.PUBLISH
        length = int.from_bytes(body[:2], "big")
        return body[2 : 2 + length].decode().rpartition("/")[2]

    def close(self) -> None:
        for raw in self._open:
            raw.socket.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site(Judge(), *ports.free(1))
    await made.broker.start()
    try:
        yield made
    finally:
        made.close()
        await made.broker.shutdown()


async def test_events_wait_until_somebody_can_tell(site: Site) -> None:
    bridge, judge = await site.bridge(), site.judge
    subscriber = await site.subscriber(1)
    judge.is_away, judge.asked = True, asyncio.Queue()
    for name in ("a", "b", "refused", "c"):
        await site.tell(bridge, name)
    judge.refused.add("dh/notification/1/1/lamp/refused")
    while (await judge.asked.get()).client_id != "subscriber":
        pass
    judge.is_away = False
    assert [await site.event(subscriber) for _ in range(3)] == ["a", "b", "c"]


async def test_with_qos_0_nothing_waits(site: Site) -> None:
    bridge, judge = await site.bridge(), site.judge
    subscriber = await site.subscriber(0)
    judge.is_away, judge.asked = True, asyncio.Queue()
    await site.tell(bridge, "lost")
    while (await judge.asked.get()).client_id != "subscriber":
        pass
    judge.is_away = False
    await site.tell(bridge, "later")
    assert await site.event(subscriber) == "later"


async def test_what_nobody_can_judge_is_not_acknowledged(site: Site) -> None:
    await site.bridge()
    client = await site.client("lamp")
    site.judge.is_away = True
    client.say(mqtt_raw.publish("dh/insert/notification/lamp/a", flags=WITH_QOS_1))
    assert await site.answer(client) == (0, b"")


async def test_with_qos_2_who_published_what_nobody_can_judge_is_disconnected(site: Site) -> None:
    await site.bridge()
    client = await site.client("lamp")
    site.judge.is_away = True
    client.say(mqtt_raw.publish("dh/insert/notification/lamp/a", flags=2 * WITH_QOS_1))
    assert await site.answer(client) == (PUBREC, b"\0\2")
    client.say(mqtt_raw.packet(PUBREL << 4 | 2, b"\0\2"))
    assert await asyncio.to_thread(client.ended)


async def test_what_is_refused_is_acknowledged_and_goes_nowhere(site: Site) -> None:
    bridge = await site.bridge()
    client = await site.client("lamp")
    site.judge.refused.add("dh/insert/notification/lamp/a")
    for name in ("a", "b"):
        client.say(mqtt_raw.publish(f"dh/insert/notification/lamp/{name}", flags=WITH_QOS_1))
        assert await site.answer(client) == (PUBACK, b"\0\2")
    assert await site.event(bridge) == "b"
    assert [q.access for q in _all(site.judge.asked) if q.client_id == "lamp"] == [PUBLISH, PUBLISH]


async def test_who_subscribes_meanwhile_has_to_come_again(site: Site) -> None:
    await site.bridge()
    client = await site.client("lamp")
    site.judge.is_away = True
    client.say(mqtt_raw.subscribe(EVENTS, 1))
    assert await site.answer(client) in ((SUBACK, b"\0\1\x80"), (0, b""))
    assert await asyncio.to_thread(client.ended)


async def test_who_connects_meanwhile_is_told_that_it_may_try_again(site: Site) -> None:
    await site.bridge()
    site.judge.is_away = True
    client = await site.connecting("lamp")
    assert await site.answer(client) == (CONNACK, b"\0\3")
    site.judge.is_away = False
    await site.client("lamp")


def _all(asked: asyncio.Queue[Question]) -> list[Question]:
    return [asked.get_nowait() for _ in range(asked.qsize())]
