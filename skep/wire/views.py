"""JSON views of the API (reference: rest-and-websocket-api.md 3.0), made of wire structs and metadata rows.

Every field is written, null where there is nothing. `parameters`, `result` and `data` are embedded as the JSON text
they came as.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Raw, Struct

from skep.wire import timestamps
from skep.wire.fields import JsonObject, Timestamp
from skep.wire.messages import Command, Item, Notification, Stored

NULL = Raw(b"null")


class NotificationView(Struct, rename="camel"):
    id: int
    notification: str
    device_id: str
    network_id: int
    device_type_id: int
    timestamp: Timestamp
    parameters: JsonObject


class NotificationCreated(Struct):
    id: int
    timestamp: Timestamp


class CommandView(Struct, rename="camel"):
    id: int
    command: str
    timestamp: Timestamp
    last_updated: Timestamp
    user_id: int | None
    device_id: str
    network_id: int
    device_type_id: int
    parameters: JsonObject
    lifetime: int | None
    status: str | None
    result: JsonObject


class CommandCreated(Struct, rename="camel"):
    id: int
    timestamp: Timestamp
    last_updated: Timestamp
    user_id: int | None


class DeviceView(Struct, rename="camel"):
    id: str
    name: str
    data: JsonObject
    network_id: int
    device_type_id: int
    is_blocked: bool


class Count(Struct):
    count: int


class TokensView(Struct, rename="camel"):
    access_token: str
    refresh_token: str


class AccessTokenView(Struct, rename="camel"):
    access_token: str


class Info(Struct, rename="camel"):
    """GET /info."""

    api_version: str
    server_timestamp: Timestamp
    web_socket_server_url: str


class ServerInfo(Struct, rename="camel"):
    """WebSocket `server/info`."""

    api_version: str
    server_timestamp: Timestamp
    rest_server_url: str


class CacheInfo(Struct, rename="camel"):
    server_timestamp: Timestamp
    cache_stats: str


class ClusterInfo(Struct, rename={"bootstrap_servers": "bootstrap.servers", "zookeeper_connect": "zookeeper.connect"}):
    bootstrap_servers: str
    zookeeper_connect: str


class DeviceRow(Protocol):
    """`skep.metadata`'s device, as far as its view goes."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def data(self) -> bytes | None: ...
    @property
    def network_id(self) -> int: ...
    @property
    def device_type_id(self) -> int: ...
    @property
    def is_blocked(self) -> bool: ...


def notification(n: Notification) -> NotificationView:
    time = timestamps.format(n.timestamp)
    return NotificationView(n.id, n.name, n.device_id, n.network_id, n.device_type_id, time, raw(n.parameters))


def notification_created(stored: Stored) -> NotificationCreated:
    return NotificationCreated(stored.id, timestamps.format(stored.timestamp))


def command(c: Command) -> CommandView:
    return CommandView(
        c.id,
        c.name,
        timestamps.format(c.timestamp),
        timestamps.format(c.last_updated),
        c.user_id,
        c.device_id,
        c.network_id,
        c.device_type_id,
        raw(c.parameters),
        c.lifetime,
        c.status,
        raw(c.result),
    )


def command_created(stored: Stored, user_id: int | None) -> CommandCreated:
    times = timestamps.format(stored.timestamp), timestamps.format(stored.last_updated)
    return CommandCreated(stored.id, *times, user_id)


def message(item: Item) -> NotificationView | CommandView:
    """The message an item carries. ValueError for an item without one."""
    if item.notification is not None:
        return notification(item.notification)
    if item.command is not None:
        return command(item.command)
    raise ValueError("an item without a message")


def device(d: DeviceRow) -> DeviceView:
    return DeviceView(d.id, d.name, raw(d.data), d.network_id, d.device_type_id, d.is_blocked)


def raw(json: bytes | None) -> Raw:
    """JSON text to embed, null for None."""
    return NULL if json is None else Raw(json)
