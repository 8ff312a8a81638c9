"""Messages as clients send them, in REST bodies and WebSocket requests alike."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, Struct, UnsetType

from frontend.core.messages import CommandChanges, NewCommand, NewNotification
from skep import errors
from skep.web.json import NULL, json_object
from skep.wire import timestamps
from skep.wire.fields import TIME, Integer, JsonObject, MessageName

Time = Annotated[str | int | float, Meta(extra_json_schema=TIME)]
"""As the client wrote it."""
SPECIAL = frozenset({"$device-add", "$device-update"})
"""Notifications only the platform makes."""


class NotificationBody(Struct):
    required: ClassVar = ("notification",)

    notification: MessageName | None = None
    timestamp: Time | None = None
    parameters: JsonObject = NULL

    def read(self, malformed: type[errors.BadRequest] = errors.BadRequest) -> NewNotification:
        """malformed: for a timestamp that is none. Raises it, BadRequest, Forbidden."""
        if not self.notification:
            raise errors.BadRequest
        if self.notification in SPECIAL:
            raise errors.Forbidden("Notification with this name can't be sent by a client")
        return NewNotification(self.notification, json_object(self.parameters), _time(self.timestamp, malformed))


class CommandBody(Struct):
    required: ClassVar = ("command",)

    command: MessageName | None = None
    timestamp: Time | None = None
    parameters: JsonObject = NULL
    lifetime: Integer | None = None
    status: str | None = None
    result: JsonObject = NULL

    def read(self, malformed: type[errors.BadRequest] = errors.BadRequest) -> NewCommand:
        """malformed: as in `NotificationBody`. Raises it, BadRequest."""
        if not self.command:
            raise errors.BadRequest
        parameters, result = json_object(self.parameters), json_object(self.result)
        timestamp = _time(self.timestamp, malformed)
        return NewCommand(self.command, parameters, timestamp, self.lifetime, self.status, result)


class CommandUpdateBody(Struct):
    """What is absent keeps its value, null clears it."""

    status: str | UnsetType | None = UNSET
    result: JsonObject | UnsetType = UNSET

    def read(self) -> CommandChanges:
        """Raises BadRequest."""
        changes = CommandChanges()
        if not isinstance(self.status, UnsetType):
            changes.set_status, changes.status = True, self.status
        if not isinstance(self.result, UnsetType):
            changes.set_result, changes.result = True, json_object(self.result)
        return changes


def _time(value: Time | None, malformed: type[errors.BadRequest]) -> int:
    """ms, 0 for none."""
    try:
        return 0 if value is None else timestamps.parse(value)
    except ValueError:
        raise malformed from None
