"""The MQTT topics of the platform (reference: proxy-plugins-mqtt.md 4.1).

| topic | who publishes |
|---|---|
| `dh/request/<clientId>` | a client: a request of the WebSocket API |
| `dh/insert/notification/<deviceId>/<name>` | a device: a notification, the payload its parameters |
| `dh/response/<action>@<clientId>` | the bridge: the answer |
| `dh/notification/<networkId>/<deviceTypeId>/<deviceId>/<name>`, `dh/command/…`, `dh/command_update/…` | the bridge |

Inbound and outbound topics never overlap, so nothing unchecked is handed on. Topics outside of `dh/` are the broker's
own business. Brokers do not tell a subscriber who published: the client id is in the topic, and the broker lets each
client publish to its own only. Plain `dh/request`, as DeviceHive has it, works where the broker adds the client id.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE

ROOT = "dh"
REQUEST, RESPONSE, INSERT = "request", "response", "insert"
KINDS = {"notification": NOTIFICATION, "command": COMMAND, "command_update": UPDATE}
_WORDS = {kind: word for word, kind in KINDS.items()}
RESERVED = frozenset({REQUEST, RESPONSE, INSERT, *KINDS})
"""Second levels below `dh` that mean something."""
INBOUND = (f"{ROOT}/{REQUEST}/#", f"{ROOT}/{INSERT}/#")
"""What the bridge subscribes to."""

MAX_CLIENT_ID = 128

_UNSAFE = re.compile(r"[%/+#\x00]")
_BAD_CLIENT_ID = re.compile(r"[/+#@%\s\x00-\x1f\x7f]")


class Request(NamedTuple):
    """A request of the WebSocket API. client_id None: the topic does not tell."""

    client_id: str | None


class Insert(NamedTuple):
    device_id: str
    name: str


def shared(group: str) -> tuple[str, ...]:
    """`INBOUND`, for one of several that share it (MQTT 5.0, 4.8.2)."""
    return tuple(f"$share/{group}/{filter_}" for filter_ in INBOUND)


def escape(text: str, also: str = "") -> str:
    """A name as one level of a topic: what has a meaning in topics is percent-encoded. also: characters that the
    broker gives one, `.` and `*` for RabbitMQ."""

    def code(found: re.Match[str]) -> str:
        return f"%{ord(found[0]):02X}"

    escaped = _UNSAFE.sub(code, text)
    return re.sub(f"[{re.escape(also)}]", code, escaped) if also else escaped


def is_client_id(text: str) -> bool:
    """Whether a client may have it: what breaks topics, or is nobody's, is refused."""
    return 0 < len(text) <= MAX_CLIENT_ID and not _BAD_CLIENT_ID.search(text)


def inbound(topic: str) -> Request | Insert | None:
    """What a topic that a client published to asks for. None: nothing of ours."""
    levels = topic.split("/")
    if levels[0] != ROOT or len(levels) < 2:
        return None
    if levels[1] == REQUEST and len(levels) <= 3:
        client_id = levels[2] if len(levels) == 3 else None
        return Request(client_id) if client_id is None or is_client_id(client_id) else None
    if levels[1:3] == [INSERT, "notification"] and len(levels) == 5 and all(levels[3:]):
        try:
            return Insert(levels[3], unquote(levels[4], errors="strict"))
        except UnicodeDecodeError:
            return None
    return None


def event(kind: int, network_id: int, device_type_id: int, device_id: str, name: str, also: str = "") -> str:
    """Where a message goes out. kind: of `skep.wire.messages`; also: see `escape`."""
    return f"{ROOT}/{_WORDS[kind]}/{network_id}/{device_type_id}/{device_id}/{escape(name, also)}"


def response(action: str, client_id: str) -> str:
    """Where the answer to a request goes. The action's slashes are levels."""
    return f"{ROOT}/{RESPONSE}/{action}@{client_id}"
