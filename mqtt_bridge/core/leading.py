"""What one bridge at a time may do: it has a lease, and loses it where it does not renew it in time.

A process that was paused wakes up in the middle of something, and another has taken over meanwhile. So the lease is
looked at before anything is done that another's doing must not be followed by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from mqtt_bridge.core import requests
from mqtt_bridge.core.inbound import Platform
from mqtt_bridge.core.topics import Insert


class Lease(Protocol):
    @property
    def seconds(self) -> float: ...

    async def take(self) -> bool:
        """False where another holds it. Raises Unavailable."""

    async def renew(self) -> bool:
        """False where another has had it since `take`. Raises Unavailable."""

    async def insist(self) -> None:
        """Returns while it is held for certain. Raises Lost, Unavailable."""


class Led:
    """A platform for the packets of a session that goes by a lease. Both raise Lost where it is another's."""

    def __init__(self, platform: Platform, lease: Lease) -> None:
        self._platform, self._lease = platform, lease

    async def ask(self, client_id: str, request: requests.Request) -> bytes:
        await self._lease.insist()
        return await self._platform.ask(client_id, request)

    async def insert(self, insert: Insert, parameters: bytes, id: int, is_repeated: bool) -> Awaitable[object] | None:
        await self._lease.insist()
        return await self._platform.insert(insert, parameters, id, is_repeated)


async def led(lease: Lease) -> None:
    """Returns when another bridge leads. Raises Unavailable where nobody can tell."""
    while await lease.renew():  # noqa: ASYNC110 - renewed at an interval, nothing to wait for
        await asyncio.sleep(lease.seconds / 3)
