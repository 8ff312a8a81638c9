"""Two bridges behind one broker: one of them takes what devices publish, both send out, and either may go.

In `make test` with Mosquitto. With the others by hand: `MQTT_BRIDGES_BROKER=rabbitmq .venv/bin/pytest …` (or amqtt).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.system.mqtt import MOSQUITTO, Site, World
from tests.system.test_mqtt_faults import Flow, flowing

pytestmark = pytest.mark.system

TAKEOVER_SECONDS = 10.0


@pytest.fixture(scope="module")
def two() -> Iterator[World]:
    site = Site(os.environ.get("MQTT_BRIDGES_BROKER", MOSQUITTO), MQTT_BRIDGES="2")
    site.start()
    try:
        yield World(site)
    finally:
        site.stop()


async def taken_over(world: World, flow: Flow, before: str) -> float:
    """Seconds until another than `before` leads and has taken packets that came since."""
    began = time.monotonic()
    while (now := await asyncio.to_thread(world.leader)) == before:
        assert time.monotonic() - began < TAKEOVER_SECONDS, f"{before} leads"
        await asyncio.sleep(0.05)
    packets = await asyncio.to_thread(world.packets)
    while await asyncio.to_thread(world.packets) == packets:
        assert time.monotonic() - began < TAKEOVER_SECONDS, f"{now} leads, and takes nothing"
        await asyncio.sleep(0.05)
    took = time.monotonic() - began
    print(f"{now} took over from {before} within {took:.1f} s")
    return took


async def test_another_takes_over(two: World) -> None:
    async with flowing(two) as flow:
        await flow.further(200)
        # Killed: nobody but the kernel says good-bye.
        before = await asyncio.to_thread(two.leader)
        os.kill(two.suite.pid(two.process(before)), signal.SIGKILL)
        await taken_over(two, flow, before)
        await flow.further(200)
        # Paused: it wakes up and believes itself to be what it was.
        before = await asyncio.to_thread(two.leader)
        async with two.suite.paused(two.process(before)):
            await taken_over(two, flow, before)
            await flow.further(200)
        await flow.further(200)
        verdict, reading = await flow.judged()
    print(verdict.summary(), reading.summary())
    assert verdict.findings() == {}, verdict.summary()
    assert reading.findings() == {}, reading.summary()
