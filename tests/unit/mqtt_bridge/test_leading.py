"""A lease, and what is done under it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from mqtt_bridge.adapters.storage import StoredLease
from mqtt_bridge.core import requests
from mqtt_bridge.core.leading import Led, led
from mqtt_bridge.core.packets import Lost
from mqtt_bridge.core.topics import Insert

REQUEST = requests.read(b'{"action": "device/get"}', 1)


class Leases:
    """PostgreSQL's part."""

    def __init__(self) -> None:
        self.holder = ""
        self.asked = 0

    async def hold(self, name: str, holder: str, seconds: float) -> bool:
        self.asked += 1
        self.holder = self.holder or holder
        return self.holder == holder


class Platform:
    def __init__(self) -> None:
        self.done = 0

    async def ask(self, client_id: str, request: requests.Request) -> bytes:
        self.done += 1
        return b"{}"

    async def insert(self, insert: Insert, parameters: bytes, id: int, is_repeated: bool) -> Awaitable[None] | None:
        self.done += 1
        return None


class Bridge:
    def __init__(self) -> None:
        self.leases, self.platform, self.now = Leases(), Platform(), 0.0
        self.lease = StoredLease(self.leases, "session", "me", 6.0, clock=lambda: self.now)
        self.led = Led(self.platform, self.lease)

    async def do(self) -> None:
        await self.led.ask("c", REQUEST)
        await self.led.insert(Insert("d", "n"), b"", 1, is_repeated=False)


@pytest.fixture
async def bridge() -> Bridge:
    made = Bridge()
    assert await made.lease.take()
    return made


async def test_nothing_is_asked_while_the_lease_lasts(bridge: Bridge) -> None:
    bridge.now = 5.9
    await bridge.do()
    assert (bridge.leases.asked, bridge.platform.done) == (1, 2)


async def test_who_was_paused_asks_before_it_goes_on(bridge: Bridge) -> None:
    bridge.now = 6.1
    await bridge.do()
    assert (bridge.leases.asked, bridge.platform.done) == (2, 2)


async def test_nothing_is_done_when_another_leads(bridge: Bridge) -> None:
    bridge.now, bridge.leases.holder = 6.1, "another"
    for _ in range(2):
        with pytest.raises(Lost):
            await bridge.do()
    assert bridge.platform.done == 0


async def test_a_lease_that_was_lost_once_ends_the_session_though_it_is_free_again(bridge: Bridge) -> None:
    """What was left undone meanwhile comes again in the next session only."""
    bridge.now, bridge.leases.holder = 6.1, "another"
    with pytest.raises(Lost):
        await bridge.do()
    bridge.leases.holder = ""
    async with asyncio.timeout(1):
        await led(bridge.lease)
    with pytest.raises(Lost):
        await bridge.do()
    assert await bridge.lease.take()
    await bridge.do()
