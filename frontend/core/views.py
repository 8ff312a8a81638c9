"""JSON views of networks, device types, users and configuration (reference: rest-and-websocket-api.md 3.0)."""

from __future__ import annotations

from msgspec import Struct

from skep.metadata.rows import Configuration, Device, DeviceType, Network, User
from skep.wire import timestamps
from skep.wire.fields import JsonObject, Timestamp
from skep.wire.views import raw


class Created(Struct):
    id: int


class ContainerView(Struct):
    """Of a network or a device type."""

    id: int
    name: str
    description: str | None


class DeviceInside(Struct, rename="camel"):
    id: str
    name: str
    data: JsonObject
    is_blocked: bool


class ContainerFull(ContainerView):
    devices: list[DeviceInside]


class UserView(Struct, rename="camel"):
    id: int
    login: str
    role: int
    status: int
    last_login: Timestamp | None
    data: JsonObject
    intro_reviewed: bool
    all_device_types_available: bool


class UserFull(UserView, rename="camel"):
    networks: list[ContainerView]


class UserCreated(Struct, rename="camel"):
    id: int
    last_login: Timestamp | None
    data: JsonObject
    intro_reviewed: bool
    all_device_types_available: bool


class MqttPasswordView(Struct, rename="camel"):
    """client_id: what the client has to connect as where the broker binds users to client ids."""

    login: str
    password: str
    client_id: str


class UserNetwork(Struct):
    network: ContainerView


class UserDeviceType(Struct, rename="camel"):
    device_type: ContainerView


class ConfigurationView(Struct, rename="camel"):
    name: str
    value: str
    entity_version: int


def container(row: Network | DeviceType) -> ContainerView:
    return ContainerView(row.id, row.name, row.description)


def container_full(row: Network | DeviceType, devices: list[Device]) -> ContainerFull:
    inside = [DeviceInside(d.id, d.name, raw(d.data), d.is_blocked) for d in devices]
    return ContainerFull(row.id, row.name, row.description, inside)


def user(row: User) -> UserView:
    time = _time(row.last_login)
    return UserView(
        row.id, row.login, row.role, row.status, time, raw(row.data), row.intro_reviewed, row.all_device_types
    )


def user_full(row: User, networks: list[Network]) -> UserFull:
    time, inside = _time(row.last_login), [container(n) for n in networks]
    return UserFull(
        row.id, row.login, row.role, row.status, time, raw(row.data), row.intro_reviewed, row.all_device_types, inside
    )


def user_created(row: User) -> UserCreated:
    return UserCreated(row.id, _time(row.last_login), raw(row.data), row.intro_reviewed, row.all_device_types)


def configuration(row: Configuration) -> ConfigurationView:
    return ConfigurationView(row.name, row.value, row.entity_version)


def _time(ms: int | None) -> str | None:
    return None if ms is None else timestamps.format(ms)
