"""A device's life over MQTT with Mosquitto's command line, and requests with their answers, through each broker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.system.mqtt import AMQTT, World, program
from tests.system.mqtt_client import WAIT
from tests.system.traffic import Session

pytestmark = pytest.mark.system


class Line:
    """mosquitto_pub and mosquitto_sub with one account, as a person types them."""

    def __init__(self, world: World) -> None:
        self._world, self._pub, self._sub = world, program("mosquitto_pub"), program("mosquitto_sub")
        self._common = ["-h", "127.0.0.1", "-p", str(world.port), "-q", "1"]

    def _account(self, client_id: str) -> list[str]:
        login, password = self._world.account(client_id)
        return ["-i", client_id, "-u", login, "-P", password]

    async def publish(self, client_id: str, topic: str, payload: object) -> None:
        command = [self._pub, *self._common, *self._account(client_id), "-t", topic, "-m", json.dumps(payload)]
        process = await asyncio.create_subprocess_exec(*command)
        assert await asyncio.wait_for(process.wait(), WAIT) == 0

    async def subscribe(self, client_id: str, *topics: str) -> Seen:
        """Returns when all are granted."""
        named = [part for topic in topics for part in ("-t", topic)]
        # It would keep what it says of the SUBACK in its buffer.
        command = ["stdbuf", "-oL", self._sub, *self._common, *self._account(client_id), "-d", "-v", *named]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        seen = Seen(process)
        granted = await seen.line(lambda text: text.startswith("Subscribed (mid:"))
        assert granted.split(": ", 2)[2].split(", ") == ["1"] * len(topics), granted
        return seen


class Seen:
    """What a mosquitto_sub prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    async def line(self, holds: Callable[[str], bool]) -> str:
        """The next one that does."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT):
            while True:
                text = (await self._process.stdout.readline()).decode().rstrip("\n")
                assert text, f"mosquitto_sub has ended: {self.lines}"
                self.lines.append(text)
                if holds(text):
                    return text

    async def message(self, topic: str) -> Any:
        """The next payload on that topic."""
        return json.loads((await self.line(lambda text: text.startswith(f"{topic} "))).split(" ", 1)[1])

    def count(self, topic: str) -> int:
        return sum(text.startswith(f"{topic} ") for text in self.lines)

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()


@pytest.fixture
def name() -> str:
    return f"c-{uuid.uuid4().hex[:8]}"


async def test_a_device_on_the_command_line(mqtt: World, name: str) -> None:
    """It logs in, saves itself, notifies in both ways, gets a command and answers it."""
    line, network, device = Line(mqtt), mqtt.mine.network, f"d-{name}"
    # Plain where the broker adds who asks, as with DeviceHive.
    request = "dh/request" if mqtt.site.broker.name == AMQTT else f"dh/request/{name}"
    place = f"{network}/1/{device}"
    pushed: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    socket = await Session.open(mqtt.suite.ws, mqtt.suite.token(), pushed.put_nowait)
    seen = await line.subscribe(f"{name}-s", f"dh/notification/{place}/#", f"dh/command/{place}/+")
    try:
        body = {"name": device, "networkId": network, "deviceTypeId": 1}
        await line.publish(name, request, {"action": "device/save", "deviceId": device, "device": body})
        await seen.message(f"dh/notification/{place}/$device-add")
        await socket.ask({"action": "notification/subscribe", "deviceId": device})
        await socket.ask({"action": "command/subscribe", "deviceId": device, "returnUpdatedCommands": True})
        insert = {"action": "notification/insert", "deviceId": device, "notification": {"notification": "asked"}}
        await line.publish(name, request, insert)
        await seen.message(f"dh/notification/{place}/asked")
        await asyncio.to_thread(mqtt.sees_device, name, device)
        await line.publish(name, f"dh/insert/notification/{device}/simple", {"celsius": 21.5})
        simple = await seen.message(f"dh/notification/{place}/simple")
        assert simple["notification"]["parameters"] == {"celsius": 21.5}
        status, made = mqtt.admin("POST", f"device/{device}/command", {"command": "blink"})
        assert status == 201
        blink = await seen.message(f"dh/command/{place}/blink")
        assert blink["command"]["id"] == made["id"]  # type: ignore[index]
        answer = {"status": "done", "result": {"times": 3}}
        command = {"action": "command/update", "deviceId": device, "commandId": blink["command"]["id"]}
        await line.publish(name, request, {**command, "command": answer})
        await line.publish(name, f"dh/insert/notification/{device}/last", {})
        await seen.message(f"dh/notification/{place}/last")
        assert {seen.count(f"dh/notification/{place}/{each}") for each in ("asked", "simple", "last")} == {1}
        assert seen.count(f"dh/command/{place}/blink") == 1
        await _pushed(pushed, answer)
    finally:
        await seen.close()
        await socket.close()


async def _pushed(pushed: asyncio.Queue[dict[str, Any]], answer: dict[str, Any]) -> None:
    """What the WebSocket got: each notification once, in order, and the update."""
    names: list[str] = []
    updates: list[dict[str, Any]] = []
    while "last" not in names or not updates:
        push = await asyncio.wait_for(pushed.get(), WAIT)
        match push["action"]:
            case "notification/insert":
                names.append(push["notification"]["notification"])
            case "command/update":
                updates.append(push["command"])
    assert names == ["asked", "simple", "last"]
    assert [(u["status"], u["result"]) for u in updates] == [(answer["status"], answer["result"])]
    assert pushed.empty()


def test_requests_and_answers(mqtt: World, name: str) -> None:
    device = mqtt.mine.device
    with mqtt.client(name) as client:
        for action in ("device/get", "notification/insert", "error", "notification/subscribe"):
            assert client.subscribe(f"dh/response/{action}@{name}") == 1
        got = client.ask(name, action="device/get", requestId=7, deviceId=device)
        assert (got["status"], got["requestId"], got["device"]["id"]) == ("success", 7, device)
        key = {"action": "notification/insert", "deviceId": device, "idempotencyKey": uuid.uuid4().hex}
        first, again = (client.ask(name, **key, notification={"notification": "once"}) for _ in range(2))
        assert first["notification"]["id"] == again["notification"]["id"]
        foreign = client.ask(name, action="device/get", deviceId=mqtt.foreign.device)
        assert (foreign["status"], foreign["code"]) == ("error", 403)
        assert client.ask(name, action="notification/subscribe", deviceId=device)["code"] == 400
        client.publish(f"dh/request/{name}", "{no json")
        topic, answer = client.message()
        assert (topic, answer["error"]) == (f"dh/response/error@{name}", "Malformed Json received.")


def test_what_is_acknowledged_before_a_disconnect_is_handed_on(mqtt: World, name: str) -> None:
    device, network = mqtt.mine.device, mqtt.mine.network
    numbers = list(range(100))
    with mqtt.client(f"{name}-r") as reader:
        assert reader.subscribe(f"dh/notification/{network}/1/{device}/{name}") == 1
        for start in numbers[::10]:
            with mqtt.client(name) as client:
                topic = f"dh/insert/notification/{device}/{name}"
                for info in [client.publish(topic, {"n": number}) for number in numbers[start : start + 10]]:
                    info.wait_for_publish(WAIT)
        assert [reader.message()[1]["notification"]["parameters"]["n"] for _ in numbers] == numbers
