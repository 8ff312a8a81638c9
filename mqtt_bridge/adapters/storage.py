"""PostgreSQL's side: client ids and whose they are, packets under way, who leads."""

from __future__ import annotations

from mqtt_bridge.core.accounts import Accounts
from mqtt_bridge.core.dynsec import Account
from mqtt_bridge.core.packets import Remembered
from mqtt_bridge.core.roles import MAX_DEVICES
from skep.metadata import Caches, Metadata
from skep.metadata.mqtt import MqttClient, MqttPacket


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
    """`mqtt_bridge.core.packets.Memory`."""

    def __init__(self, metadata: Metadata) -> None:
        self._packets = metadata.mqtt_packets

    async def recall(self, session: str) -> list[Remembered]:
        return [Remembered(r.packet_id, r.id, r.digest, r.number) for r in await self._packets.recall(session)]

    async def remember(self, session: str, packets: list[Remembered]) -> None:
        rows = [MqttPacket(r.packet_id, r.id, r.digest, r.number) for r in packets]
        await self._packets.remember(session, rows)


class StoredAccounts:
    def __init__(self, metadata: Metadata, accounts: Accounts) -> None:
        self._passwords, self._accounts = metadata.mqtt_passwords, accounts

    async def wanted(self) -> list[Account]:
        """As of now. Raises Unavailable."""
        return self._accounts.of(await self._passwords.list(MAX_DEVICES))


class StoredLease:
    """Whether this run leads."""

    def __init__(self, metadata: Metadata, name: str, run: str, seconds: float) -> None:
        self._leases, self._name, self._run = metadata.leases, name, run
        self.seconds = seconds

    async def hold(self) -> bool:
        """Take or renew. Raises Unavailable."""
        return await self._leases.hold(self._name, self._run, self.seconds)
