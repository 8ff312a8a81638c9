"""What is asked at every message: users' rights, devices, whether networks and device types exist.

Entries are dropped by `Changed` (this process's own commits at once, others' through the relay), all of them by a
gap, and each after `max_age`. While PostgreSQL is away what is here is served until then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from skep import access
from skep.wire.messages import Changed

from .cache import Cache
from .metadata import Metadata
from .mqtt import ENTITY as MQTT_CLIENT
from .mqtt import MqttClient
from .rows import Device, DeviceType, Network, Plugin

log = logging.getLogger("skep.metadata")

MAX_AGE = 60.0
MEGABYTE = 1 << 20

Callback = Callable[[str, list[str]], None]
"""(entity, ids) of what changed; no ids: all of that entity."""


class Caches:
    """`fresh=True` before a refusal: the entry is read again unless that happened within the last second."""

    def __init__(self, metadata: Metadata, max_age: float = MAX_AGE) -> None:
        self._users: Cache[int, access.User] = Cache(metadata.users.rights_of, _user_size, 32 * MEGABYTE, max_age)
        self._devices: Cache[str, Device] = Cache(metadata.devices.get_many, _device_size, 64 * MEGABYTE, max_age)
        self._networks: Cache[int, Network] = Cache(metadata.networks.get_many, _size, 8 * MEGABYTE, max_age)
        self._types: Cache[int, DeviceType] = Cache(metadata.device_types.get_many, _size, 8 * MEGABYTE, max_age)
        self._plugins: Cache[str, Plugin] = Cache(metadata.plugins.by_topics, _size, 8 * MEGABYTE, max_age)
        self._mqtt: Cache[str, MqttClient] = Cache(metadata.mqtt_clients.get_many, _size, 16 * MEGABYTE, max_age)
        self._by_entity: dict[str, tuple[Cache[Any, Any], Callable[[str], Any]]] = {
            "user": (self._users, int),
            "device": (self._devices, str),
            "network": (self._networks, int),
            "device_type": (self._types, int),
            "plugin": (self._plugins, str),
            MQTT_CLIENT: (self._mqtt, str),
        }
        self._callbacks: list[Callback] = []
        metadata.database.on_commit(self._committed)

    async def user(self, id: int, fresh: bool = False) -> access.User | None:
        """A user's rights as of at most `max_age` seconds ago. Raises Unavailable."""
        return await self._users.get(id, fresh)

    async def device(self, id: str, fresh: bool = False) -> Device | None:
        return await self._devices.get(id, fresh)

    def peek_device(self, id: str) -> Device | None:
        """The device if its entry is here, without waiting."""
        return self._devices.peek(id)

    async def network(self, id: int, fresh: bool = False) -> Network | None:
        return await self._networks.get(id, fresh)

    async def device_type(self, id: int, fresh: bool = False) -> DeviceType | None:
        return await self._types.get(id, fresh)

    async def plugin(self, topic_name: str, fresh: bool = False) -> Plugin | None:
        return await self._plugins.get(topic_name, fresh)

    async def mqtt_client(self, client_id: str, fresh: bool = False) -> MqttClient | None:
        return await self._mqtt.get(client_id, fresh)

    async def network_exists(self, id: int, fresh: bool = False) -> bool:
        return await self.network(id, fresh) is not None

    async def device_type_exists(self, id: int, fresh: bool = False) -> bool:
        return await self.device_type(id, fresh) is not None

    def apply(self, changed: Changed) -> None:
        """Drop what changed, then tell the callbacks."""
        known = self._by_entity.get(changed.entity)
        if known is not None:
            cache, key = known
            ids = [key(i) for i in changed.ids if key is str or i.isdigit()]
            if ids:
                cache.drop(ids)
            else:
                cache.clear()
        self._tell(changed.entity, changed.ids)

    def clear(self) -> None:
        """Changes were missed: everything may have."""
        for cache, _ in self._by_entity.values():
            cache.clear()
        for entity in [*self._by_entity, "configuration"]:
            self._tell(entity, [])

    def on_change(self, callback: Callback) -> Callable[[], None]:
        """Called after each drop, so that open sockets are checked again. Gives a function that ends it."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def sizes(self) -> dict[str, int]:
        """Entries by entity, for metrics."""
        return {entity: len(cache) for entity, (cache, _) in self._by_entity.items()}

    def _committed(self, changes: list[Changed]) -> None:
        for changed in changes:
            self.apply(changed)

    def _tell(self, entity: str, ids: list[str]) -> None:
        for callback in list(self._callbacks):
            try:
                callback(entity, ids)
            except Exception:  # a listener's defect must not keep the others from hearing
                log.exception("a listener to changes of %s failed", entity)


def _user_size(user: access.User) -> int:
    return 200 + 60 * (len(user.networks) + len(user.device_types))


def _device_size(device: Device) -> int:
    return 300 + len(device.data or b"")


def _size(row: object) -> int:
    return 500
