"""Packets in, acknowledgements out; the test plays platform and broker."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from typing import Any

import pytest

from mqtt_bridge.core import inbound as module
from mqtt_bridge.core.inbound import Inbound, Limits
from mqtt_bridge.core.numbering import Numbering
from mqtt_bridge.core.packets import Lost, Packet
from mqtt_bridge.core.requests import Request
from mqtt_bridge.core.topics import Insert
from skep import errors
from tests.unit.mqtt_bridge.test_numbering import Memory


class Platform:
    """Answers what the test puts into `replies`, or success; inserts wait until `store`d."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Request]] = []
        self.replies: list[bytes | Exception] = []
        self.gate: asyncio.Event | None = None
        self.inserted: list[tuple[str, str, int, bool]] = []
        self.refusals: list[Exception] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.unknown: set[str] = set()

    async def ask(self, client_id: str, request: Request) -> bytes:
        self.asked.append((client_id, request))
        if self.gate is not None:
            await self.gate.wait()
        reply = self.replies.pop(0) if self.replies else b'{"status":"success"}'
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def insert(self, insert: Insert, parameters: bytes, id: int, is_repeated: bool) -> Awaitable[None] | None:
        if self.refusals:
            raise self.refusals.pop(0)
        if insert.device_id in self.unknown:
            return None
        self.inserted.append((insert.device_id, insert.name, id, is_repeated))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return future


class Bridge:
    def __init__(self, limits: Limits) -> None:
        self.platform = Platform()
        self.memory = Memory()
        self.answers: list[tuple[str, Any]] = []
        self.acknowledged: list[int] = []
        self.answered = asyncio.Event()
        self.paused: list[bool] = []
        self.broken = False
        numbering = Numbering(self.memory, "s", new_id=itertools.count(100).__next__)
        self.inbound = Inbound(self.platform, numbering, self.respond, self.paused.append, limits)
        self._ids = itertools.count(1)

    async def respond(self, topic: str, payload: bytes) -> None:
        if self.broken:
            raise Lost("gone")
        self.answers.append((topic, json.loads(payload)))
        self.answered.set()

    def receive(self, topic: str, payload: bytes = b"{}", dup: bool = False) -> int:
        id = next(self._ids)
        self.inbound.receive(Packet(id, topic, payload, 1, dup), lambda: self.acknowledged.append(id))
        return id

    def request(self, client: str = "c1", **fields: object) -> int:
        return self.receive(f"dh/request/{client}", json.dumps(fields).encode())


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def bridge(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bridge]:
    monkeypatch.setattr(module, "RETRY_FIRST", 0.0)
    monkeypatch.setattr(module, "RETRY_LAST", 0.0)
    made = Bridge(Limits(packets=10))
    running = asyncio.create_task(made.inbound.run())
    await turns()
    yield made
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_request_is_acknowledged_after_its_answer(bridge: Bridge) -> None:
    bridge.platform.gate = asyncio.Event()
    bridge.platform.replies = [b'{"action":"device/list","status":"success","devices":[]}']
    id = bridge.request(action="device/list", requestId=1)
    await turns()
    assert not bridge.acknowledged
    bridge.platform.gate.set()
    await turns()
    assert bridge.answers[0][0] == "dh/response/device/list@c1"
    assert bridge.acknowledged == [id]


async def test_an_insert_gets_its_packets_id_as_idempotency_key(bridge: Bridge) -> None:
    bridge.request(action="notification/insert", deviceId="d", notification={"notification": "n"})
    bridge.request(action="command/insert", deviceId="d", idempotencyKey="mine")
    await turns()
    keys = [json.loads(request.text)["idempotencyKey"] for _, request in bridge.platform.asked]
    assert keys == ["mqtt-100", "mine"]


async def test_one_clients_requests_go_one_after_the_other(bridge: Bridge) -> None:
    bridge.platform.gate = asyncio.Event()
    bridge.request(action="a")
    bridge.request(action="b")
    bridge.request(client="c2", action="c")
    await turns()
    assert [(client, r.action) for client, r in bridge.platform.asked] == [("c1", "a"), ("c2", "c")]
    bridge.platform.gate.set()
    await turns()
    assert [r.action for _, r in bridge.platform.asked] == ["a", "c", "b"]


@pytest.mark.parametrize("action", ["notification/insert", "command/insert", "command/update"])
async def test_what_must_not_get_lost_is_asked_again_under_the_same_key(bridge: Bridge, action: str) -> None:
    away = b'{"status":"error","code":503,"error":"away"}'
    bridge.platform.replies = [errors.Unavailable(), away, away]
    id = bridge.request(action=action)
    await turns(60)
    assert len({request.text for _, request in bridge.platform.asked}) == 1
    assert len(bridge.platform.asked) == 4
    assert [answer["status"] for _, answer in bridge.answers] == ["success"]
    assert bridge.acknowledged == [id]


async def test_other_requests_are_told_that_the_platform_is_away(bridge: Bridge) -> None:
    bridge.platform.replies = [errors.Unavailable()]
    bridge.request(action="device/save", requestId="r")
    await turns()
    ((topic, answer),) = bridge.answers
    assert topic == "dh/response/device/save@c1"
    assert (answer["code"], answer["status"], answer["requestId"]) == (503, "error", "r")
    assert len(bridge.platform.asked) == 1


async def test_patience_ends() -> None:
    bridge = Bridge(Limits(patience=0.0))
    running = asyncio.create_task(bridge.inbound.run())
    bridge.platform.replies = [errors.Unavailable()] * 100
    bridge.request(action="notification/insert")
    async with asyncio.timeout(10):
        await bridge.answered.wait()
    assert bridge.answers[0][1]["code"] == 503
    running.cancel()


async def test_subscriptions_are_made_by_topics(bridge: Bridge) -> None:
    bridge.request(action="notification/subscribe", requestId=9)
    await turns()
    ((topic, answer),) = bridge.answers
    assert topic == "dh/response/notification/subscribe@c1"
    assert (answer["code"], answer["requestId"]) == (400, 9)
    assert "dh/notification/" in answer["error"]
    assert not bridge.platform.asked


@pytest.mark.parametrize("payload", [b"{", b"[]", b"\xff", b'{"action":7}', b'{"action":"a+b"}', b'{"action":""}', b""])
async def test_what_is_no_request_is_answered_too(bridge: Bridge, payload: bytes) -> None:
    bridge.platform.replies = [b'{"code":400,"status":"error","error":"Malformed Json received."}']
    id = bridge.receive("dh/request/c1", payload)
    await turns()
    assert [topic for topic, _ in bridge.answers] == ["dh/response/error@c1"]
    assert bridge.acknowledged == [id]


async def test_inserts_that_came_together_go_out_together_and_are_acknowledged_in_their_order(bridge: Bridge) -> None:
    ids = [bridge.receive(f"dh/insert/notification/d1/{name}") for name in ("a", "b", "c")]
    await turns()
    assert [name for _, name, *_ in bridge.platform.inserted] == ["a", "b", "c"]
    bridge.platform.waiting[1].set_result(None)
    await turns()
    assert bridge.acknowledged == []
    bridge.platform.waiting[0].set_result(None)
    await turns()
    assert bridge.acknowledged == ids[:2]


async def test_devices_do_not_wait_for_each_other_but_acknowledgements_do(bridge: Bridge) -> None:
    bridge.platform.gate = asyncio.Event()
    first = bridge.request(action="device/list")
    second = bridge.receive("dh/insert/notification/d1/a")
    third = bridge.receive("dh/x")
    await turns()
    bridge.platform.waiting[0].set_result(None)
    await turns()
    assert not bridge.acknowledged
    bridge.platform.gate.set()
    await turns()
    assert bridge.acknowledged == [first, second, third]


async def test_an_insert_that_is_refused_for_now_goes_before_what_came_later(bridge: Bridge) -> None:
    for name in ("a", "b", "c"):
        bridge.receive(f"dh/insert/notification/d1/{name}")
    await turns()
    bridge.receive("dh/insert/notification/d1/later")
    bridge.receive("dh/insert/notification/d2/other")
    await turns()
    for future, outcome in zip(
        bridge.platform.waiting, (errors.Unavailable(), errors.Unavailable(), None), strict=False
    ):
        future.set_result(None) if outcome is None else future.set_exception(outcome)
    await turns()
    bridge.platform.waiting[-2].set_result(None)
    bridge.platform.waiting[-1].set_result(None)
    await turns()
    assert [name for device, name, *_ in bridge.platform.inserted if device == "d1"] == [
        "a",
        "b",
        "c",
        "a",
        "b",
        "later",
    ]


async def test_an_insert_that_cannot_go_out_holds_up_its_device_only(bridge: Bridge) -> None:
    bridge.memory.away = False
    bridge.platform.refusals = [errors.Unavailable(), errors.Unavailable()]
    bridge.receive("dh/insert/notification/d1/a")
    bridge.receive("dh/insert/notification/d1/b")
    await turns(60)
    assert [name for _, name, *_ in bridge.platform.inserted] == ["a", "b"]


async def test_an_insert_without_answer_is_put_again_under_its_id(bridge: Bridge) -> None:
    id = bridge.receive("dh/insert/notification/d1/a")
    await turns()
    bridge.platform.waiting[0].set_exception(errors.Unavailable())
    await turns()
    assert bridge.platform.inserted == [("d1", "a", 100, False), ("d1", "a", 100, True)]
    bridge.platform.waiting[1].set_result(None)
    await turns()
    assert bridge.acknowledged == [id]


async def test_what_nobody_can_do_is_passed_over(bridge: Bridge) -> None:
    bridge.platform.unknown = {"gone"}
    ids = [bridge.receive("dh/insert/notification/gone/a"), bridge.receive("dh/x"), bridge.receive("dh/request")]
    bridge.platform.refusals = []
    await turns()
    assert sorted(bridge.acknowledged) == ids
    assert bridge.inbound.passed_over == 3
    bridge.platform.refusals = [errors.BadRequest()]
    bridge.receive("dh/insert/notification/d1/a", b"no json")
    await turns()
    assert bridge.inbound.passed_over == 4


async def test_a_defect_costs_one_packet_only(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    bridge.platform.replies = [RuntimeError("a defect")]
    bridge.request(action="a")
    bridge.request(action="b")
    await turns()
    assert bridge.acknowledged == [1, 2]
    assert "a defect" in caplog.text


async def test_back_pressure(bridge: Bridge) -> None:
    for number in range(10):
        bridge.receive(f"dh/insert/notification/d1/n{number}")
    assert bridge.paused == [True]
    await turns()
    for future in bridge.platform.waiting[:5]:
        future.set_result(None)
    await turns()
    assert bridge.paused == [True, False]


async def test_nothing_is_acknowledged_once_the_connection_is_gone(bridge: Bridge) -> None:
    bridge.broken = True
    bridge.request(action="a")
    bridge.request(action="b")
    await turns()
    assert not bridge.acknowledged
    assert [r.action for _, r in bridge.platform.asked] == ["a"]


async def test_numbers_are_waited_for(bridge: Bridge) -> None:
    bridge.memory.away = True
    bridge.receive("dh/insert/notification/d1/a")
    await turns()
    assert not bridge.platform.inserted
    bridge.memory.away = False
    await turns(60)
    assert bridge.platform.inserted == [("d1", "a", 100, False)]
