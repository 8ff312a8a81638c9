"""A plugin gets what its filter and its owner's rights allow, and nothing else; what changes reaches open streams."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy import ports, process
from skep.bus import Bus, Code, Refused
from tests.system.plugin_client import topics
from tests.system.plugin_owner import COMMAND, NOTIFICATION, UPDATE, WITHIN, Owner, path
from tests.system.plugin_socket import Message, PluginSocket
from tests.system.suite import ROOT, Suite
from tests.system.test_entities import Api

pytestmark = pytest.mark.system
POLICY = 1008
DISABLED = 2


@pytest.fixture
def owner(suite: Suite) -> Iterator[Owner]:
    made = Owner(suite, suite.plugin_manager)
    yield made
    made.erase()


def stream(plugin: dict[str, str], number: int) -> str:
    return f"{plugin['topicName']}.{number}"


@asynccontextmanager
async def tool(suite: Suite) -> AsyncIterator[Bus]:
    bus = Bus([suite.bus], "tool", "tool-1", suite.secret("bus_secret"))
    await bus.start()
    try:
        yield bus
    finally:
        await bus.close()


async def gone(bus: Bus, topic: str) -> None:
    """Returns when the bus has no such topic."""
    deadline = time.monotonic() + WITHIN
    while True:
        try:
            await bus.describe(topic)
        except Refused as refusal:
            if refusal.code == Code.NO_TOPIC:
                return
            raise
        assert time.monotonic() < deadline, topic
        await asyncio.sleep(0.05)


# -- exactly what filter and rights allow


class Wish:
    """A random filter, and whether a message is within it and within its owner's rights."""

    def __init__(self, dice: random.Random, places: list[tuple[int, int, str]], networks: list[int]) -> None:
        self._own = networks

        def some(values: list[Any], chance: float = 0.5) -> list[Any] | None:
            return dice.sample(values, dice.randint(1, len(values))) if dice.random() < chance else None

        self.networks, self.types = some(networks), some(sorted({type for _, type, _ in places}))
        self.names = some(["heat", "light", "a/b"])
        self.kinds = some([NOTIFICATION, COMMAND, UPDATE])
        own = [device for network, _, device in places if network in networks]
        self.device = dice.choice(own) if dice.random() < 0.2 else None
        self._places = {device: (network, type) for network, type, device in places}

    def query(self) -> dict[str, Any]:
        lists = {"networkIds": self.networks, "deviceTypeIds": self.types, "names": self.names}
        asked: dict[str, Any] = {name: ",".join(map(str, ids)) for name, ids in lists.items() if ids is not None}
        flags = {COMMAND: "returnCommands", UPDATE: "returnUpdatedCommands", NOTIFICATION: "returnNotifications"}
        asked |= {flags[kind]: "true" for kind in self.kinds or ()}
        return asked | ({"deviceId": self.device} if self.device else {})

    def holds(self, message: Message) -> bool:
        kind, device, name = message
        network, type = self._places[device]
        if (
            network not in self._own
            or (self.kinds and kind not in self.kinds)
            or (self.names and name not in self.names)
        ):
            return False
        if self.device:
            return device == self.device
        return (not self.networks or network in self.networks) and (not self.types or type in self.types)


def sent_everywhere(owner: Owner, places: list[tuple[int, int, str]]) -> list[Message]:
    sent = []
    for _, _, device in places:
        for name in ("heat", "light", "a/b"):
            sent.append(owner.send(device, name))
        status, made = owner.admin("POST", f"device/{device}/command", {"command": "heat"})
        assert status == 201
        update = {"status": "done"}
        assert owner.admin("PUT", f"device/{device}/command/{made['id']}", update)[0] == 204  # type: ignore[index]
        sent += [(COMMAND, device, "heat"), (UPDATE, device, "heat")]
    return sent


async def test_random_plugins_get_exactly_what_they_may(owner: Owner):
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    networks = [*owner.networks, owner.foreign]
    places = [(network, type, owner.device(network, type)) for network in networks for type in (1, 2)]
    wishes = [Wish(dice, places, owner.networks) for _ in range(10)]
    plugins = [owner.register(**wish.query()) for wish in wishes]
    sent = await asyncio.to_thread(sent_everywhere, owner, places)
    for wish, plugin in zip(wishes, plugins, strict=True):
        expected = sorted(message for message in sent if wish.holds(message))
        async with owner.connected(plugin) as socket:
            await socket.until(lambda socket=socket, expected=expected: len(socket.pushed) >= len(expected))
            await owner.becomes(plugin, lag=0)
            assert sorted(socket.pushed) == expected, (seed, wish.query())


# -- the owner's rights


@asynccontextmanager
async def watched(owner: Owner, **query: Any) -> AsyncIterator[tuple[dict[str, str], PluginSocket, str, str]]:
    """An open socket, and a device in each of the owner's networks: what is sent there arrives."""
    first, second = (owner.device(network) for network in owner.networks)
    plugin = owner.register(**query)
    async with owner.connected(plugin) as socket:
        for device in (first, second):
            message = await asyncio.to_thread(owner.send, device, "before")
            await socket.until(lambda message=message: message in socket.pushed)
        yield plugin, socket, first, second


async def stops(owner: Owner, socket: PluginSocket, here: str, there: str) -> None:
    """Within 5 s what is sent there stops to arrive, and what is sent here goes on."""
    began = time.monotonic()
    number = 0
    while True:
        number += 1
        foreign = await asyncio.to_thread(owner.send, there, f"there {number}")
        own = await asyncio.to_thread(owner.send, here, f"here {number}")
        await socket.until(lambda own=own: own in socket.pushed)
        if foreign not in socket.pushed:
            break
        assert time.monotonic() < began + WITHIN
    for number in range(5):
        await asyncio.to_thread(owner.send, there, f"late {number}")
    last = await asyncio.to_thread(owner.send, here, "last")
    await socket.until(lambda: last in socket.pushed)
    assert not [message for message in socket.pushed if message[2].startswith("late")]


async def arrives(owner: Owner, socket: PluginSocket, device: str) -> None:
    """Within 5 s what is sent there arrives."""
    deadline = time.monotonic() + WITHIN
    sent: list[Message] = []
    while not any(message in socket.pushed for message in sent):
        assert time.monotonic() < deadline
        sent.append(await asyncio.to_thread(owner.send, device, f"again {len(sent)}"))
        await asyncio.sleep(0.05)


async def test_a_network_that_is_taken_away_and_given_back(owner: Owner):
    async with watched(owner) as (_, socket, first, second):
        owner.let(owner.networks[1], False)
        await stops(owner, socket, first, second)
        owner.let(owner.networks[1])
        await arrives(owner, socket, second)


async def test_a_network_that_is_deleted_leaves_the_filter(owner: Owner):
    first, second = owner.networks
    plugin = owner.register(networkIds=f"{first},{second}")
    admins = owner.everything("POST", path(networkIds=f"{first},{second}"), {"name": "admins"})[1]
    assert owner.admin("DELETE", f"network/{second}?force=true")[0] == 204
    await owner.becomes(plugin, filter=f"*/{first}/*/*/*")
    await owner.becomes(admins, filter=f"*/{first}/*/*/*")  # type: ignore[arg-type]
    assert owner.everything("DELETE", path(topicName=admins["topicName"]))[0] == 204  # type: ignore[index]


async def test_device_types_that_are_taken_away(owner: Owner):
    network = owner.networks[0]
    one, two = owner.device(network, 1), owner.device(network, 2)
    plugin = owner.register()
    async with owner.connected(plugin) as socket:
        await arrives(owner, socket, two)
        assert owner.admin("DELETE", f"user/{owner.id}/devicetype/all")[0] == 204
        assert owner.admin("PUT", f"user/{owner.id}/devicetype/1")[0] == 204
        await arrives(owner, socket, one)
        await stops(owner, socket, one, two)
        assert owner.admin("PUT", f"user/{owner.id}/devicetype/all")[0] == 204
        await arrives(owner, socket, two)


async def test_an_administrator_who_becomes_a_client(suite: Suite, owner: Owner):
    theirs = owner.device(owner.foreign)
    assert owner.admin("PUT", f"user/{owner.id}", {"role": 0})[0] == 204
    own = owner.device(owner.networks[0])
    plugin = owner.register()
    async with owner.connected(plugin) as socket:
        await arrives(owner, socket, theirs)
        assert owner.admin("PUT", f"user/{owner.id}", {"role": 1})[0] == 204
        await stops(owner, socket, own, theirs)


async def test_what_waited_is_deleted_with_the_right_to_see_it(suite: Suite, owner: Owner):
    first, second = (owner.device(network) for network in owner.networks)
    plugin = owner.register()
    async with tool(suite) as bus:
        for device in (first, second):
            await asyncio.to_thread(owner.send, device, "waits")
        assert (await owner.becomes(plugin, lag=2))["positions"] == []
        owner.let(owner.networks[1], False)
        await gone(bus, stream(plugin, 1))
        owner.let(owner.networks[1])
        after = await asyncio.to_thread(owner.send, first, "after")
        async with owner.connected(plugin, "g") as socket:
            await socket.until(lambda: bool(socket.pushed))
            await owner.becomes(plugin, lag=0)
            assert socket.pushed == [after]


@pytest.mark.parametrize("end", ["disabled", "deleted"])
async def test_an_owner_who_ends(owner: Owner, end: str):
    async with watched(owner) as (plugin, socket, first, _):
        if end == "disabled":
            assert owner.admin("PUT", f"user/{owner.id}", {"status": DISABLED})[0] == 204
        else:
            assert owner.admin("DELETE", f"user/{owner.id}")[0] == 204
        assert await socket.ends(WITHIN) == (POLICY, "The plugin's owner is locked or disabled")
        await asyncio.to_thread(owner.send, first, "unseen")
        with pytest.raises(AssertionError, match="locked or disabled"):
            async with owner.connected(plugin):
                pass
        assert Api(owner.api.rest, plugin["accessToken"])("GET", "plugin")[0] == 401
        if end == "disabled":
            assert owner.admin("PUT", f"user/{owner.id}", {"status": 0})[0] == 204
            await owner.becomes(plugin, lag=0)
            async with owner.connected(plugin) as again:
                await arrives(owner, again, first)
                assert not [message for message in again.pushed if message[2] == "unseen"]


# -- the plugin itself


async def test_a_plugin_that_is_disabled_and_enabled(owner: Owner):
    device = owner.device(owner.networks[0])
    plugin = owner.register()
    topic = plugin["topicName"]
    before = await asyncio.to_thread(owner.send, device, "before")
    async with owner.connected(plugin) as socket:
        await socket.until(lambda: before in socket.pushed)
    waiting = await asyncio.to_thread(owner.send, device, "waits")
    async with owner.connected(plugin) as socket:
        await socket.until(lambda: waiting in socket.pushed)
        assert owner.api("PUT", path(topicName=topic, status="INACTIVE")) == (204, None)
        assert await socket.ends(WITHIN) == (POLICY, "Plugin is disabled")
    await asyncio.to_thread(owner.send, device, "unseen")
    with pytest.raises(AssertionError, match="Plugin is disabled"):
        async with owner.connected(plugin):
            pass
    assert owner.api("PUT", path(topicName=topic, status="ACTIVE")) == (204, None)
    after = await asyncio.to_thread(owner.send, device, "after")
    async with owner.connected(plugin) as socket:
        await socket.until(lambda: after in socket.pushed)
        assert socket.pushed == [after]


async def test_a_plugin_that_is_deleted_leaves_nothing(suite: Suite, owner: Owner):
    async with tool(suite) as bus, watched(owner) as (plugin, socket, first, _):
        assert owner.api("DELETE", path(topicName=plugin["topicName"])) == (204, None)
        assert await socket.ends(WITHIN) == (POLICY, "Plugin is not found")
        await gone(bus, stream(plugin, 1))
        await asyncio.to_thread(owner.send, first, "for nobody")
        assert owner.api("GET", path(topicName=plugin["topicName"])) == (200, [])


async def test_a_filter_that_is_narrowed_takes_effect_before_the_answer(owner: Owner):
    one, two = (owner.device(network) for network in owner.networks)
    plugin = owner.register()
    topic = plugin["topicName"]
    await asyncio.to_thread(owner.send, two, "old")
    assert owner.api("PUT", path(topicName=topic, networkIds=owner.networks[0])) == (204, None)
    await asyncio.to_thread(owner.send, two, "unseen")
    seen = await asyncio.to_thread(owner.send, one, "seen")
    everything = {"returnNotifications": "true", "returnCommands": "true", "returnUpdatedCommands": "true"}
    assert owner.api("PUT", path(topicName=topic, **everything)) == (204, None)
    both = await asyncio.to_thread(owner.send, two, "both")
    async with owner.connected(plugin) as socket:
        await socket.until(lambda: {seen, both} <= set(socket.pushed))
        await owner.becomes(plugin, lag=0)
        assert sorted(socket.pushed) == sorted([seen, both])


# -- sockets as they are


async def test_status_and_sockets_are_those_that_are_open(suite: Suite, owner: Owner):
    device = owner.device(owner.networks[0])
    plugin = owner.register()
    for number in range(3):
        await asyncio.to_thread(owner.send, device, f"m{number}")
    assert (await owner.becomes(plugin, lag=3))["lastContact"] is None
    async with owner.connected(plugin, "shared") as one, owner.connected(plugin) as two:
        await one.until(lambda: len(one.pushed) == 3)
        shown = await owner.becomes(plugin, status="ACTIVE", lag=0)
        assert [(s["address"], s["group"]) for s in shown["sockets"]] == [("127.0.0.1", "shared"), ("127.0.0.1", "-0")]
        assert {group["group"]: group["lag"] for group in shown["positions"]}["shared"] == 0
        assert shown["lastContact"] is not None
        assert two.pushed == []
        await one.close()
        assert [s["group"] for s in (await owner.becomes(plugin, status="ACTIVE"))["sockets"]] in (
            [["-0"], ["shared", "-0"]]
        )
    shown = await owner.becomes(plugin, status="INACTIVE", sockets=[])
    await asyncio.to_thread(owner.send, device, "later")
    assert (await owner.becomes(plugin, lag=1))["lastContact"] == shown["lastContact"]


async def test_a_plugins_status_is_true_after_its_proxy_was_killed(suite: Suite, owner: Owner):
    plugin = owner.register()
    async with owner.connected(plugin):
        await owner.becomes(plugin, status="ACTIVE")
        await suite.kill("proxy-plugins")
        shown = await owner.becomes(plugin, seconds=10, status="INACTIVE", sockets=[])
        assert shown["enabled"]


async def test_a_plugin_manager_that_was_killed_comes_back_to_what_happened(suite: Suite, owner: Owner):
    """Sockets stay, and rights that shrank while nobody followed are followed."""
    async with watched(owner) as (plugin, socket, first, second):
        old = suite.pid("plugin-manager")
        suite.pause("plugin-manager")
        owner.let(owner.networks[1], False)
        os.kill(old, 9)
        await suite.back("plugin-manager", old)
        await stops(owner, socket, first, second)
        assert (await owner.becomes(plugin, status="ACTIVE"))["sockets"] != []
        assert socket.closed is None


# -- two plugin_managers


@pytest.fixture
async def second(suite: Suite, tmp_path: Path) -> AsyncIterator[str]:
    """Another plugin_manager beside the suite's; its REST."""
    own = Path(f"/proc/{suite.pid('plugin-manager')}/environ").read_text()
    environment = dict(item.split("=", 1) for item in own.split("\0") if item)
    port, ready = ports.free(1)[0], tmp_path / "ready"
    environment |= {"PLUGIN_MANAGER_PORT": str(port), "INSTANCE": "plugin-manager-2", "READY_FILE": str(ready)}
    command = [sys.executable, "-m", "plugin_manager"]
    spec = process.Spec("plugin-manager-2", command, lambda: environment, ready.exists, folder=str(ROOT))
    with (tmp_path / "log").open("wb") as log:
        started = process.spawn(spec, log.fileno())
    try:
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert started.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}/plugin/rest"
    finally:
        started.terminate()
        code = await asyncio.to_thread(started.wait, 10)
    assert code == 0, (tmp_path / "log").read_text()


async def test_two_plugin_managers_follow_an_owner_as_one(suite: Suite, owner: Owner, second: str):
    other = Api(second, owner.api.token)
    async with watched(owner) as (plugin, socket, one, two):
        for _ in range(3):
            owner.let(owner.networks[1], False)
            await stops(owner, socket, one, two)
            owner.let(owner.networks[1])
            await arrives(owner, socket, two)
        # Each of them was told; one of them did it, and what the other had made for it is gone again.
        deadline = time.monotonic() + 10
        while len(left := [name for name in await topics(suite) if name.startswith(plugin["topicName"])]) > 1:
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.1)
        assert other("PUT", path(topicName=plugin["topicName"], name="by-second"))[0] == 204
        assert owner.shown(plugin)["name"] == "by-second"
        assert len(owner.shown(plugin)["sockets"]) == 1


async def test_one_of_two_plugin_managers_is_enough(suite: Suite, owner: Owner, second: str):
    async with watched(owner) as (plugin, socket, one, two), suite.paused("plugin-manager"):
        owner.let(owner.networks[1], False)
        await stops(owner, socket, one, two)
        status, found = Api(second, owner.api.token)("GET", path(topicName=plugin["topicName"]))
        assert (status, [one["status"] for one in found]) == (200, ["ACTIVE"])  # type: ignore[attr-defined]
