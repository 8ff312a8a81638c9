"""What the core needs from outside."""

from __future__ import annotations

from typing import Any, Protocol

from skep.wire import proxy


class Bus(Protocol):
    """`skep.bus.Bus`."""

    async def request(
        self, topic: str, body: Any, key: bytes | None = None, partition: int | None = None, timeout: float = 5.0
    ) -> bytes: ...
    async def describe(self, topic: str, groups: bool = False) -> proxy.Described: ...
    async def create_topic(self, topic: str, partitions: int = 1, retention: int = 0) -> None: ...
    async def delete_topic(self, topic: str) -> None: ...


class Outbox(Protocol):
    """`skep.metadata.Relay`."""

    async def flushed(self) -> None:
        """Returns when all that is committed by now is on the bus."""
