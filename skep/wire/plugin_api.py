"""What the API of plugins takes and gives (reference: rest-and-websocket-api.md 3.10), by REST, by WebSocket, and
within the messages of `plugins.py` as JSON."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

from skep.wire.views import NULL

Natural = Annotated[int, Meta(ge=0)]


class Selection(Struct, rename="camel", kw_only=True, omit_defaults=True):
    """status: 0 ACTIVE, 1 INACTIVE, 2 CREATED."""

    name: str | None = None
    name_pattern: str | None = None
    topic_name: str | None = None
    status: int | None = None
    user_id: int | None = None


class ListQuery(Selection, rename="camel", kw_only=True, omit_defaults=True):
    sort_field: str | None = None
    sort_order: str | None = None
    take: Natural | None = None
    skip: Natural = 0


class FilterQuery(Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What a plugin wants. retention: seconds that messages wait for it."""

    device_id: str | None = None
    network_ids: list[int] | None = None
    device_type_ids: list[int] | None = None
    names: list[str] | None = None
    return_commands: bool | None = None
    return_updated_commands: bool | None = None
    return_notifications: bool | None = None
    retention: int | None = None


class UpdateQuery(FilterQuery, rename="camel", kw_only=True, omit_defaults=True):
    """status: ACTIVE or INACTIVE. parameters: JSON text."""

    topic_name: str | None = None
    status: str | None = None
    name: str | None = None
    description: str | None = None
    parameters: str | None = None


class TopicQuery(Struct, rename="camel"):
    topic_name: str | None = None


class Registration(Struct):
    name: str | None = None
    description: str | None = None
    parameters: Raw = NULL


class PluginRegistered(Struct, rename="camel"):
    """topic_name: what tokens, REST and the plugin proxy call it."""

    access_token: str
    refresh_token: str
    proxy_endpoint: str
    topic_name: str


class PluginTokenView(Struct):
    """The claims of a plugin's token; `e` as text."""

    a: list[int] | None
    e: str
    t: int
    tpc: str


class PartitionPosition(Struct):
    """Offsets: `first` and `end` of what the stream has, `position` of the next record that is not yet handled."""

    partition: int
    first: int
    position: int
    end: int


class GroupPosition(Struct):
    """Of those that share a subscription group, or of the k-th socket without one (`-k`). lag: records to go."""

    group: str
    lag: int
    partitions: list[PartitionPosition]


class PluginSocketView(Struct):
    """group: as in `GroupPosition`, null while it is not subscribed."""

    address: str
    since: str
    group: str | None


class PluginView(Struct, rename="camel"):
    """status: ACTIVE, INACTIVE or CREATED; enabled: false after it was set INACTIVE. retention: seconds. lag: of the
    group that is furthest behind, all that waits where nobody has read yet; null where it can't be told now."""

    id: int
    name: str
    description: str | None
    topic_name: str
    filter: str
    status: str
    subscription_id: int | None
    user_id: int | None
    parameters: Raw
    retention: int
    enabled: bool
    lag: int | None
    positions: list[GroupPosition]
    last_contact: str | None
    sockets: list[PluginSocketView]
