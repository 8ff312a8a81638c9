"""What a plugin receives, typed."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

log = logging.getLogger("plugin")

NOTIFICATION, COMMAND, COMMAND_UPDATE = 10, 21, 23


@dataclass(frozen=True, slots=True)
class Notification:
    """From a device. (device_id, id) names it for good: a message that comes a second time has the same."""

    id: int
    name: str
    device_id: str
    network_id: int | None
    device_type_id: int | None
    timestamp: datetime
    parameters: Any


@dataclass(frozen=True, slots=True)
class Command:
    """For a device, or (`is_update`) what a device answered it: status and result. lifetime: seconds."""

    id: int
    name: str
    device_id: str
    network_id: int | None
    device_type_id: int | None
    user_id: int | None
    timestamp: datetime
    last_updated: datetime | None
    parameters: Any
    lifetime: int | None
    status: str | None
    result: Any
    is_update: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages first to next - 1 of a partition are gone: nobody fetched them within the plugin's retention."""

    partition: int
    first: int
    next: int


class Handler:
    """What the plugin does. Messages of one device come one after the other, those of several side by side.

    A message is confirmed once its callback has returned. If the callback raises, the plugin disconnects and comes
    back after a pause; everything that is not confirmed then comes again, so a callback must bear repetition.
    """

    async def start(self) -> None:
        """Before the first connection."""

    async def stop(self) -> None:
        """After the last callback."""

    async def on_notification(self, notification: Notification) -> None:
        """A device sent a notification."""

    async def on_command(self, command: Command) -> None:
        """Somebody sent a device a command."""

    async def on_command_update(self, command: Command) -> None:
        """A device answered a command."""

    async def on_gap(self, gap: Gap) -> None:
        """The plugin was away for longer than its messages are kept."""
        log.warning("%d messages of partition %d are lost: away for too long", gap.next - gap.first, gap.partition)


def parse(text: str) -> Notification | Command:
    """Raises ValueError, KeyError or TypeError for what is no message."""
    body = json.loads(text)["b"]
    if body["a"] == NOTIFICATION:
        it = body["notification"]
        return Notification(**_common(it, "notification"))
    if body["a"] in (COMMAND, COMMAND_UPDATE):
        it = body["command"]
        return Command(
            **_common(it, "command"),
            user_id=it.get("userId"),
            last_updated=_time(it.get("lastUpdated")),
            lifetime=it.get("lifetime"),
            status=it.get("status"),
            result=it.get("result"),
            is_update=body["a"] == COMMAND_UPDATE,
        )
    raise ValueError(f"unknown kind {body['a']!r}")


def _common(it: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        "id": it["id"],
        "name": it[name],
        "device_id": it["deviceId"],
        "network_id": it.get("networkId"),
        "device_type_id": it.get("deviceTypeId"),
        "timestamp": _time(it["timestamp"]),
        "parameters": it.get("parameters"),
    }


def _time(text: str | None) -> datetime | None:
    """The server's times are UTC and do not say so."""
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)
