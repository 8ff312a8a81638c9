"""Requests of the WebSocket API as MQTT clients publish them."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

INSERTS = frozenset({"notification/insert", "command/insert"})
REPEATABLE = INSERTS | {"command/update"}
"""What must not get lost, and may be asked for again while the platform can't answer."""
SUBSCRIBING = frozenset(
    {
        "notification/subscribe",
        "notification/unsubscribe",
        "command/subscribe",
        "command/unsubscribe",
        "subscription/list",
    }
)
AUTHENTICATE = "authenticate"
NO_ACTION = "error"
"""Instead of the action in the topic of an answer to what is no request."""
_API = """
authenticate cluster/info command/get command/insert command/list command/subscribe command/unsubscribe
command/update configuration/delete configuration/get configuration/put device/count device/delete device/get
device/list device/save devicetype/count devicetype/delete devicetype/get devicetype/insert devicetype/list
devicetype/update network/count network/delete network/get network/insert network/list network/update
notification/get notification/insert notification/list notification/subscribe notification/unsubscribe
plugin/count plugin/delete plugin/get plugin/insert plugin/list plugin/update server/cacheInfo server/info
subscription/list token token/create token/refresh user/allowAllDeviceTypes user/assignDeviceType
user/assignNetwork user/count user/delete user/disallowAllDeviceTypes user/get user/getCurrent
user/getDeviceType user/getDeviceTypes user/getNetwork user/insert user/list user/unassignDeviceType
user/unassignNetwork user/update user/updateCurrent
"""
ACTIONS = frozenset(_API.split()) | {NO_ACTION}
"""That answers may name: those of the WebSocket API."""
SUBSCRIBE_OTHERWISE = "Subscribe to the topics dh/notification/..., dh/command/... and dh/command_update/... instead"
MAX_ACTION = 64

_fields = msgspec.json.Decoder(dict[str, Raw])
_text = msgspec.json.Decoder(str)
_json = msgspec.json.Encoder().encode


class Request(Struct, frozen=True):
    """text: JSON, as the platform is asked. request_id: JSON."""

    action: str
    request_id: bytes
    text: bytes
    token: str = ""
    """Of `authenticate`."""


class _Refusal(Struct, rename="camel"):
    action: str
    request_id: Raw
    code: int
    status: str
    error: str


def read(payload: bytes, id: int) -> Request:
    """id: becomes the idempotency key of an insert that has none, so that the same packet is not inserted twice. What
    is no JSON object is passed on as it is: the platform says what is wrong with it."""
    try:
        fields = _fields.decode(payload)
        action = _text.decode(fields["action"])
    except (msgspec.DecodeError, KeyError, RecursionError, UnicodeDecodeError):
        return Request(NO_ACTION, b"null", payload)
    request_id = bytes(fields.get("requestId", b"null"))
    if action in INSERTS and "idempotencyKey" not in fields:
        payload = _json({**fields, "idempotencyKey": f"mqtt-{id}"})
    token = ""
    if action == AUTHENTICATE:
        try:
            token = _text.decode(fields.get("token", b""))
        except msgspec.DecodeError:
            token = ""
    return Request(_level(action), request_id, payload, token)


def refusal(request: Request, code: int, error: str) -> bytes:
    """The API's envelope for an error."""
    return _json(_Refusal(request.action, Raw(request.request_id), code, "error", error))


class _Status(Struct):
    status: str = ""
    code: int = 0


_status = msgspec.json.Decoder(_Status)


def status(reply: bytes) -> tuple[bool, int]:
    """(success, code) of a reply; code 0 with success."""
    try:
        found = _status.decode(reply)
    except msgspec.DecodeError:
        return False, 500
    return found.status == "success", found.code


def _level(action: str) -> str:
    """An action as levels of a topic: one that can't be is none."""
    safe = 0 < len(action) <= MAX_ACTION and not {"+", "#", "@", "\0"} & set(action)
    return action if safe else NO_ACTION
