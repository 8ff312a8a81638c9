"""Which topics a client may publish and subscribe to: what its token allows, by the rules of `skep.access`.

Events go out once for all clients, so a subscription is allowed only where everything it can match is the client's to
see. What narrows later (rights, a device that moves) is asked again: `may_subscribe` with the same filter.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from mqtt_bridge.core import filters, topics
from mqtt_bridge.core.filters import Events, Other, Responses, System
from skep.access import Action, Principal
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE

LOGIN_ACTIONS = frozenset({"authenticate", "token", "token/refresh"})
"""What an anonymous client may ask for, to become somebody."""
READING = {
    NOTIFICATION: Action.GET_DEVICE_NOTIFICATION,
    COMMAND: Action.GET_DEVICE_COMMAND,
    UPDATE: Action.GET_DEVICE_COMMAND,
}


class Device(Protocol):
    @property
    def network_id(self) -> int: ...
    @property
    def device_type_id(self) -> int: ...
    @property
    def is_blocked(self) -> bool: ...


class Devices(Protocol):
    """`skep.metadata.Caches`, as it is used here."""

    async def device(self, id: str, fresh: bool = False) -> Device | None: ...


class Client(Struct, frozen=True):
    """principal None: anonymous."""

    id: str
    principal: Principal | None = None


class Acl:
    """names_publisher: the broker adds the client id to plain `dh/request`."""

    def __init__(self, devices: Devices, names_publisher: bool = False) -> None:
        self._devices = devices
        self._names_publisher = names_publisher

    async def may_publish(self, client: Client, topic: str, retain: bool = False) -> bool:
        """Also of a will, at CONNECT. Raises Unavailable."""
        first = topic.split("/", 1)[0]
        if first != topics.ROOT:
            return not first.startswith("$")
        if retain:
            return False
        match topics.inbound(topic):
            case topics.Request(None):
                return self._names_publisher
            case topics.Request(client_id):
                return client_id == client.id
            case topics.Insert(device_id, _):
                return await self._may_insert(client.principal, device_id)
        return False

    async def may_subscribe(self, client: Client, filter_: str) -> bool:
        """Raises Unavailable."""
        principal = client.principal
        match filters.meaning(filter_):
            case Other():
                return True
            case System():
                return principal is not None and principal.is_admin
            case Responses(action, client_id):
                return client_id == client.id and (principal is not None or action in LOGIN_ACTIONS)
            case Events() as wanted:
                return principal is not None and await self._may_see(principal, wanted)
        return False

    async def _may_insert(self, principal: Principal | None, device_id: str) -> bool:
        if principal is None or not principal.can(Action.CREATE_DEVICE_NOTIFICATION):
            return False
        device = await self._device(principal, device_id)
        return device is not None and _sees(principal, device) and not device.is_blocked

    async def _may_see(self, principal: Principal, wanted: Events) -> bool:
        if not principal.can(READING[wanted.kind]):
            return False
        network, device_type = wanted.network_id, wanted.device_type_id
        if (principal.networks is None if network is None else principal.sees_network(network)) and (
            principal.device_types is None if device_type is None else principal.sees_device_type(device_type)
        ):
            return True  # whatever device it names, now or later
        if wanted.device_id is None:
            return False
        device = await self._device(principal, wanted.device_id)
        return device is not None and _sees(principal, device)

    async def _device(self, principal: Principal, id: str) -> Device | None:
        """From the cache if it is a yes; before a no PostgreSQL is asked."""
        device = await self._devices.device(id)
        if device is not None and _sees(principal, device):
            return device
        return await self._devices.device(id, fresh=True)


def _sees(principal: Principal, device: Device) -> bool:
    return principal.sees(device.network_id, device.device_type_id)
