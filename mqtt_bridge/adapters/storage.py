"""PostgreSQL's side: client ids and whose they are, packets under way, who leads."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from mqtt_bridge.core.accounts import Accounts
from mqtt_bridge.core.dynsec import Account
from mqtt_bridge.core.packets import Lost, Remembered
from mqtt_bridge.core.roles import MAX_DEVICES
from skep.metadata import Caches, Metadata
from skep.metadata.mqtt import MqttClient, MqttPacket


class Leases(Protocol):
    """`skep.metadata.leases.Leases`, as it is used here."""

    async def hold(self, name: str, holder: str, seconds: float) -> bool: ...


class StoredRegistry:
    """`mqtt_bridge.core.clients.Registry`."""

    def __init__(self, metadata: Metadata, caches: Caches) -> None:
        self._clients, self._caches = metadata.mqtt_clients, caches

    async def get(self, client_id: str, fresh: bool = False) -> MqttClient | None:
        if fresh:
            # Not the cache's notion of it, which holds for a second: a client may go on at once when it has logged in.
            return (await self._clients.get_many([client_id])).get(client_id)
        return await self._caches.mqtt_client(client_id)

    async def bind(self, client_id: str, user_id: int, claims: bytes | None) -> bool:
        known = await self._caches.mqtt_client(client_id)
        if known is not None and (known.user_id, known.claims) == (user_id, claims):
            return True
        return await self._clients.bind(MqttClient(client_id, user_id, claims))


class StoredMemory:
    """`mqtt_bridge.core.packets.Memory`, for a run that has the session's lease."""

    def __init__(self, metadata: Metadata, run: str) -> None:
        self._packets, self._run = metadata.mqtt_packets, run

    async def recall(self, session: str) -> list[Remembered]:
        return [Remembered(r.packet_id, r.id, r.digest, r.number) for r in await self._packets.recall(session)]

    async def remember(self, session: str, packets: list[Remembered]) -> None:
        rows = [MqttPacket(r.packet_id, r.id, r.digest, r.number) for r in packets]
        if not await self._packets.remember(session, rows, self._run):
            raise Lost("another bridge has the session")


class StoredAccounts:
    def __init__(self, metadata: Metadata, accounts: Accounts) -> None:
        self._passwords, self._accounts = metadata.mqtt_passwords, accounts

    async def wanted(self) -> list[Account]:
        """As of now. Raises Unavailable."""
        return self._accounts.of(await self._passwords.list(MAX_DEVICES))


class StoredLease:
    """Whether this run leads. clock: seconds, whatever this process was doing meanwhile."""

    def __init__(
        self, leases: Leases, name: str, run: str, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._leases, self._name, self._run, self._clock = leases, name, run, clock
        self._until = 0.0
        self._is_ours = False
        self.seconds = seconds

    async def take(self) -> bool:
        """Raises Unavailable."""
        until = self._clock() + self.seconds
        self._is_ours = await self._leases.hold(self._name, self._run, self.seconds)
        self._until = until
        return self._is_ours

    async def renew(self) -> bool:
        """False where another has had it since `take`. Raises Unavailable."""
        return self._is_ours and await self.take()

    async def insist(self) -> None:
        """Returns while it is held for certain: a process that was paused asks first. Raises Lost, Unavailable."""
        if not self._is_ours or (self._clock() >= self._until and not await self.renew()):
            raise Lost("another bridge leads")
