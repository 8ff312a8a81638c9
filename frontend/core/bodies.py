"""Messages as clients send them, in REST bodies and WebSocket requests alike."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from frontend.core.messages import CommandChanges, NewCommand, NewNotification
from skep import errors
from skep.web.json import NULL, json_object
from skep.wire import timestamps

Time = str | int | float
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
SPECIAL = frozenset({"$device-add", "$device-update"})
"""Notifications only the platform makes."""


class NotificationBody(Struct):
    notification: str | None = None
    timestamp: Time | None = None
    parameters: Raw = NULL

    def read(self) -> NewNotification:
        """Raises BadRequest, Forbidden."""
        if not self.notification:
            raise errors.BadRequest
        if self.notification in SPECIAL:
            raise errors.Forbidden("Notification with this name can't be sent by a client")
        return NewNotification(self.notification, json_object(self.parameters), _time(self.timestamp))


class CommandBody(Struct):
    command: str | None = None
    timestamp: Time | None = None
    parameters: Raw = NULL
    lifetime: Integer | None = None
    status: str | None = None
    result: Raw = NULL

    def read(self) -> NewCommand:
        """Raises BadRequest."""
        if not self.command:
            raise errors.BadRequest
        parameters, result = json_object(self.parameters), json_object(self.result)
        return NewCommand(self.command, parameters, _time(self.timestamp), self.lifetime, self.status, result)


class CommandUpdateBody(Struct):
    """What is absent keeps its value, null clears it."""

    status: str | UnsetType | None = UNSET
    result: Raw | UnsetType = UNSET

    def read(self) -> CommandChanges:
        """Raises BadRequest."""
        changes = CommandChanges()
        if not isinstance(self.status, UnsetType):
            changes.set_status, changes.status = True, self.status
        if not isinstance(self.result, UnsetType):
            changes.set_result, changes.result = True, json_object(self.result)
        return changes


def _time(value: Time | None) -> int:
    """ms, 0 for none. Raises BadRequest."""
    try:
        return 0 if value is None else timestamps.parse(value)
    except ValueError:
        raise errors.BadRequest from None
