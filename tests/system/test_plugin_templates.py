"""The plugin templates as their authors run them: in their own environments, against a whole suite.

`tests/system/plugin_author.py` builds and runs them; `clients/collectors` are plugins on them that show every callback.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psycopg
import pytest

from tests.system.plugin_author import TEMPLATES, WITHIN, Builds, Copy, Template
from tests.system.traffic import Session, call

pytestmark = pytest.mark.system
NAMES = ["python", "node", "java"]
SECRET = "sixteen characters at least"


@pytest.fixture(scope="session")
def builds() -> Builds:
    return Builds()


@pytest.fixture(scope="session")
def templates(builds: Builds) -> dict[str, Template]:
    return {name: builds.made(name) for name in NAMES}


class World:
    """Two devices in a network of their own, and the plugins of a test."""

    def __init__(self, suite: Any, folder: Path) -> None:
        self.suite, self.folder = suite, folder
        self.network = self.rest("POST", "network", {"name": f"templates-{uuid.uuid4()}"})["id"]
        self.device, self.other = (
            self.make_device(f"template-{kind}-{uuid.uuid4().hex[:12]}") for kind in ("own", "other")
        )
        self.copies: list[Copy] = []

    def rest(self, method: str, path: str, body: object = None) -> Any:
        return call(method, f"{self.suite.rest}/{path}", body, self.suite.token())

    def make_device(self, id: str) -> str:
        self.rest("PUT", f"device/{id}", {"name": id, "networkId": self.network})
        return id

    def notify(self, name: str, parameters: object = None, device: str = "") -> int:
        body = {"notification": name, "parameters": parameters or {}}
        return self.rest("POST", f"device/{device or self.device}/notification", body)["id"]

    def order(self, name: str, device: str = "") -> int:
        return self.rest("POST", f"device/{device or self.device}/command", {"command": name})["id"]

    def update(self, id: int, device: str = "") -> None:
        self.rest("PUT", f"device/{device or self.device}/command/{id}", {"status": "done"})

    def copy(self, template: Template, **settings: str) -> Copy:
        """Settings on top of `PLUGIN_DEVICE_ID`, the test's device."""
        copy = Copy(self.suite, template, self.folder, **{"PLUGIN_DEVICE_ID": self.device, **settings})
        self.copies.append(copy)
        return copy

    async def end(self) -> None:
        for copy in self.copies:
            await copy.stop(signal.SIGKILL)
        for topic in {copy.topic for copy in self.copies if copy.state.exists()}:
            await asyncio.to_thread(self.rest, "DELETE", f"plugin?topicName={topic}")


@pytest.fixture
async def world(suite: Any, tmp_path: Path) -> AsyncIterator[World]:
    world = await asyncio.to_thread(World, suite, tmp_path)
    yield world
    await world.end()


# -- the templates' own tests ------------------------------------------------------------------------------------------


def run_tests(command: list[str], template: str, **environment: str) -> None:
    folder = TEMPLATES / template
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]


def test_own_tests_of_python(builds, postgres_url):
    [interpreter, *_] = builds.made("python").useful
    run_tests([interpreter, "-m", "pytest", "-q"], "python", TEST_DATABASE_URL=postgres_url)


def test_own_tests_of_node(builds):
    builds.made("node")
    run_tests(["npm", "test"], "node")


def test_own_tests_of_java(builds):
    builds.made("java")
    reports = [ElementTree.parse(path).getroot() for path in (TEMPLATES / "java").glob("target/surefire-reports/*.xml")]
    assert sum(int(report.get("tests", 0)) for report in reports) >= 30
    assert {(report.get("failures"), report.get("errors"), report.get("skipped")) for report in reports} == {("0",) * 3}


# -- the part that authors copy ----------------------------------------------------------------------------------------


async def test_each_gets_exactly_what_it_asked_for(world, templates):
    narrow = {"PLUGIN_RECEIVE": "notifications,updates", "PLUGIN_NAMES": "temperature,valve"}
    wide = {"PLUGIN_RECEIVE": "commands", "PLUGIN_DEVICE_ID": "", "PLUGIN_NETWORK_IDS": str(world.network)}
    copies: dict[str, list[Copy]] = {"narrow": [], "wide": []}
    for kind, settings in (("narrow", narrow), ("wide", wide)):
        for template in templates.values():
            state = str(world.folder / f"{template.name}-{kind}.json")
            copies[kind].append(world.copy(template, PLUGIN_STATE=state, **settings))
    starts = (copy.start(templates[copy.name].collector) for copy in world.copies)
    await asyncio.gather(*starts)
    sent = await asyncio.to_thread(everything, world)
    await asyncio.gather(*(copy.received(len(sent[kind])) for kind in copies for copy in copies[kind]))
    assert await asyncio.gather(*(copy.stop() for copy in world.copies)) == [0] * len(world.copies)
    for kind, group in copies.items():
        for copy in group:
            assert sorted(copy.lines) == sorted(sent[kind]), copy.name


def everything(world: World) -> dict[str, list[list[Any]]]:
    """Send every kind, name and device, the foreign ones first; what of it each kind of plugin must get."""
    sent: dict[str, list[list[Any]]] = {"narrow": [], "wide": []}
    stranger = f"template-stranger-{uuid.uuid4().hex[:12]}"
    world.rest("PUT", f"device/{stranger}", {"name": stranger, "networkId": 1})
    for device in (stranger, world.other, world.device):
        for name in ("humidity", "valve", "temperature"):
            command = world.order(name, device)
            notification = world.notify(name, device=device)
            world.update(command, device)
            if device != stranger:
                sent["wide"].append(["command", device, name, command])
            if device == world.device and name != "humidity":
                sent["narrow"].append(["notification", device, name, notification])
                sent["narrow"].append(["update", device, name, command])
    world.rest("DELETE", f"device/{stranger}")
    return sent


@pytest.mark.parametrize("name", NAMES)
async def test_confirmed_when_done_and_nothing_lost_by_a_restart(world, templates, name):
    template = templates[name]
    settings = {"PLUGIN_DEVICE_ID": "", "PLUGIN_NETWORK_IDS": str(world.network)}
    first = world.copy(template, HOLD="hold", **settings)
    await first.start(template.collector)
    ids = [world.notify("a"), world.notify("b")]
    await first.received(2)
    await first.confirmed(world.suite)
    ids.append(world.notify("hold"))
    await first.received(3)
    # Time enough for a confirmation that would come too early.
    for number in range(10):
        world.notify("meanwhile", device=world.other)
        await first.received(4 + number)
    # It dies with a message under way, which is not confirmed: it comes again, and what came meanwhile behind it.
    await first.stop(signal.SIGKILL)
    ids += [world.notify("while away"), world.notify("while away")]
    second = world.copy(template, **settings)
    await second.start(template.collector)
    await second.until(lambda: len(received(world, second)) == 3, "three messages")
    await second.confirmed(world.suite)
    # What is confirmed does not come again.
    assert await second.stop() == 0
    ids.append(world.notify("last"))
    third = world.copy(template, **settings)
    await third.start(template.collector)
    await third.received(1)
    await third.confirmed(world.suite)
    assert [received(world, copy) for copy in (first, second, third)] == [ids[:3], ids[2:5], ids[5:]]
    assert len(third.lines) == 1
    assert "registered as" in first.log
    assert "registered as" not in second.log + third.log


def received(world: World, copy: Copy) -> list[int]:
    """The ids of its messages from the test's own device."""
    return [id for _, device, _, id in copy.lines if device == world.device]


@pytest.mark.parametrize("suite", ["light"], indirect=True)
async def test_a_fresh_token_keeps_the_socket_open(world, templates):
    life = 5
    await world.suite.restart("auth", ACCESS_TOKEN_LIFE=str(life))
    try:
        copies = [world.copy(template) for template in templates.values()]
        await asyncio.gather(*(copy.start(templates[copy.name].collector) for copy in copies))
        opened = time.monotonic()
        before = await asyncio.gather(*(copy.confirmed(world.suite) for copy in copies))
        # No event tells that a token has expired and nothing has happened: the proxy looks once a second.
        await asyncio.sleep(opened + life + 2 - time.monotonic())
        await asyncio.to_thread(world.notify, "later")
        await asyncio.gather(*(copy.received(1) for copy in copies))
        after = await asyncio.gather(*(copy.confirmed(world.suite) for copy in copies))
    finally:
        await world.suite.restart("auth")
    assert [plugin["sockets"] for plugin in after] == [plugin["sockets"] for plugin in before]
    assert all(len(plugin["sockets"]) == 1 for plugin in after)


async def test_a_refused_registration_is_told_and_ends_it(world, templates):
    wrong = {"SKEP_PASSWORD": "wrong"}
    copies = [world.copy(templates["python"], **wrong), world.copy(templates["node"], **wrong)]
    copies += [world.copy(template, PLUGIN_NETWORK_IDS="999999999") for template in templates.values()]
    for copy in copies:
        await copy.begin(templates[copy.name].collector)
    for copy in copies:
        # The collector in Java leaves it to the JVM what becomes of an exception.
        assert await copy.ended() == (1 if copy.name == "java" else 2), copy.log
        assert "is refused with 40" in copy.log
        assert not copy.state.exists()


# -- what each is good for ---------------------------------------------------------------------------------------------


async def test_python_writes_to_postgres(world, templates, postgres_url):
    template = templates["python"]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS notifications")  # Of the run on the other engines.
    settings = {"DATABASE_URL": postgres_url, "PLUGIN_DEVICE_ID": "", "PLUGIN_NETWORK_IDS": str(world.network)}
    copy = world.copy(template, **settings)
    await copy.start(template.useful)
    sent = {world.notify("temperature", {"celsius": n}): n for n in range(5)}
    await copy.confirmed(world.suite)
    assert await copy.stop() == 0
    sent |= {world.notify("temperature", {"celsius": n}): n for n in range(5, 10)}
    door = world.notify("door", {"open": True}, world.other)
    copy = world.copy(template, **settings)
    await copy.start(template.useful)
    await copy.confirmed(world.suite)
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute("SELECT device_id, id, name, network_id, parameters FROM notifications").fetchall()
    expected = [(world.device, id, "temperature", world.network, {"celsius": n}) for id, n in sent.items()]
    assert sorted(rows, key=str) == sorted(
        [*expected, (world.other, door, "door", world.network, {"open": True})], key=str
    )
    shown = await asyncio.to_thread(
        subprocess.run, [*template.useful, "--counts"], env=copy.environment, capture_output=True, text=True
    )
    counts: dict[str, int] = {}
    for line in shown.stdout.splitlines()[1:]:
        _, _, name, count = line.split()
        counts[name] = counts.get(name, 0) + int(count)
    assert counts == {"temperature": 10, "door": 1}, shown.stderr


class Receiver:
    """A webhook's other side, which checks signatures. posts: (key, body) that were signed rightly and taken."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.refused = 0
        self.failing = False
        self.change = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(receiver.take(self.headers, body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def take(self, headers: Any, body: bytes) -> int:
        """The status."""
        found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", headers["X-Signature"])
        assert found is not None
        mac = hmac.new(SECRET.encode(), found[1].encode() + b"." + body, hashlib.sha256).hexdigest()
        with self.change:
            right = hmac.compare_digest(mac, found[2]) and abs(time.time() - int(found[1])) < 60
            if self.failing or not right:
                self.refused += 1
            else:
                self.posts.append((headers["X-Message-Key"], json.loads(body)))
            self.change.notify_all()
            return 503 if self.failing else 204 if right else 401

    def wait(self, true: Any) -> None:
        with self.change:
            assert self.change.wait_for(true, WITHIN), (self.posts, self.refused)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=[0.01])
    thread.start()
    yield receiver
    receiver.server.shutdown()
    thread.join()
    receiver.server.server_close()


async def test_node_posts_to_a_webhook_that_fails_for_a_while(world, templates, receiver):
    template = templates["node"]
    settings = {"WEBHOOK_URL": receiver.url, "WEBHOOK_SECRET": SECRET, "WEBHOOK_ATTEMPTS": "2"}
    copy = world.copy(template, PLUGIN_RECEIVE="notifications,commands,updates", **settings)
    await copy.start(template.useful)
    notification, command = world.notify("temperature", {"celsius": 21.5}), world.order("open")
    world.update(command)
    await asyncio.to_thread(receiver.wait, lambda: len(receiver.posts) == 3)
    receiver.failing = True
    later = [world.notify("later", {"number": number}) for number in range(3)]
    # Twice two attempts: it has come back once without having confirmed anything.
    await asyncio.to_thread(receiver.wait, lambda: receiver.refused >= 4)
    receiver.failing = False
    await asyncio.to_thread(receiver.wait, lambda: len(receiver.posts) >= 6)
    await copy.confirmed(world.suite)
    assert await copy.stop() == 0
    device = world.device
    keys = [key for key, _ in receiver.posts]
    assert keys[:2] == [f"notification/{device}/{notification}", f"command/{device}/{command}"]
    assert keys[2].startswith(f"update/{device}/{command}/")
    assert keys[3:] == [f"notification/{device}/{id}" for id in later]
    first = receiver.posts[0][1]
    assert abs(time.time() - time.mktime(time.strptime(first.pop("timestamp"), "%Y-%m-%dT%H:%M:%S.%fZ"))) < 24 * 3600
    assert first == {
        "kind": "notification", "id": notification, "name": "temperature", "deviceId": device,
        "networkId": world.network, "deviceTypeId": 1, "parameters": {"celsius": 21.5},
    }  # fmt: skip
    assert "2 times" in copy.log


async def test_java_raises_a_command_for_each_crossing(world, templates):
    template = templates["java"]
    commands: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    session = await Session.open(world.suite.ws, world.suite.token(), lambda it: commands.put_nowait(it["command"]))
    await session.ask({"action": "command/subscribe", "deviceId": world.device})
    rule = {"RULE_NOTIFICATION": "temperature", "RULE_FIELD": "celsius", "RULE_ABOVE": "30", "RULE_HYSTERESIS": "1"}
    settings = {**rule, "RULE_COMMAND": "cool"}
    raised: list[int] = []
    async with contextlib.AsyncExitStack() as ends:
        ends.push_async_callback(session.close)
        for values in ([29, 31, 29.5, 32], [33, 28, 30.5]):
            copy = world.copy(template, **settings)
            await copy.start(template.useful)
            ids = [world.notify("temperature", {"celsius": value}) for value in values]
            # The second start finds the device beyond the limit already: only its third value crosses it.
            cause = ids[1] if values[0] == 29 else ids[2]
            async with asyncio.timeout(WITHIN):
                command = await commands.get()
            assert command["command"] == "cool"
            assert command["parameters"]["notificationId"] == cause
            raised.append(command["id"])
            world.update(command["id"])
            await copy.logged(f"{world.device} answers cool {command['id']}: done")
            await copy.confirmed(world.suite)
            assert await copy.stop() == 0
        listed = world.rest("GET", f"device/{world.device}/command")
    assert sorted(command["id"] for command in listed) == sorted(raised)
