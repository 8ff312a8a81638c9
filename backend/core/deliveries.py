"""Messages for those interested, as records of their topics."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Raw, Struct

from backend.core.batches import Delivery
from backend.core.store import LARGEST
from skep.wire import timestamps
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE, Command, Notification
from skep.wire.proxy import Source

EVENTS = "events."
PLUGIN = "plugin_topic_"
_ACTIONS = {NOTIFICATION: 10, COMMAND: 21, UPDATE: 23}
"""Actions of plugin messages (DeviceHive's `Action` ordinals)."""

_pack = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder().encode


class Derived(Struct):
    """A record for a durable topic, made from one record of `requests`."""

    topic: str
    key: bytes
    payload: bytes
    source: Source


class _Events(Struct, array_like=True):
    """`skep.wire.messages.Events` with items that are encoded already."""

    incarnation: str
    items: list[Raw]


def events(deliveries: list[Delivery]) -> Iterator[bytes]:
    """Payloads for an `events.` topic: as few as fit the largest record."""
    items: list[Raw] = []
    size, incarnation = 0, ""
    for delivery in deliveries:
        log = delivery.source.incarnation
        if items and (size + len(delivery.body) > LARGEST or log != incarnation):
            yield _pack(_Events(incarnation, items))
            items, size = [], 0
        incarnation = log
        items.append(Raw(delivery.body))
        size += len(delivery.body)
    if items:
        yield _pack(_Events(incarnation, items))


def derived(topic: str, deliveries: list[Delivery]) -> Iterator[Derived]:
    """Records for a plugin's topic (JSON text) or `mqtt.out` (an `Events` of one item), one for each message."""
    for d in deliveries:
        if topic.startswith(PLUGIN):
            payload = plugin_message(topic, d.kind, d.message)
        else:
            payload = _pack(_Events(d.source.incarnation, [Raw(d.body)]))
        yield Derived(topic, d.message.device_id.encode(), payload, d.source)


class _Notification(Struct, rename="camel"):
    id: int
    notification: str
    device_id: str
    network_id: int
    device_type_id: int
    timestamp: str
    parameters: Raw


class _Command(Struct, rename="camel"):
    id: int
    command: str
    timestamp: str
    last_updated: str
    user_id: int | None
    device_id: str
    network_id: int
    device_type_id: int
    parameters: Raw
    lifetime: int | None
    status: str | None
    result: Raw
    is_updated: bool


def plugin_message(topic: str, kind: int, message: Notification | Command) -> bytes:
    """The JSON text a plugin finds in `p.m` (reference: proxy-plugins-mqtt.md 3.8). All fields are there, null
    when empty; `cId` is constant for a subscription, so it is the plugin's, whichever of its streams this is."""
    body: dict[str, object] = {"a": _ACTIONS[kind]}
    if isinstance(message, Notification):
        body = {"notification": _notification(message), **body}
    else:
        body = {"command": _command(message), **body}
    return _json({"b": body, "cId": topic.removeprefix(PLUGIN).partition(".")[0], "l": False, "err": 0, "fld": False})


def _notification(n: Notification) -> _Notification:
    time = timestamps.format(n.timestamp)
    return _Notification(n.id, n.name, n.device_id, n.network_id, n.device_type_id, time, _raw(n.parameters))


def _command(c: Command) -> _Command:
    return _Command(
        id=c.id,
        command=c.name,
        timestamp=timestamps.format(c.timestamp),
        last_updated=timestamps.format(c.last_updated),
        user_id=c.user_id,
        device_id=c.device_id,
        network_id=c.network_id,
        device_type_id=c.device_type_id,
        parameters=_raw(c.parameters),
        lifetime=c.lifetime,
        status=c.status,
        result=_raw(c.result),
        is_updated=c.is_updated,
    )


def _raw(json: bytes | None) -> Raw:
    return Raw(json if json is not None else b"null")
