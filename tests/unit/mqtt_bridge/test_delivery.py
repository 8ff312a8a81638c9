"""Connections whose clients take nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from amqtt.adapters import StreamWriterAdapter
from amqtt.mqtt.pingresp import PingRespPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.session import OutgoingApplicationMessage

from mqtt_bridge.adapters import delivery
from mqtt_bridge.adapters.delivery import Delivering, Waiting


class Full:
    """A connection whose buffers are full."""

    def __init__(self) -> None:
        self.transport = self
        self.is_aborted = False
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)

    async def drain(self) -> None:
        await asyncio.Event().wait()

    def abort(self) -> None:
        self.is_aborted = True


class Sending:
    def __init__(self) -> None:
        self.connection = Full()
        manager = SimpleNamespace(fire_event=None)
        self.handler: Any = Delivering(manager)
        self.handler.writer = StreamWriterAdapter(self.connection)  # type: ignore[arg-type]
        self.tasks: list[asyncio.Task[None]] = []

    async def send(self, packet: Any) -> None:
        self.tasks.append(asyncio.ensure_future(self.handler._send_packet(packet)))
        await asyncio.sleep(0)

    @property
    def waiting(self) -> int:
        return sum(not task.done() for task in self.tasks)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def publish(size: int, qos: int = 0) -> PublishPacket:
    return PublishPacket.build("mine/x", bytes(size), 1 if qos else None, False, qos, False)


@pytest.mark.parametrize(("size", "most"), [(1, delivery.SENDING), (500_000, 5), (3_000_000, 1)])
async def test_of_qos_0_goes_what_fits(size: int, most: int) -> None:
    sending = Sending()
    for _ in range(delivery.SENDING + 10):
        await sending.send(publish(size))
    assert sending.waiting == most
    assert not sending.connection.is_aborted
    await sending.end()


@pytest.mark.parametrize("packet", [PingRespPacket.build(), publish(1, 1)])
async def test_who_takes_no_answers_is_disconnected(packet: Any) -> None:
    sending = Sending()
    for number in range(delivery.SENDING + 10):
        assert sending.connection.is_aborted == (number > delivery.SENDING)
        await sending.send(packet)
    assert sending.waiting == delivery.SENDING
    await sending.end()


def test_what_waits_is_counted() -> None:
    waiting = Waiting()
    for size in (10, 20):
        waiting.put_nowait(OutgoingApplicationMessage(None, "mine/x", 1, bytes(size), False))
    assert waiting.bytes == 30 + 2 * delivery.OVERHEAD
    waiting.get_nowait()
    assert waiting.bytes == 20 + delivery.OVERHEAD
