"""What the API of plugins takes and gives (reference: rest-and-websocket-api.md 3.10), by REST, by WebSocket, and
within the messages of `plugins.py` as JSON."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from skep.wire.fields import JsonObject, Natural, Order, Pattern, Time, Timestamp, choice
from skep.wire.token_api import Names
from skep.wire.views import NULL

MIN_RETENTION, MAX_RETENTION = 60, 7 * 24 * 3_600
"""Seconds."""
PARAMETERS = 4_096
"""Longest `parameters`, bytes."""
NAMES = 100
"""Most names in a filter."""
NAME = "[a-zA-Z0-9_@.-]{3,128}"
DESCRIPTION = "[a-zA-Z0-9_@.\\s-]{3,128}"

PluginName = Annotated[str, Meta(extra_json_schema={"pattern": f"^{NAME}$"})]
PluginDescription = Annotated[str, Meta(extra_json_schema={"pattern": f"^{DESCRIPTION}$"})]
Retention = Annotated[int, Meta(extra_json_schema={"minimum": MIN_RETENTION, "maximum": MAX_RETENTION})]
MessageName = Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": 128})]


class Selection(Struct, rename="camel", kw_only=True, omit_defaults=True):
    """status: 0 ACTIVE, 1 INACTIVE, 2 CREATED."""

    name: str | None = None
    name_pattern: Pattern | None = None
    topic_name: str | None = None
    status: int | None = None
    user_id: int | None = None


class ListQuery(Selection, rename="camel", kw_only=True, omit_defaults=True):
    sort_field: Annotated[str, choice("id", "name")] | None = None
    sort_order: Order | None = None
    take: Natural | None = None
    skip: Natural = 0


class FilterQuery(Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What a plugin wants. A device wins over networks and device types. retention: seconds that messages wait."""

    device_id: str | None = None
    network_ids: list[Natural] | None = None
    device_type_ids: list[Natural] | None = None
    names: Annotated[list[MessageName], Meta(extra_json_schema={"maxItems": NAMES})] | None = None
    return_commands: bool | None = None
    return_updated_commands: bool | None = None
    return_notifications: bool | None = None
    retention: Retention | None = None


class UpdateQuery(FilterQuery, rename="camel", kw_only=True, omit_defaults=True):
    """INACTIVE disables a plugin, ACTIVE enables it. parameters: JSON text. topic_name: without meaning for a plugin's
    token, which changes its own."""

    topic_name: str | None = None
    status: Annotated[str, choice("ACTIVE", "INACTIVE")] | None = None
    name: PluginName | None = None
    description: PluginDescription | None = None
    parameters: str | None = None


class TopicQuery(Struct, rename="camel"):
    topic_name: str | None = None


class Registration(Struct, omit_defaults=True):
    required: ClassVar = ("name",)

    name: PluginName | None = None
    description: PluginDescription | None = None
    parameters: JsonObject = NULL


class PluginRegistered(Struct, rename="camel"):
    """topic_name: what tokens, REST and the plugin proxy call it."""

    access_token: str
    refresh_token: str
    proxy_endpoint: str
    topic_name: str


class PluginTokenBody(Struct, omit_defaults=True):
    """Body of POST /token/plugin/create, with the claims' own names. `t` of the API means nothing."""

    required: ClassVar = ("tpc",)

    tpc: str | None = None
    a: Names | None = None
    e: Time | None = None


class TokenQuery(Struct):
    """Of GET /token/plugin/authenticate."""

    token: str | None = None


class PluginTokenView(Struct):
    """The claims of a plugin's token; `e` as text."""

    a: list[int] | None
    e: Timestamp
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
    since: Timestamp
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
    parameters: JsonObject
    retention: int
    enabled: bool
    lag: int | None
    positions: list[GroupPosition]
    last_contact: Timestamp | None
    sockets: list[PluginSocketView]
