"""The unchanged PyPI library `devicehive-plugin`: each plugin gets what it asked for, all of it and nothing else."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.system.plugin_client import Registered, delete, read_up, register
from tests.system.suite import Suite
from tests.system.traffic import Session, call

PROGRAM = Path(__file__).parent / "clients" / "pypi_plugin.py"
RUNS = itertools.count()
pytestmark = pytest.mark.system


class Process:
    """The program, and the lines it wrote."""

    def __init__(self, plugin: Registered, credentials: dict[str, str]) -> None:
        self.plugin, self.credentials = plugin, credentials
        self.lines: list[dict] = []
        self.news = asyncio.Event()

    async def start(self) -> None:
        """Until the library says that it is connected, which is behind its subscribe."""
        arguments = [str(PROGRAM), self.plugin.endpoint, self.plugin.topic, json.dumps(self.credentials)]
        self.child = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        self.reading = asyncio.create_task(self._read())
        count = len(self.lines)
        await self.until(lambda: len(self.lines) > count)
        assert self.lines[count] == {"connected": True}

    async def _read(self) -> None:
        async for line in self.child.stdout:
            self.lines.append(json.loads(line))
            self.news.set()
        self.news.set()

    async def until(self, met: Callable[[], object], within: float = 60.0) -> None:
        deadline = time.monotonic() + within
        while not met():
            self.news.clear()
            left = deadline - time.monotonic()
            if left <= 0 or self.reading.done():
                await self.kill()
                raise AssertionError((await self.child.stderr.read()).decode() or self.lines)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), left)

    async def has(self, count: int) -> None:
        await self.until(lambda: len(self.events) >= count)

    async def kill(self) -> None:
        with suppress(ProcessLookupError):  # not by `send_signal`, which takes the exit code from who waits for it
            os.kill(self.child.pid, signal.SIGKILL)
        await self.child.wait()
        await self.reading

    async def end(self) -> None:
        """It disconnects and ends well."""
        self.child.stdin.close()
        async with asyncio.timeout(30):
            errors = await self.child.stderr.read()
            assert await self.child.wait() == 0, errors.decode()
            await self.reading

    @property
    def events(self) -> list[dict]:
        return [line for line in self.lines if "action" in line]

    def seen(self) -> list[tuple[str, str, str]]:
        return [(e["action"], e["data"]["device_id"], _name(e)) for e in self.events]


def _name(event: dict) -> str:
    return event["data"].get("notification") or event["data"]["command"]


class Scene:
    """Two devices in two networks, and somebody who sends."""

    def __init__(self, suite: Suite, session: Session, network: int, other: int) -> None:
        self.session = session
        run = f"{suite.engines}-{next(RUNS)}"
        self.devices = {f"pypi-{run}-a": network, f"pypi-{run}-b": other}
        self.networks = (network, other)
        self.sent: list[tuple[str, str, str, int]] = []

    async def prepare(self) -> None:
        for device, network in self.devices.items():
            saved = {"name": device, "networkId": network}
            await self.session.ask({"action": "device/save", "deviceId": device, "device": saved})

    async def notify(self, device: str, name: str) -> None:
        note = {"notification": name, "parameters": {"of": device, "ü": [1, None]}}
        answer = await self.session.ask({"action": "notification/insert", "deviceId": device, "notification": note})
        self.sent.append(("notification/insert", device, name, answer["notification"]["id"]))

    async def command(self, device: str, name: str, update: bool) -> None:
        sent = {"command": name, "parameters": {"of": device}, "lifetime": 60}
        answer = await self.session.ask({"action": "command/insert", "deviceId": device, "command": sent})
        number = answer["command"]["id"]
        self.sent.append(("command/insert", device, name, number))
        if update:
            done = {"status": "done", "result": {"of": name}}
            request = {"action": "command/update", "deviceId": device, "commandId": number, "command": done}
            await self.session.ask(request)
            self.sent.append(("command/update", device, name, number))

    async def everything(self) -> None:
        for device in self.devices:
            for name in ("temperature", "humidity", "noise"):
                await self.notify(device, name)
            for name in ("open", "close"):
                await self.command(device, name, update=name == "close")


Wanted = Callable[[str, str, str], bool]


async def test_each_plugin_gets_exactly_what_it_asked_for(suite):
    """Registered at both edges, with every kind of credentials the library knows."""
    session = await Session.open(suite.ws, suite.token())
    network = call("POST", f"{suite.rest}/network", {"name": f"pypi {suite.engines} {time.time()}"}, suite.token())[
        "id"
    ]
    scene = Scene(suite, session, 1, network)
    await scene.prepare()
    first, second = scene.devices
    wanted: list[tuple[str, str, Wanted]] = [
        (
            suite.rest,
            f"returnNotifications=true&deviceId={first}&names=temperature,humidity",
            lambda kind, device, name: kind == "notification/insert" and device == first and name != "noise",
        ),
        (
            suite.plugin_manager,
            f"returnCommands=true&networkIds={network}",
            lambda kind, device, name: kind == "command/insert" and device == second,
        ),
        (
            suite.rest,
            f"returnUpdatedCommands=true&returnCommands=false&networkIds=1,{network}&names=close,noise",
            lambda kind, device, name: kind == "command/update",
        ),
        (suite.plugin_manager, f"networkIds={network}", lambda kind, device, name: device == second),
    ]
    plugins = [await asyncio.to_thread(register, suite, query, "pypi", rest) for rest, query, _ in wanted]
    user = {"login": suite.login, "password": suite.password, "auth_url": suite.auth}
    credentials = [
        {"plugin_access_token": plugins[0].access},
        {"plugin_refresh_token": plugins[1].refresh, "auth_url": suite.auth},
        {"access_token": suite.token(), "auth_url": suite.auth},
        user,
    ]
    processes = [Process(plugin, own) for plugin, own in zip(plugins, credentials, strict=True)]
    try:
        await asyncio.gather(*(process.start() for process in processes))
        await scene.everything()
        for process, (_, query, matches) in zip(processes, wanted, strict=True):
            expected = [(kind, device, name) for kind, device, name, _ in scene.sent if matches(kind, device, name)]
            await process.has(len(expected))
            for device in scene.devices:
                got = [one for one in process.seen() if one[1] == device]
                assert got == [one for one in expected if one[1] == device], query
            # And no more than that was ever in its stream.
            assert await read_up(suite, process.plugin.topic) == len(expected) == len(process.events), query
            await process.end()
        _check_fields(processes, scene)
    finally:
        for process in processes:
            await process.kill()
        for plugin in plugins:
            delete(suite, plugin.topic)
        await session.close()


def _check_fields(processes: list[Process], scene: Scene) -> None:
    numbers = {(kind, device, name): number for kind, device, name, number in scene.sent}
    for process in processes:
        for event in process.events:
            data, raw = event["data"], event["raw"]
            assert data["id"] == numbers[event["action"], data["device_id"], _name(event)]
            inside = raw.get("notification") or raw["command"]
            assert inside["networkId"] == scene.devices[data["device_id"]]
            assert inside["deviceTypeId"] == 1
            assert data["parameters"]["of"] == data["device_id"]
            if event["action"] != "notification/insert":
                updated = event["action"] == "command/update"
                assert (inside["isUpdated"], data["lifetime"], data["user_id"]) == (updated, 60, 1)
                assert (data["status"], data["result"]) == (("done", {"of": _name(event)}) if updated else (None, None))
