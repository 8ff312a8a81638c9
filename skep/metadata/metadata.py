"""Everything about users, networks, device types, devices, plugins and configuration, behind one object."""

from __future__ import annotations

from sqlalchemy import literal, select

from .configuration import Configurations
from .database import POOL, TIMEOUT, Database, Transaction
from .device_types import DeviceTypes
from .devices import Devices
from .leases import Leases
from .mqtt import MqttClients, MqttPackets
from .mqtt_passwords import MqttPasswords
from .networks import Networks
from .plugin_sockets import PluginSockets
from .plugin_streams import PluginStreams
from .plugins import Plugins
from .users import Users


class Metadata:
    """One file per entity: `users`, `networks`, `device_types`, `devices`, `configuration`, `plugins`,
    `plugin_streams`, `plugin_sockets`.

    Every call answers within `timeout` seconds and raises errors of `skep.errors` only, Unavailable where
    PostgreSQL is away. Raises ValueError for an impossible url.
    """

    def __init__(self, url: str, pool: int = POOL, timeout: float = TIMEOUT) -> None:
        self.database = Database(url, pool, timeout)
        self.users = Users(self.database)
        self.networks = Networks(self.database)
        self.device_types = DeviceTypes(self.database)
        self.devices = Devices(self.database)
        self.configuration = Configurations(self.database)
        self.plugins = Plugins(self.database)
        self.mqtt_clients = MqttClients(self.database)
        self.mqtt_packets = MqttPackets(self.database)
        self.mqtt_passwords = MqttPasswords(self.database)
        self.leases = Leases(self.database)
        self.plugin_streams = PluginStreams(self.database)
        self.plugin_sockets = PluginSockets(self.database)

    async def start(self) -> None:
        """Nothing is asked of the server: a service starts while it is away, and connects when it is needed."""

    async def stop(self) -> None:
        await self.leases.close()
        await self.database.close()

    async def ping(self) -> None:
        """For health checks. Raises Unavailable."""
        await self.database.read(Transaction.first, select(literal(1)))
