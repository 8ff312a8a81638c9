"""What existing plugins and DeviceHive's own conformance tests expect of the plugin proxy (reference: 5.4)."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import suppress
from urllib.error import HTTPError

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.system.conftest import NPM
from tests.system.plugin_client import change, delete, read_up, register, shown
from tests.system.traffic import Session

pytestmark = pytest.mark.system
RUNS = itertools.count()
NOTIFICATION = ["deviceId", "deviceTypeId", "id", "networkId", "notification", "parameters", "timestamp"]
COMMAND = [
    "command", "deviceId", "deviceTypeId", "id", "isUpdated", "lastUpdated", "lifetime", "networkId", "parameters",
    "result", "status", "timestamp", "userId",
]  # fmt: skip


class Raw:
    """Requests without `id`, matched by `t` and `s` alone; pushes by the way."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.pushes: list[dict] = []

    async def next(self) -> dict:
        return json.loads(await asyncio.wait_for(self.connection.recv(), 30))

    async def ask(self, t: str, a: str, p: dict, *more: tuple[str, object]) -> dict:
        await self.connection.send(json.dumps({"t": t, "a": a, "p": p} | dict(more)))
        while (frame := await self.next())["t"] == "notif":
            self.pushes.append(frame)
        assert (frame["t"], frame["a"]) == (t, a)
        return frame

    async def enter(self, token: str, topic: str) -> None:
        answer = await self.ask("plugin", "authenticate", {"token": token})
        assert (answer["s"], answer["p"]["tpc"], "id" in answer) == (0, topic, False)
        answer = await self.ask("topic", "subscribe", {"t": [topic]})
        assert answer == {"t": "topic", "a": "subscribe", "s": 0, "p": {"t": [topic]}}

    async def bodies(self, count: int) -> list[dict]:
        """Of the next pushes."""
        while len(self.pushes) < count:
            self.pushes.append(await self.next())
        taken, self.pushes = self.pushes[:count], self.pushes[count:]
        for push in taken:
            assert (push["t"], push["s"], "id" in push, "a" in push) == ("notif", 0, False, False)
            assert isinstance(push["p"]["m"], str)
        return [json.loads(push["p"]["m"]) for push in taken]

    async def closed(self) -> tuple[int, str]:
        async with asyncio.timeout(10):
            try:
                while True:
                    await self.connection.recv()
            except ConnectionClosed as error:
                return error.rcvd.code, error.rcvd.reason


async def test_the_conformance_tests_find_what_they_look_for(suite):
    device = f"dialect-{suite.engines}-{next(RUNS)}"
    sender = await Session.open(suite.ws, suite.token())
    await sender.ask({"action": "device/save", "deviceId": device, "device": {"name": device}})

    async def notify(text: str) -> None:
        note = {"notification": "hello", "parameters": {"text": text}}
        await sender.ask({"action": "notification/insert", "deviceId": device, "notification": note})

    plugin = await asyncio.to_thread(register, suite, f"deviceId={device}")
    third = await asyncio.to_thread(register, suite, f"deviceId={device}")
    try:
        # The user sets it ACTIVE before anybody has connected.
        await asyncio.to_thread(change, suite, plugin.topic, status="ACTIVE")
        async with connect(plugin.endpoint, proxy=None) as one, connect(plugin.endpoint, proxy=None) as two:
            first, second = Raw(one), Raw(two)
            early = await first.ask("topic", "subscribe", {"t": [plugin.topic]})
            assert (early["s"], early["p"]["m"]) == (1, "Plugin not authorized")
            await first.enter(plugin.access, plugin.topic)
            await second.enter(plugin.access, plugin.topic)
            foreign = await first.ask("topic", "subscribe", {"t": [third.topic]}, ("id", "x"))
            assert (foreign["s"], foreign["id"]) == (1, "x")
            assert foreign["p"]["m"] == "Plugin has no permissions for this operation"
            # And once more while it reads.
            await asyncio.to_thread(change, suite, plugin.topic, status="ACTIVE")
            await notify("to both")
            sent = {"command": "go", "parameters": None}
            answer = await sender.ask({"action": "command/insert", "deviceId": device, "command": sent})
            update = {"action": "command/update", "deviceId": device, "commandId": answer["command"]["id"]}
            await sender.ask(update | {"command": {"status": "done", "result": {"n": 1}}})
            for raw in (first, second):
                note, inserted, updated = await raw.bodies(3)
                for message in (note, inserted, updated):
                    assert (message["l"], message["err"], message["fld"]) == (False, 0, False)
                    assert message["cId"] == note["cId"]
                assert [message["b"]["a"] for message in (note, inserted, updated)] == [10, 21, 23]
                assert sorted(note["b"]["notification"]) == NOTIFICATION
                assert sorted(inserted["b"]["command"]) == sorted(updated["b"]["command"]) == COMMAND
                assert note["b"]["notification"]["parameters"] == {"text": "to both"}
                assert (inserted["b"]["command"]["isUpdated"], inserted["b"]["command"]["status"]) == (False, None)
                assert (updated["b"]["command"]["isUpdated"], updated["b"]["command"]["status"]) == (True, "done")
            answer = await first.ask("topic", "unsubscribe", {"t": [plugin.topic]})
            assert answer == {"t": "topic", "a": "unsubscribe", "s": 0, "p": {"t": [plugin.topic]}}
            await notify("to the second")
            [note] = await second.bodies(1)
            assert note["b"]["notification"]["parameters"] == {"text": "to the second"}
            # The user disables it: everybody out, nobody in, until it is enabled.
            await asyncio.to_thread(change, suite, plugin.topic, status="INACTIVE")
            for raw in (first, second):
                assert await raw.closed() == (1008, "Plugin is disabled")
        async with connect(plugin.endpoint, proxy=None) as three:
            raw = Raw(three)
            answer = await raw.ask("plugin", "authenticate", {"token": plugin.access})
            assert (answer["s"], answer["p"]["m"]) == (1, "Plugin is disabled")
            await asyncio.to_thread(change, suite, plugin.topic, status="ACTIVE")
            await raw.enter(plugin.access, plugin.topic)
            await notify("again")
            texts: list[str] = []
            while "again" not in texts:
                [message] = await raw.bodies(1)
                # Commands may come again as well, where no pong had confirmed them.
                if "notification" in message["b"]:
                    texts.append(message["b"]["notification"]["parameters"]["text"])
            await asyncio.to_thread(delete, suite, plugin.topic)
            assert await raw.closed() == (1008, "Plugin is not found")
    finally:
        await sender.close()
        delete(suite, third.topic)
        with suppress(HTTPError):  # it is gone, where all went well
            delete(suite, plugin.topic)


async def test_nodes_ws_answers_pings_by_itself(suite, npm):
    """So what it was handed over is confirmed, without a line in the plugin; while its loop is busy it is not."""
    device = f"ws-{suite.engines}-{next(RUNS)}"
    sender = await Session.open(suite.ws, suite.token())
    await sender.ask({"action": "device/save", "deviceId": device, "device": {"name": device}})

    async def notify(name: str) -> None:
        note = {"notification": name, "parameters": {}}
        await sender.ask({"action": "notification/insert", "deviceId": device, "notification": note})

    plugin = await asyncio.to_thread(register, suite, f"deviceId={device}&returnNotifications=true")
    command = [npm, str(NPM / "plugin.js"), plugin.endpoint, plugin.topic, plugin.access]
    node = await asyncio.create_subprocess_exec(*command, cwd=NPM, stdout=asyncio.subprocess.PIPE)

    async def line() -> str:
        return (await asyncio.wait_for(node.stdout.readline(), 30)).decode().strip()

    try:
        assert await line() == "subscribed"
        for name in ("one", "two"):
            await notify(name)
            assert await line() == name
        assert await read_up(suite, plugin.topic) == 2
        await notify("busy")
        assert await line() == "busy"
        for _ in range(5):
            assert (await asyncio.to_thread(shown, suite, plugin.topic))["lag"] == 1
        assert await line() == "free"
        assert await read_up(suite, plugin.topic) == 3
    finally:
        node.kill()
        await node.wait()
        await sender.close()
        delete(suite, plugin.topic)
