"""Markers behind records of `subscriptions`: when they have passed, what those records say is in effect everywhere."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import msgspec

from skep.wire import messages, topics


class Bus(Protocol):
    """`skep.bus.Bus`, as it is used here."""

    async def request(self, topic: str, body: Any, *, partition: int, timeout: float) -> bytes: ...
    async def describe(self, topic: str) -> Any: ...


class Markers:
    """One on each partition of `requests`, as often as asked."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._partitions = 0

    async def pass_all(self, offset: int, timeout: float) -> dict[int, int]:
        """Returns when every backend has applied `subscriptions` up to `offset` (next offset) and handled all before
        the markers: their offsets by partition. Raises `SkepError`."""
        if not self._partitions:
            self._partitions = len((await self._bus.describe(topics.REQUESTS)).partitions)
        marker, numbers = messages.Marker(offset), range(self._partitions)
        asked = (self._bus.request(topics.REQUESTS, marker, partition=number, timeout=timeout) for number in numbers)
        return dict([_decode_passed(answer) for answer in await asyncio.gather(*asked)])

    async def pass_end(self, timeout: float) -> dict[int, int]:
        """`pass_all` for everything that `subscriptions` has by now."""
        described = await self._bus.describe(topics.SUBSCRIPTIONS)
        return await self.pass_all(described.partitions[0][1], timeout)


_decode_passed = msgspec.msgpack.Decoder(tuple[int, int]).decode
