"""The bridge's connection to a real broker: much at once, large messages, and reading that pauses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from mqtt_bridge.adapters.connection import Connection
from mqtt_bridge.adapters.sessions import VERSIONS
from mqtt_bridge.core.packets import Packet
from tests.contract.mosquitto_support import Machine, running

TOPIC = "dh/notification/1/1/d/t"
LARGE = 1 << 20


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with running(tmp_path) as made:
        yield made


class Reader:
    """Subscribed to events; acknowledges what comes, and pauses after so many packets."""

    def __init__(self, machine: Machine, version: MQTTProtocolVersion) -> None:
        self.packets: list[Packet] = []
        self.pause_at = -1
        self.came = asyncio.Event()
        options = msgspec.structs.replace(machine.options, client_id="reader")
        self.connection = Connection(options, version, self._take)

    def _take(self, packet: Packet) -> None:
        self.packets.append(packet)
        self.connection.acknowledge(packet)
        if len(self.packets) == self.pause_at:
            self.connection.pause(True)
        self.came.set()

    async def have(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.packets) < count:
                self.came.clear()
                await self.came.wait()


@pytest.fixture(params=VERSIONS, ids=str)
async def pair(machine: Machine, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Connection, Reader]]:
    reader = Reader(machine, request.param)
    writer = Connection(machine.options, request.param, lambda packet: None)
    await reader.connection.open()
    await writer.open()
    await reader.connection.subscribe(["dh/notification/#"])
    yield writer, reader
    await writer.close()
    await reader.connection.close()


async def publish(writer: Connection, payloads: list[bytes]) -> None:
    for first in range(0, len(payloads), writer.window):
        await asyncio.gather(*(writer.publish(TOPIC, payload) for payload in payloads[first : first + writer.window]))


async def test_much_at_once_comes_in_order(pair: tuple[Connection, Reader]) -> None:
    writer, reader = pair
    payloads = [str(number).encode() for number in range(2_000)]
    await publish(writer, payloads)
    await reader.have(len(payloads))
    assert [packet.payload for packet in reader.packets] == payloads
    assert not any(packet.is_duplicate for packet in reader.packets)


async def test_more_than_a_socket_takes_at_once(pair: tuple[Connection, Reader]) -> None:
    writer, reader = pair
    payloads = [bytes([number]) * LARGE for number in range(32)]
    await publish(writer, payloads)
    await reader.have(len(payloads))
    assert [packet.payload for packet in reader.packets] == payloads


async def test_nothing_is_read_while_reading_pauses_and_nothing_is_left_after(pair: tuple[Connection, Reader]) -> None:
    writer, reader = pair
    reader.pause_at = 10
    payloads = [str(number).encode() for number in range(100)]
    await publish(writer, payloads)
    await reader.have(reader.pause_at)
    # What was published after is confirmed to the writer: the reader's packets are on their way to it, or there.
    await publish(writer, [b"last"])
    assert len(reader.packets) == reader.pause_at
    reader.connection.pause(False)
    await reader.have(len(payloads) + 1)
    assert [packet.payload for packet in reader.packets] == [*payloads, b"last"]


async def test_a_connection_that_closes_in_order_has_sent_everything(machine: Machine) -> None:
    """A will is sent for one that does not: nothing comes after what was published."""
    reader = Reader(machine, VERSIONS[0])
    await reader.connection.open()
    await reader.connection.subscribe(["dh/notification/#"])
    for number in range(20):
        writer = Connection(machine.options, VERSIONS[0], lambda packet: None)
        await writer.open()
        writer.publish(TOPIC, str(number).encode())
        await writer.close()
    await reader.have(20)
    assert [packet.payload for packet in reader.packets] == [str(number).encode() for number in range(20)]
    await reader.connection.close()
