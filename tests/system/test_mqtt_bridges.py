"""Two bridges behind one broker: one of them takes what devices publish, both send out, and either may go.

In `make test` with Mosquitto. With the others by hand: `MQTT_BRIDGES_BROKER=rabbitmq .venv/bin/pytest …` (or amqtt).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.system.mqtt import MOSQUITTO, RABBITMQ, Site, World
from tests.system.mqtt_client import WAIT
from tests.system.test_mqtt_faults import Flow, flowing

pytestmark = pytest.mark.system

BROKER = os.environ.get("MQTT_BRIDGES_BROKER", MOSQUITTO)
BRIDGES = "mqtt-bridge", "mqtt-bridge-2"
SESSION = "skep-bridge"
TAKEOVER_SECONDS = 10.0


@pytest.fixture(scope="module")
def two() -> Iterator[World]:
    site = Site(BROKER, MQTT_BRIDGES="2")
    site.start()
    try:
        yield World(site)
    finally:
        site.stop()


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


async def taking(world: World, flow: Flow, deadline: float) -> None:
    """Returns when packets are taken that came since."""
    before = await asyncio.to_thread(world.packets)
    await within(deadline, lambda: world.packets() > before, "nobody takes what comes")
    await flow.further(100)


async def test_another_takes_over(two: World) -> None:
    async with flowing(two) as flow:
        await flow.further(100)
        # Killed: nobody but the kernel says good-bye.
        before = await asyncio.to_thread(two.leader)
        os.kill(two.suite.pid(two.process(before)), signal.SIGKILL)
        await taking(two, flow, await taken_over(two, before))
        # Paused: it wakes up and believes itself to be what it was.
        if BROKER != RABBITMQ:  # it asks the hooks about bridges, too, and half of its questions hang
            before = await asyncio.to_thread(two.leader)
            async with two.suite.paused(two.process(before)):
                await taking(two, flow, await taken_over(two, before))
            await flow.further(100)
        verdict, reading = await flow.judged()
    print(verdict.summary(), reading.summary())
    assert verdict.findings() == {}, verdict.summary()
    assert reading.findings() == {}, reading.summary()


@contextlib.asynccontextmanager
async def sharing(world: World, sessions: int) -> AsyncIterator[None]:
    """Both bridges with so many sessions."""
    if sessions == 1:
        yield
        return
    await asyncio.gather(*(world.suite.restart(name, MQTT_INBOUND_SESSIONS=str(sessions)) for name in BRIDGES))
    try:
        yield
    finally:
        await asyncio.gather(*map(world.suite.restart, BRIDGES))


@pytest.mark.parametrize("sessions", [1, 2])
async def test_packets_keep_their_ids_across_bridges(two: World, sessions: int) -> None:
    """A bridge is killed with packets that the backend has before it, and another goes on with its session."""
    if sessions > 1 and BROKER != MOSQUITTO:
        pytest.skip("$share is MQTT 5's")
    device, mark = two.mine.device, uuid.uuid4().hex[:8]
    session = SESSION if sessions == 1 else f"{SESSION}-{sessions}"
    with two.client(f"s-{mark}") as sender:
        async with sharing(two, sessions):
            await within(time.monotonic() + WAIT, lambda: two.leader(session) != "", "nobody has the session")
            await asks(two, f"a-{mark}")
            async with two.suite.paused("backend"):
                before = two.packets()
                for n in range(40):
                    sender.publish(f"dh/insert/notification/{device}/{mark}", {"n": n}).wait_for_publish(WAIT)
                await within(time.monotonic() + WAIT, lambda: two.packets() >= before + 40, "the bridges have not all")
                leader = two.leader(session)
                os.kill(two.suite.pid(two.process(leader)), signal.SIGKILL)
                await taken_over(two, leader, session)
            query = f"device/{device}/notification?notification={mark}&sortField=timestamp&sortOrder=ASC&take=100"
            found: list[int] = []

            def is_stored() -> bool:
                found[:] = [row["parameters"]["n"] for row in two.admin("GET", query)[1]]  # type: ignore[attr-defined]
                return len(set(found)) == 40

            await within(time.monotonic() + WAIT, is_stored, f"stored: {found}")
            await asks(two, f"b-{mark}")
    await asks(two, f"c-{mark}")
    assert is_stored()
    assert len(found) == 40
    if sessions == 1:
        assert found == sorted(found)


async def asks(world: World, client_id: str) -> None:
    """Whoever serves it now, the answers come, and each once."""
    with world.client(client_id) as client:
        assert client.subscribe(f"dh/response/device/get@{client_id}") == 1
        for number in range(4):
            request = {"action": "device/get", "deviceId": world.mine.device, "requestId": str(number)}
            answer = await asyncio.to_thread(lambda request=request: client.ask(client_id, **request))  # type: ignore[misc]
            assert (answer["status"], answer["requestId"]) == ("success", str(number))
        assert client.so_far() == []
