"""Two bridges behind one broker: one of them takes what devices publish, both send out, and either may go.

In `make test` with Mosquitto. With the others by hand: `MQTT_BRIDGES_BROKER=rabbitmq .venv/bin/pytest …` (or amqtt).
MQTT_BRIDGES_PAUSES=20: a pause meets a bridge in the middle of anything.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.system.mqtt import MOSQUITTO, RABBITMQ, Site, World
from tests.system.mqtt_client import WAIT
from tests.system.mqtt_flow import flowing

pytestmark = pytest.mark.system

BROKER = os.environ.get("MQTT_BRIDGES_BROKER", MOSQUITTO)
BRIDGES = "mqtt-bridge", "mqtt-bridge-2"
SESSION = "skep-bridge"
TAKEOVER_SECONDS = 10.0
PAUSES = int(os.environ.get("MQTT_BRIDGES_PAUSES", "1"))


@pytest.fixture(scope="module")
def bridges() -> Iterator[World]:
    settings = {"MQTT_INBOUND_SESSIONS": "2"} if BROKER == MOSQUITTO else {}
    site = Site(BROKER, MQTT_BRIDGES="2", **settings)
    site.start()
    try:
        yield World(site)
    finally:
        site.stop()


@pytest.fixture
def sharing(bridges: World) -> World:
    """With two sessions."""
    if BROKER != MOSQUITTO:
        pytest.skip("$share is MQTT 5's")
    return bridges


@pytest.fixture(scope="module")
def two(bridges: World) -> World:
    """With one session, of the two that there were before."""

    async def restart() -> None:
        await asyncio.gather(*(bridges.suite.restart(name, MQTT_INBOUND_SESSIONS="1") for name in BRIDGES))

    if BROKER == MOSQUITTO:
        asyncio.run(restart())
    return bridges


async def within(deadline: float, condition: Callable[[], bool], what: str) -> None:
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def taken_over(world: World, before: str, session: str = SESSION) -> float:
    """Returns when another than `before` has the session; until when it may take what comes."""
    began = time.monotonic()
    deadline = began + TAKEOVER_SECONDS
    await within(deadline, lambda: world.leader(session) != before, f"{before} has the session")
    print(f"{world.leader(session)} after {before}: {time.monotonic() - began:.1f} s")
    return deadline


async def taking(world: World, deadline: float) -> None:
    """Returns when packets are taken that came since."""
    before = await asyncio.to_thread(world.packets)
    await within(deadline, lambda: world.packets() > before, "nobody takes what comes")


async def test_packets_keep_their_ids_across_bridges_that_share(sharing: World) -> None:
    stored = await kept_across_bridges(sharing, f"{SESSION}-2")
    assert sorted(stored) == list(range(40))


async def test_packets_keep_their_ids_across_bridges(two: World) -> None:
    assert await kept_across_bridges(two, SESSION) == list(range(40))


async def kept_across_bridges(world: World, session: str) -> list[int]:
    """A bridge is killed with packets that the backend has before it, and another goes on with its session: what is
    stored of 0 to 39, in order."""
    device, mark = world.mine.device, uuid.uuid4().hex[:8]
    await within(time.monotonic() + WAIT, lambda: world.leader(session) != "", "nobody has the session")
    await asks(world, f"a-{mark}")
    with world.client(f"s-{mark}") as sender:
        async with world.suite.paused("backend"):
            before = world.packets()
            for n in range(40):
                sender.publish(f"dh/insert/notification/{device}/{mark}", {"n": n}).wait_for_publish(WAIT)
            await within(time.monotonic() + WAIT, lambda: world.packets() >= before + 40, "the bridges have not all")
            leader = world.leader(session)
            os.kill(world.suite.pid(world.process(leader)), signal.SIGKILL)
            await taken_over(world, leader, session)
    query = f"device/{device}/notification?notification={mark}&sortField=timestamp&sortOrder=ASC&take=100"

    def stored() -> list[int]:
        return [row["parameters"]["n"] for row in world.admin("GET", query)[1]]  # type: ignore[attr-defined]

    await within(time.monotonic() + WAIT, lambda: len(set(stored())) == 40, "not all are stored")
    await asks(world, f"b-{mark}")  # behind all that came again
    return stored()


async def test_another_takes_over(two: World) -> None:
    async with flowing(two) as flow:
        await flow.caught_up()
        # Killed: nobody but the kernel says good-bye.
        before = await asyncio.to_thread(two.leader)
        killed = two.suite.pid(two.process(before))
        os.kill(killed, signal.SIGKILL)
        await taking(two, await taken_over(two, before))
        await flow.caught_up()
        await two.suite.back(two.process(before), killed)
        # Paused: it wakes up and believes itself to be what it was.
        for _ in range(PAUSES):
            before = await asyncio.to_thread(two.leader)
            async with two.suite.paused(two.process(before)):
                await taking(two, await taken_over(two, before))
                if BROKER != RABBITMQ:  # half of its questions about clients hang, too
                    await flow.caught_up()
            await flow.caught_up()
        outcome = await flow.judged()
    print(outcome.summary())
    assert outcome.verdict.findings() == {}, outcome.summary()
    assert outcome.reading.findings() == {}, outcome.summary()
    assert outcome.answers.findings() == {}, outcome.summary()


async def asks(world: World, client_id: str) -> None:
    """Whoever serves it now, the answers come, and each once."""
    with world.client(client_id) as client:
        assert client.subscribe(f"dh/response/device/get@{client_id}") == 1
        for number in range(4):
            request = {"action": "device/get", "deviceId": world.mine.device, "requestId": str(number)}
            answer = await asyncio.to_thread(lambda request=request: client.ask(client_id, **request))  # type: ignore[misc]
            assert (answer["status"], answer["requestId"]) == ("success", str(number))
        assert client.so_far() == []
