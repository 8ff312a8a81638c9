"""Rows and changes of rows. Field order of a row is the order of its table's columns.

In a change UNSET leaves the column as it is. None clears `data`, `description` and `parameters`; elsewhere it is as
good as UNSET, as in the DeviceHive API.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

from msgspec import UNSET, Struct, UnsetType

T = TypeVar("T")
Maybe: TypeAlias = T | UnsetType | None

ADMIN, CLIENT = 0, 1
"""Roles of a user."""
ACTIVE, LOCKED_OUT, DISABLED = 0, 1, 2
"""Status of a user."""
PLUGIN_ACTIVE, PLUGIN_INACTIVE, PLUGIN_CREATED = 0, 1, 2
"""Status of a plugin."""


class User(Struct, frozen=True):
    id: int
    login: str
    password_hash: str
    role: int
    status: int
    login_attempts: int
    last_login: int | None
    data: bytes | None
    intro_reviewed: bool
    all_device_types: bool

    def __repr__(self) -> str:
        return f"User(id={self.id}, login={self.login!r})"  # never the hash


class NewUser(Struct, frozen=True):
    login: str
    password_hash: str
    role: int
    status: int = ACTIVE
    data: bytes | None = None
    intro_reviewed: bool = False
    all_device_types: bool = True


class UserChanges(Struct, frozen=True):
    login: Maybe[str] = UNSET
    password_hash: Maybe[str] = UNSET
    role: Maybe[int] = UNSET
    status: Maybe[int] = UNSET
    data: Maybe[bytes] = UNSET
    intro_reviewed: Maybe[bool] = UNSET


class Network(Struct, frozen=True):
    id: int
    name: str
    description: str | None


class DeviceType(Struct, frozen=True):
    id: int
    name: str
    description: str | None


class ContainerChanges(Struct, frozen=True):
    """Of a network or a device type."""

    name: Maybe[str] = UNSET
    description: Maybe[str] = UNSET


class Device(Struct, frozen=True):
    id: str
    name: str
    data: bytes | None
    network_id: int
    device_type_id: int
    is_blocked: bool


class DeviceChanges(Struct, frozen=True):
    name: Maybe[str] = UNSET
    data: Maybe[bytes] = UNSET
    network_id: Maybe[int] = UNSET
    device_type_id: Maybe[int] = UNSET
    is_blocked: Maybe[bool] = UNSET


class Configuration(Struct, frozen=True):
    name: str
    value: str
    entity_version: int


class Plugin(Struct, frozen=True):
    """`filter`: what is in force, as text; `wanted`: what was asked for, JSON of `skep.wire.plugins.Filter`. stream:
    number of the bus topic behind `topic_name`. retention, last_contact: ms."""

    id: int
    name: str
    description: str | None
    topic_name: str
    filter: str
    status: int
    user_id: int | None
    parameters: bytes | None
    wanted: bytes = b"{}"
    retention: int = 3_600_000
    enabled: bool = True
    stream: int = 1
    last_contact: int | None = None


class NewPlugin(Struct, frozen=True):
    """interests: MessagePack of the filters that are collected from the first moment on."""

    name: str
    description: str | None
    topic_name: str
    filter: str
    user_id: int
    parameters: bytes | None = None
    wanted: bytes = b"{}"
    retention: int = 3_600_000
    interests: bytes = b"\x90"
    collecting: bool = False
    status: int = PLUGIN_CREATED
    stream: int = 1


class PluginChanges(Struct, frozen=True):
    name: Maybe[str] = UNSET
    description: Maybe[str] = UNSET
    status: Maybe[int] = UNSET
    parameters: Maybe[bytes] = UNSET
    wanted: Maybe[bytes] = UNSET
    retention: Maybe[int] = UNSET
    enabled: Maybe[bool] = UNSET


def given(value: Maybe[T]) -> T | None:
    """The value, None where there is none."""
    return None if isinstance(value, UnsetType) else value


def values(changes: Struct, clearable: frozenset[str]) -> dict[str, object]:
    """Columns to write: what is set, and of what is None only what None clears."""
    fields = {name: getattr(changes, name) for name in changes.__struct_fields__}
    return {k: v for k, v in fields.items() if v is not UNSET and (v is not None or k in clearable)}
