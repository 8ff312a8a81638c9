"""What the bridge takes from a real broker that has more waiting than may be unacknowledged."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import Awaitable, Iterator
from pathlib import Path

import msgspec
import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from mqtt_bridge.adapters.connection import Connection
from mqtt_bridge.adapters.sessions import VERSIONS
from mqtt_bridge.core.inbound import Inbound
from mqtt_bridge.core.numbering import Numbering
from mqtt_bridge.core.packets import Packet
from mqtt_bridge.core.requests import Request
from mqtt_bridge.core.topics import INBOUND, Insert
from tests.contract.mosquitto_support import Machine, running
from tests.unit.mqtt_bridge.test_numbering import Memory

DEVICES, ROUNDS, WINDOW = 20, 200, 50


class Platform:
    """Done with inserts in any order."""

    def __init__(self, seed: int) -> None:
        self.came: defaultdict[str, list[int]] = defaultdict(list)
        self._random = random.Random(seed)
        self._waiting: list[asyncio.Future[None]] = []
        self.has_all = asyncio.Event()

    async def ask(self, client_id: str, request: Request) -> bytes:
        raise NotImplementedError

    async def insert(self, insert: Insert, parameters: bytes, id: int, is_repeated: bool) -> Awaitable[object] | None:
        self.came[insert.device_id].append(int(parameters))
        if sum(map(len, self.came.values())) == DEVICES * ROUNDS:
            self.has_all.set()
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(stored)
        asyncio.get_running_loop().call_later(self._random.random() / 20, self._settle)
        return stored

    def _settle(self) -> None:
        stored = self._waiting.pop(self._random.randrange(len(self._waiting)))
        if not stored.done():  # cancelled, at the end
            stored.set_result(None)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with running(tmp_path) as made:
        yield made


@pytest.mark.parametrize("version", VERSIONS, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
async def test_each_device_s_packets_come_in_order(machine: Machine, version: MQTTProtocolVersion, seed: int) -> None:
    """Mosquitto 2.0.11 hands on its queue out of order to who acknowledges out of order with MQTT 5."""
    platform = Platform(seed)

    async def respond(topic: str, payload: bytes) -> None: ...

    inbound = Inbound(
        platform,
        Numbering(Memory(), "s", new_id=itertools.count().__next__),
        respond,
        lambda paused: reader.pause(paused),
    )
    options = msgspec.structs.replace(machine.options, client_id="inbound", receive=WINDOW)

    def take(packet: Packet) -> None:
        inbound.receive(packet, lambda: reader.acknowledge(packet))

    reader = Connection(options, version, take)
    writer = Connection(msgspec.structs.replace(machine.options, send=10 * WINDOW), version, lambda packet: None)
    running = asyncio.create_task(inbound.run())
    await reader.open()
    await writer.open()
    await reader.subscribe(list(INBOUND))
    for rounds in (range(n, n + 10) for n in range(0, ROUNDS, 10)):
        topics = [(f"dh/insert/notification/d{device}/n", n) for n in rounds for device in range(DEVICES)]
        await asyncio.gather(*(writer.publish(topic, str(n).encode()) for topic, n in topics))
    async with asyncio.timeout(20):
        await platform.has_all.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await writer.close()
    await reader.close()
    assert platform.came == {f"d{device}": list(range(ROUNDS)) for device in range(DEVICES)}
