"""The connection part, against a scripted server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

import scripted
from scripted import TOPIC, command, notification
from skep_plugin import Command, Gap, Handler, Notification, Plugin, Settings, Unusable, connection

ROOT = Path(__file__).parent.parent
Message = Notification | Command


class Collector(Handler):
    """hold: device -> event its callbacks wait for. fail: how many callbacks raise first."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[tuple[str, Message | Gap]] = asyncio.Queue()
        self.began: list[int] = []
        self.some_began = asyncio.Event()
        self.failed = asyncio.Event()
        self.hold: dict[str, asyncio.Event] = {}
        self.fail = 0

    async def on_notification(self, notification: Notification) -> None:
        await self._take("notification", notification)

    async def on_command(self, command: Command) -> None:
        await self._take("command", command)

    async def on_command_update(self, command: Command) -> None:
        await self._take("update", command)

    async def on_gap(self, gap: Gap) -> None:
        await self.seen.put(("gap", gap))

    async def _take(self, kind: str, message: Message) -> None:
        self.began.append(message.id)
        self.some_began.set()
        if self.fail:
            self.fail -= 1
            self.failed.set()
            raise RuntimeError("not today")
        if message.device_id in self.hold:
            await self.hold[message.device_id].wait()
        await self.seen.put((kind, message))

    async def next(self) -> tuple[str, Message | Gap]:
        async with asyncio.timeout(30):
            return await self.seen.get()


class World:
    """A running plugin and the scripted server it talks to."""

    def __init__(self, rest: scripted.Rest, bus: scripted.Bus, settings: Settings) -> None:
        self.rest, self.bus, self.settings = rest, bus, settings
        self.handler = Collector()
        self.plugin = Plugin(self.handler, settings)
        self.running = asyncio.create_task(self.plugin.run())

    async def stopped(self) -> None:
        async with asyncio.timeout(30):
            await self.running


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_PAUSE", 0.01)


@pytest.fixture
def rest() -> Iterator[scripted.Rest]:
    with scripted.rest() as rest:
        yield rest


@contextlib.asynccontextmanager
async def world(rest: scripted.Rest, folder: Path, extension: bool = True, **settings: object) -> AsyncIterator[World]:
    async with scripted.bus(extension) as bus:
        rest.endpoint = bus.url
        defaults = {"url": rest.url, "login": "l", "password": "p", "state": folder / "state.json"}
        it = World(rest, bus, Settings(**{**defaults, **settings}))
        try:
            yield it
        finally:
            it.plugin.stop()
            it.running.cancel()
            await asyncio.gather(it.running, return_exceptions=True)


def test_registers_once_with_its_filter_and_keeps_the_state(rest, tmp_path):
    query = (("returnNotifications", "true"), ("deviceId", "a b/ü"))

    # Another port at the second start: the endpoint is in the state file.
    async def first():
        async with world(rest, tmp_path, query=query) as it:
            await (await it.bus.peer()).let_in()

    asyncio.run(first())
    assert rest.paths() == ["/token", "/plugin", "/token/refresh"]
    path, body, authorization = rest.requests[1]
    assert parse_qsl(urlsplit(path).query) == list(query)
    assert (body["name"], authorization) == ("plugin", "Bearer user-access")
    assert rest.requests[2][1] == {"refreshToken": "plugin-refresh"}
    state = tmp_path / "state.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    rest.requests.clear()

    async def second():
        async with world(rest, tmp_path, query=query) as it:
            # The endpoint is in the file as well: the scripted server is at another one now.
            state.write_text(state.read_text().replace(endpoints[0], it.bus.url))
            await (await it.bus.peer()).let_in()

    endpoints = [rest.endpoint]
    asyncio.run(second())
    assert rest.paths() == ["/token/refresh"]


def test_takes_a_token_instead(rest, tmp_path):
    async def scenario():
        async with scripted.bus() as bus:
            settings = {"topic": TOPIC, "refresh_token": "given", "endpoint": bus.url, "login": ""}
            async with world(rest, tmp_path, **settings):
                await (await bus.peer()).let_in()

    asyncio.run(scenario())
    assert [(path, body) for path, body, _ in rest.requests] == [("/token/refresh", {"refreshToken": "given"})]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        ("/token", (401, {"message": "wrong password"}), "/token is refused with 401: wrong password"),
        ("/plugin", (403, {"message": "nothing you may see"}), "/plugin is refused with 403: nothing you may see"),
        ("/token/refresh", (401, {}), "/token/refresh is refused with 401: {}"),
    ],
)
def test_says_why_it_is_refused(rest, tmp_path, path, answer, said):
    rest.answers[path] = answer

    async def scenario():
        async with world(rest, tmp_path) as it:
            with pytest.raises(Unusable, match=said):
                await it.stopped()

    asyncio.run(scenario())


def test_another_filter_is_not_passed_over(rest, tmp_path):
    async def scenario(names):
        async with world(rest, tmp_path, query=(("names", names),)) as it:
            if names == "a":
                await (await it.bus.peer()).let_in()
            else:
                with pytest.raises(Unusable, match="filter in the environment is not the one"):
                    await it.stopped()

    asyncio.run(scenario("a"))
    asyncio.run(scenario("b"))


def test_typed_callbacks_and_confirmation(rest, tmp_path):
    async def scenario():
        async with world(rest, tmp_path) as it:
            peer = await it.bus.peer()
            await peer.let_in()
            assert peer.subscription == {"t": [TOPIC], "sg": "main", "ack": True}
            await peer.push(notification(7, parameters={"celsius": 21.5}), 0)
            await peer.push(command(8), 1)
            await peer.push(command(8, update=True), 2)
            at = datetime(2018, 5, 25, 10, 0, 0, 123000, UTC)
            expected = Notification(7, "temperature", "d1", 1, 1, at, {"celsius": 21.5})
            assert await it.handler.next() == ("notification", expected)
            assert await it.handler.next() == (
                "command", Command(8, "open", "d1", 1, 1, 1, at, None, None, None, None, None, False),
            )  # fmt: skip
            assert await it.handler.next() == (
                "update", Command(8, "open", "d1", 1, 1, 1, at, None, None, None, "done", {"ok": True}, True),
            )  # fmt: skip
            await peer.confirmed(2)

    asyncio.run(scenario())


def test_confirms_only_what_is_done_and_keeps_each_devices_order(rest, tmp_path):
    async def scenario():
        async with world(rest, tmp_path) as it:
            it.handler.hold["slow"] = asyncio.Event()
            peer = await it.bus.peer()
            await peer.let_in()
            for offset, device in enumerate(["fast", "slow", "slow", "fast"]):
                await peer.push(notification(offset, device), offset)
            assert [(await it.handler.next())[1].id for _ in range(2)] == [0, 3]
            await peer.confirmed(0)
            # 3 is done, but 1 is not; 2 has not begun, for it is of the same device.
            assert sorted(it.handler.began) == [0, 1, 3]
            it.handler.hold["slow"].set()
            assert [(await it.handler.next())[1].id for _ in range(2)] == [1, 2]
            await peer.confirmed(3)

    asyncio.run(scenario())


def test_without_the_extension_it_does_all_that_it_received(rest, tmp_path):
    async def scenario():
        async with world(rest, tmp_path, extension=False, group="") as it:
            peer = await it.bus.peer()
            await peer.let_in()
            assert peer.subscription == {"t": [TOPIC]}
            it.handler.hold["d1"] = asyncio.Event()
            await peer.push(notification(1), 0)
            await peer.push(notification(2), 1)
            await (await peer.socket.ping())
            it.plugin.stop()
            # Nothing but this comes from it.
            unsubscribe = await peer.expect("topic", "unsubscribe")
            await peer.push(notification(3), 2)
            await peer.reply(unsubscribe)
            for _ in range(2):  # It has read the reply, and gone on.
                await (await peer.socket.ping())
            it.handler.hold["d1"].set()
            await it.stopped()
            assert it.handler.began == [1, 2, 3]

    asyncio.run(scenario())


def test_pings_are_answered_with_all_that_a_server_sends_ahead_in_hand(rest, tmp_path):
    async def scenario():
        async with world(rest, tmp_path) as it:
            it.handler.hold["d1"] = asyncio.Event()
            peer = await it.bus.peer()
            await peer.let_in()
            for offset in range(1000):
                await peer.push(notification(offset, parameters=secrets.token_hex(2500)), offset)
            async with asyncio.timeout(30):
                await (await peer.socket.ping())
            it.handler.hold["d1"].set()
            await peer.confirmed(999)

    asyncio.run(scenario())


def test_what_it_cannot_read_is_passed_over_and_confirmed(rest, tmp_path):
    async def scenario():
        async with world(rest, tmp_path) as it:
            peer = await it.bus.peer()
            await peer.let_in()
            await peer.push({"a": 99}, 0)
            await peer.confirmed(0)
            await peer.push(notification(1), 1)
            assert (await it.handler.next())[1].id == 1

    asyncio.run(scenario())


def test_gaps_are_told(rest, tmp_path):
    async def scenario():
        async with world(rest, tmp_path) as it:
            peer = await it.bus.peer()
            await peer.let_in()
            gap = '{"t": "notif", "s": 1, "p": {"part": 3, "gap": [10, 25]}, "st": "x"}'
            await peer.socket.send(gap)
            assert await it.handler.next() == ("gap", Gap(3, 10, 25))

    asyncio.run(scenario())


def test_a_fresh_token_comes_before_the_old_one_ends(rest, tmp_path):
    rest.life = 5

    async def scenario():
        async with world(rest, tmp_path) as it:
            peer = await it.bus.peer()
            first = await peer.let_in()
            again = await peer.expect("plugin", "authenticate")
            assert time.time() < scripted.expiry(first) < scripted.expiry(again["p"]["token"])
            await peer.reply(again)
            await peer.push(notification(1), 0)
            await peer.confirmed(0)

    asyncio.run(scenario())


def test_reconnects_when_the_connection_is_lost_or_refused(rest, tmp_path):
    async def scenario():
        async with world(rest, tmp_path) as it:
            peer = await it.bus.peer()
            await peer.let_in()
            peer.socket.transport.abort()
            peer = await it.bus.peer()
            await peer.reply(await peer.expect("health"), {"ack": True})
            await peer.reply(await peer.expect("plugin", "authenticate"), {"m": "Plugin is disabled"}, failed=True)
            peer = await it.bus.peer()
            await peer.let_in()
            await peer.socket.close(1013)
            await (await it.bus.peer()).let_in()

    asyncio.run(scenario())
    assert rest.paths().count("/plugin") == 1


def test_waits_for_a_server_that_is_away(rest, tmp_path):
    rest.answers["/token"] = (503, {})

    async def scenario():
        async with world(rest, tmp_path) as it:
            await asyncio.to_thread(rest.asked, "/token", 2)
            del rest.answers["/token"]
            await (await it.bus.peer()).let_in()

    asyncio.run(scenario())


def test_a_failed_callback_ends_the_connection_and_is_not_confirmed(rest, tmp_path):
    async def scenario():
        async with world(rest, tmp_path) as it:
            it.handler.hold["slow"] = asyncio.Event()
            peer = await it.bus.peer()
            await peer.let_in()
            await peer.push(notification(1, "slow"), 0)
            await it.handler.some_began.wait()
            it.handler.fail = 1
            await peer.push(notification(2), 1)
            await peer.push(notification(3), 2)
            await it.handler.failed.wait()
            it.handler.hold["slow"].set()
            # What was under way is finished and confirmed; 3 is not begun.
            await peer.confirmed(0)
            await peer.socket.wait_closed()
            peer = await it.bus.peer()
            await peer.let_in()
            await peer.push(notification(2), 1)
            await peer.confirmed(1)
            assert it.handler.began == [1, 2, 2]

    asyncio.run(scenario())


def test_no_more_at_a_time_than_asked_for(rest, tmp_path):
    async def scenario():
        async with world(rest, tmp_path, parallel=2) as it:
            it.handler.hold = {"a": asyncio.Event(), "b": asyncio.Event()}
            peer = await it.bus.peer()
            await peer.let_in()
            for offset, device in enumerate("abc"):
                await peer.push(notification(offset, device), offset)
            await peer.push({"a": 99}, 0, partition=1)
            await peer.confirmed(0, partition=1)  # Everything before was received.
            assert it.handler.began == [0, 1]
            it.handler.hold["b"].set()
            assert [(await it.handler.next())[1].id for _ in range(2)] == [1, 2]
            it.handler.hold["a"].set()
            await peer.confirmed(2)

    asyncio.run(scenario())


def test_a_broken_state_file_is_not_passed_over(rest, tmp_path):
    (tmp_path / "state.json").write_text("{}")

    async def scenario():
        async with world(rest, tmp_path) as it:
            with pytest.raises(Unusable, match="can't be read"):
                await it.stopped()

    asyncio.run(scenario())


def test_stop_finishes_and_confirms_what_is_under_way(rest, tmp_path):
    async def scenario():
        async with world(rest, tmp_path) as it:
            peer = await it.bus.peer()
            await peer.let_in()
            await peer.push(notification(1), 0)
            await peer.confirmed(0)
            it.handler.hold["d1"] = asyncio.Event()
            it.handler.some_began.clear()
            await peer.push(notification(2), 1)
            await peer.push(notification(3), 2)
            await it.handler.some_began.wait()
            it.plugin.stop()
            await asyncio.sleep(0)
            it.handler.hold["d1"].set()
            # The third, which had not begun, comes again at the next start.
            await peer.confirmed(1)
            await peer.reply(await peer.expect("topic", "unsubscribe"))
            await it.stopped()
            await peer.socket.wait_closed()
            assert (peer.socket.close_code, it.handler.began) == (1000, [1, 2])

    asyncio.run(scenario())


def test_stop_while_it_waits_for_the_server(rest, tmp_path):
    async def scenario():
        async with world(rest, tmp_path) as it:
            await it.bus.peer()
            it.plugin.stop()
            await it.stopped()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"PLUGIN_RECEIVE": "everything"}, "PLUGIN_RECEIVE may name notifications, commands, updates"),
        ({"PLUGIN_PARALLEL": "many"}, "PLUGIN_PARALLEL must be a whole number"),
        ({"SKEP_PASSWORD_FILE": "/nowhere"}, "SKEP_PASSWORD_FILE can't be read"),
        ({}, "SKEP_LOGIN and SKEP_PASSWORD"),
    ],
)
def test_bad_settings_end_it_with_2(tmp_path, environment, said):
    script = "import sys; from skep_plugin import Handler, run; sys.exit(run(Handler(), 'test'))"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr


def test_sigterm_stops_it(rest, tmp_path):
    rest.answers["/token"] = (503, {})
    script = "import sys; from skep_plugin import Handler, run; sys.exit(run(Handler(), 'test'))"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SKEP_URL": rest.url}
    environment |= {"SKEP_LOGIN": "l", "SKEP_PASSWORD": "p"}
    running = subprocess.Popen([sys.executable, "-c", script], env=environment, cwd=tmp_path, stderr=subprocess.PIPE)
    with running:
        rest.asked("/token", 1)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
