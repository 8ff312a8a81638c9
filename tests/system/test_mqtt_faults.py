"""What the broker acknowledged is not lost: 50 devices, 200 QoS 1 messages/s, services and the broker killed.

In: `dh/insert/notification/…`, owed from its PUBACK on. Out: one subscriber with a persistent session, which may get a
message again, under the same id, where who sent it did not live to hear of its arrival.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import paho.mqtt.client as paho
import pytest

from tests.system import checker
from tests.system.checker import Key, Ledger, Push, Reading, Sent, Verdict
from tests.system.mqtt import AMQTT, RABBITMQ, World
from tests.system.mqtt_client import WAIT, Client, NotConnected

pytestmark = pytest.mark.system

DEVICES, SENDERS, ROUND = 50, 5, 0.25
NAME = "flow"


class Flow:
    """A message of each device every `ROUND` seconds. `stop()`, then `judged()`."""

    def __init__(self, world: World, mark: str) -> None:
        self.world, self.mark = world, mark
        self.network = world.admin.new("network", name=mark, description="")
        self.devices = [f"{mark}-{n}" for n in range(DEVICES)]
        self.ledger = Ledger()
        self.pushes: list[Push] = []
        self.acknowledged = 0
        self._under_way: list[tuple[Client, paho.MQTTMessageInfo, Sent]] = []
        self._clients: dict[int, Client] = {}
        self._numbers = dict.fromkeys(self.devices, 0)
        self._reader: Client | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._connections = 0

    async def start(self) -> None:
        body = {"name": "d", "networkId": self.network, "deviceTypeId": 1}
        for device in self.devices:
            await asyncio.to_thread(self.world.admin, "PUT", f"device/{device}", body)
        self._reader = self._open_reader()
        filter_ = f"dh/notification/{self.network}/+/+/{NAME}"
        assert await asyncio.to_thread(self._reader.subscribe, filter_) == 1
        self._tasks = [asyncio.create_task(self._keep_reader()), asyncio.create_task(self._send())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in [*self._clients.values(), self._reader]:
            if client is not None:
                client.close()

    async def further(self, messages: int) -> None:
        """Until so many more are acknowledged."""
        aim, deadline = self.acknowledged + messages, time.monotonic() + 60
        while self.acknowledged < aim:
            assert time.monotonic() < deadline, f"{self.acknowledged} of {aim} acknowledged"
            await asyncio.sleep(0.05)
            self._look()

    async def judged(self) -> tuple[Verdict, Reading]:
        """Stop sending, and wait until nothing is owed any more, or for long enough."""
        self._tasks.pop().cancel()
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and self._owed():
            await asyncio.sleep(0.25)
            self._look()
        for device in self.devices:
            path = f"device/{device}/notification?notification={NAME}&sortField=timestamp&sortOrder=ASC&take=1000"
            status, rows = await asyncio.to_thread(self.world.admin, "GET", path)
            assert status == 200
            self.ledger.stored[device] = [(_key(row), row["id"]) for row in rows]  # type: ignore[attr-defined]
        for rows in self.ledger.stored.values():
            for key, id in rows:
                self.ledger.sent[key].id = id
        return checker.judge(self.ledger), checker.read(self.ledger.sent, list(self.pushes))

    def _owed(self) -> bool:
        seen = {push.key for push in list(self.pushes)}
        sent = list(self.ledger.sent.values())
        return bool(self._under_way) or any(one.acked is not None and one.key not in seen for one in sent)

    # -- the devices -------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        while True:
            began = time.monotonic()
            for number, device in enumerate(self.devices):
                client = await self._sender(number % SENDERS)
                if client is not None:
                    self._publish(client, device)
            await asyncio.sleep(max(0.0, began + ROUND - time.monotonic()))

    async def _sender(self, number: int) -> Client | None:
        client = self._clients.get(number)
        if client is None or client.is_closed.is_set():
            if client is not None:
                self._clients.pop(number).close()
            with contextlib.suppress(NotConnected, OSError):
                client = await asyncio.to_thread(self.world.boss, f"{self.mark}-s{number}")
                self._clients[number] = client
                return client
            return None
        return client

    def _publish(self, client: Client, device: str) -> None:
        key = (device, self._numbers[device])
        self._numbers[device] += 1
        payload = json.dumps({"sender": device, "sequence": key[1]})
        sent = self.ledger.sent[key] = Sent(key, device, at=time.monotonic())
        info = client.publish(f"dh/insert/notification/{device}/{NAME}", payload)
        if info.rc == paho.MQTT_ERR_SUCCESS:
            self._under_way.append((client, info, sent))

    def _look(self) -> None:
        """What is acknowledged by now; what was under way when its connection ended will never be."""
        waiting = []
        for client, info, sent in self._under_way:
            is_over = client.is_closed.is_set()
            if info.is_published():
                sent.acked = time.monotonic()
                self.acknowledged += 1
            elif not is_over:
                waiting.append((client, info, sent))
        self._under_way = waiting

    # -- the subscriber ----------------------------------------------------------------------------------------------

    def _open_reader(self) -> Client:
        self._connections += 1
        number = self._connections
        return self.world.boss(f"{self.mark}-r", clean=False, on_message=lambda m: self._pushed(number, m))

    def _pushed(self, connection: int, payload: bytes) -> None:
        notification = json.loads(payload)["notification"]
        self.pushes.append(Push(_key(notification), notification["id"], time.monotonic(), connection))

    async def _keep_reader(self) -> None:
        while True:
            assert self._reader is not None
            if self._reader.is_closed.is_set():
                self._reader.close()
                with contextlib.suppress(NotConnected, OSError):
                    self._reader = await asyncio.to_thread(self._open_reader)
            await asyncio.sleep(0.1)


def _key(notification: Any) -> Key:
    return notification["parameters"]["sender"], notification["parameters"]["sequence"]


@contextlib.asynccontextmanager
async def flowing(mqtt: World) -> AsyncIterator[Flow]:
    flow = Flow(mqtt, f"f-{uuid.uuid4().hex[:8]}")
    await flow.start()
    try:
        yield flow
    finally:
        await flow.stop()


@pytest.mark.parametrize("mqtt", [AMQTT], indirect=True)
async def test_killed_services_lose_nothing(mqtt: World) -> None:
    async with flowing(mqtt) as flow:
        await flow.further(200)
        for service in ("mqtt-bridge", "backend", "proxy"):
            await mqtt.suite.kill(service)
            await flow.further(300)
        verdict, reading = await flow.judged()
    print(verdict.summary(), reading.summary())
    assert verdict.findings() == {}, verdict.summary()
    assert reading.findings() == {}, reading.summary()
    assert verdict.acknowledged >= 1_100


@pytest.mark.parametrize("mqtt", [RABBITMQ], indirect=True)
async def test_a_killed_broker(mqtt: World) -> None:
    """With durable queues nothing is lost. What amqtt has in memory is: docs/mqtt.md."""
    async with flowing(mqtt) as flow:
        await flow.further(300)
        await mqtt.site.broker.kill()
        await flow.further(300)
        verdict, reading = await flow.judged()
    print(verdict.summary(), reading.summary())
    assert verdict.findings() == {}, verdict.summary()
    assert reading.findings() == {}, reading.summary()


@pytest.mark.parametrize("waits", ["backend", "proxy"])
async def test_a_packet_that_comes_again_keeps_its_id(mqtt: World, waits: str) -> None:
    """The bridge is killed with packets that the backend has before it, or not even the bus, and the broker does not
    know to be done."""
    device, mark = mqtt.mine.device, uuid.uuid4().hex[:8]
    topic = f"dh/insert/notification/{device}/{mark}"
    with mqtt.client(f"r-{mark}") as reader, mqtt.client(f"s-{mark}") as sender:
        assert reader.subscribe(f"dh/notification/{mqtt.mine.network}/1/{device}/{mark}") == 1
        sender.publish(topic, {"n": -1}).wait_for_publish(WAIT)
        assert (await asyncio.to_thread(reader.message))[1]["notification"]["parameters"] == {"n": -1}
        bridge, waiting = mqtt.suite.pid("mqtt-bridge"), mqtt.suite.pid(waits)
        async with mqtt.suite.paused(waits):
            before = mqtt.packets()
            for n in range(20):
                # Twice the same: they are two messages.
                sender.publish(topic, {"n": n // 2}).wait_for_publish(WAIT)
            deadline = time.monotonic() + WAIT
            while mqtt.packets() < before + 20:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            os.kill(bridge, signal.SIGKILL)
            if waits == "proxy":  # and what it has not read with it
                os.kill(waiting, signal.SIGKILL)
                await mqtt.suite.back(waits, waiting)
        await mqtt.suite.back("mqtt-bridge", bridge)
        sender.publish(topic, {"n": 10}).wait_for_publish(WAIT)  # behind all that comes again
        came: list[tuple[int, int]] = []
        while not came or came[-1][1] < 10:  # it may get what it had a second time
            notification = (await asyncio.to_thread(reader.message))[1]["notification"]
            found = notification["id"], notification["parameters"]["n"]
            if found not in came and found[1] >= 0:
                came.append(found)
        assert [n for _, n in came] == [n // 2 for n in range(21)]
    status, stored = mqtt.admin("GET", f"device/{device}/notification?notification={mark}&take=100")
    assert status == 200
    assert len(stored) == 22  # type: ignore[arg-type]
