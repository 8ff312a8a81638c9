"""What a change has to tell: written in the change's own transaction, published by a relay (`relay.py`)."""

from __future__ import annotations

import secrets

import msgspec
from msgspec import Raw, Struct

from skep import errors
from skep.wire import messages, proxy, topics

from .rows import Device


class Row(Struct, frozen=True):
    """A record for the bus. payload None: a tombstone."""

    topic: str
    key: bytes | None
    payload: bytes | None


def changed(entity: str, ids: list[str]) -> Row:
    return Row(topics.METADATA_CHANGES, None, messages.encode(messages.Changed(entity, ids)))


def device_saved(device: Device, created: bool, notification_id: int) -> Row:
    """`$device-add` or `$device-update`. It is no call that somebody waits for: `Relay.handled` tells a saver when
    it is done, whichever service published it. Raises TooLarge where the device would not fit a record of the bus."""
    notification = messages.Notification(
        id=notification_id,
        name="$device-add" if created else "$device-update",
        device_id=device.id,
        network_id=device.network_id,
        device_type_id=device.device_type_id,
        timestamp=0,
        parameters=_view(device),
    )
    body = messages.encode(messages.InsertNotification(notification, repeatable=True))
    call = messages.Call(secrets.token_bytes(16), "", 0, Raw(body))
    payload = messages.encode(call)
    if len(payload) > proxy.MAX_BODY:
        raise errors.TooLarge
    return Row(topics.REQUESTS, device.id.encode(), payload)


def message_id() -> int:
    """53 random bits: unique for all practical purposes, and exact in JavaScript."""
    return secrets.randbits(53)


def _view(device: Device) -> bytes:
    return msgspec.json.encode(
        {
            "id": device.id,
            "name": device.name,
            "data": None if device.data is None else Raw(device.data),
            "networkId": device.network_id,
            "deviceTypeId": device.device_type_id,
            "isBlocked": device.is_blocked,
        }
    )
