"""WebSocket API: what is sent, who sends it, what comes back (reference: rest-and-websocket-api.md 5).

In a reply `...` stands for any value. The devices are "mine" (network 1) and "other" (network 2); the client is a
member of network 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

ANY = ...
MALFORMED = {"code": 400, "status": "error", "error": "Malformed Json received."}


class Case(NamedTuple):
    name: str
    who: str | None
    sent: str
    reply: dict[str, Any]


def failed(action: str | None, code: int, error: str, request_id: object = 1) -> dict[str, Any]:
    return {"action": action, "requestId": request_id, "code": code, "status": "error", "error": error}


def done(action: str, **fields: object) -> dict[str, Any]:
    return {"action": action, "requestId": 1, "status": "success", **fields}


def sent(action: str, fields: str) -> str:
    return f'{{"action":"{action}","requestId":1,{fields}}}'


NO_DEVICE = "Device with such deviceId = nowhere not found"
DENIED = "Access is denied"
TOKENS = {"accessToken": ANY, "refreshToken": ANY}
DEVICE = {"id": "mine", "name": "Mine", "data": None, "networkId": 1, "deviceTypeId": 1, "isBlocked": False}
DEEP = (
    '{"action":"notification/insert","requestId":1,"deviceId":"mine","notification":{"notification":"n","parameters":'
)
INSERT = '{"action":"notification/insert","requestId":1,"deviceId":"mine","notification":'
COMMAND = '{"action":"command/insert","requestId":1,"deviceId":"mine","command":'

CASES = [
    # -- what is no request
    Case("not json", None, "hello", MALFORMED),
    Case("empty", None, "", MALFORMED),
    Case("truncated", None, '{"action":"server/info"', MALFORMED),
    Case("array", None, '[{"action":"server/info"}]', MALFORMED),
    Case("scalar", None, "5", MALFORMED),
    Case("two objects", None, "{} {}", MALFORMED),
    Case("byte order mark", None, '\ufeff{"action":"server/info"}', MALFORMED),
    Case("very deep", None, "[" * 100_000, MALFORMED),
    Case("deep parameters", "admin", DEEP + '{"a":' * 64 + "1" + "}" * 66, MALFORMED),
    Case("NaN", "admin", INSERT + '{"notification":"n","parameters":{"a":NaN}}}', MALFORMED),
    Case("half a surrogate pair", "admin", INSERT + '{"notification":"n","parameters":{"a":"\\ud800"}}}', MALFORMED),
    # -- the envelope
    Case("no action", None, '{"requestId":1}', failed(None, 400, "Illegal argument: null")),
    Case("unknown action", None, '{"action":"x/y","requestId":1}', failed("x/y", 400, "Illegal argument: x/y")),
    Case("action is a number", None, '{"action":5,"requestId":1}', failed(5, 400, "Illegal argument: 5")),  # type: ignore[arg-type]
    Case("no request id", None, '{"action":"authenticate"}', failed("authenticate", 401, "Unauthorized", None)),
    Case(
        "request id is an object",
        None,
        '{"requestId":{"a":[1.50]},"action":"authenticate","token":""}',
        failed("authenticate", 401, "Unauthorized", {"a": [1.5]}),
    ),
    Case(
        "request id is too long",
        None,
        '{"action":"server/info","requestId":"' + "x" * 1100 + '"}',
        failed("server/info", 400, "Invalid request parameters", None),
    ),
    # -- public
    Case(
        "server/info",
        None,
        '{"action":"server/info","requestId":1}',
        done(
            "server/info",
            info={"apiVersion": "3.5.0", "serverTimestamp": ANY, "restServerUrl": ANY},
        ),
    ),
    Case(
        "cluster/info",
        None,
        '{"action":"cluster/info","requestId":1}',
        done("cluster/info", clusterInfo={"bootstrap.servers": ANY, "zookeeper.connect": ANY}),
    ),
    Case(
        "authenticate with a bad token",
        None,
        '{"action":"authenticate","requestId":1,"token":"nonsense"}',
        failed("authenticate", 401, "Invalid credentials"),
    ),
    Case(
        "token/refresh without one",
        None,
        '{"action":"token/refresh","requestId":1}',
        failed("token/refresh", 400, "Missing or invalid payload in request"),
    ),
    Case(
        "token/refresh that REST refuses without a word",
        None,
        '{"action":"token/refresh","requestId":1,"refreshToken":"x"}',
        failed("token/refresh", 401, "Unauthorized"),
    ),
    # -- permission before parameters
    Case("anonymous", None, '{"action":"device/list","requestId":1}', failed("device/list", 401, "Unauthorized")),
    Case(
        "anonymous with wrong types",
        None,
        '{"action":"device/list","requestId":1,"take":"x"}',
        failed("device/list", 401, "Unauthorized"),
    ),
    Case(
        "wrong types",
        "admin",
        '{"action":"device/list","requestId":1,"take":"x"}',
        failed("device/list", 400, "Malformed Json received."),
    ),
    Case(
        "wrong type of a field the action does not use",
        "admin",
        '{"action":"server/info","requestId":1,"networkId":"x"}',
        failed("server/info", 400, "Malformed Json received."),
    ),
    Case(
        "foreign device", "client", INSERT.replace("mine", "other") + "{}}", failed("notification/insert", 403, DENIED)
    ),
    Case(
        "missing device, client",
        "client",
        '{"action":"device/get","requestId":1,"deviceId":"nowhere"}',
        failed("device/get", 403, DENIED),
    ),
    Case(
        "missing device, admin",
        "admin",
        '{"action":"device/get","requestId":1,"deviceId":"nowhere"}',
        failed("device/get", 404, NO_DEVICE),
    ),
    # -- devices
    Case(
        "device/get",
        "client",
        '{"action":"device/get","requestId":1,"deviceId":"mine"}',
        done("device/get", device=DEVICE),
    ),
    Case(
        "device/get without an id",
        "admin",
        '{"action":"device/get","requestId":1}',
        failed("device/get", 400, "Device id is wrong or empty"),
    ),
    Case(
        "device id is a number",
        "admin",
        '{"action":"device/get","requestId":1,"deviceId":404}',
        failed("device/get", 404, "Device with such deviceId = 404 not found"),
    ),
    Case(
        "device/save without a device",
        "admin",
        '{"action":"device/save","requestId":1,"deviceId":"mine"}',
        failed("device/save", 400, "Device is required"),
    ),
    Case(
        "negative take",
        "admin",
        '{"action":"device/list","requestId":1,"take":-1}',
        failed("device/list", 400, "Malformed Json received."),
    ),
    # -- notifications
    Case(
        "notification/insert",
        "client",
        INSERT + '{"notification":"n","parameters":{"a":1}}}',
        done("notification/insert", notification={"id": ANY, "timestamp": ANY}),
    ),
    Case(
        "notification/insert with a time",
        "client",
        INSERT + '{"notification":"n","timestamp":"2026-01-01T00:00:00.000Z","id":5,"more":[]}}',
        done("notification/insert", notification={"id": ANY, "timestamp": ANY}),
    ),
    Case(
        "no notification",
        "client",
        '{"action":"notification/insert","requestId":1,"deviceId":"mine"}',
        failed("notification/insert", 400, "Notification is required"),
    ),
    Case("no name", "client", INSERT + "{}}", failed("notification/insert", 400, "Invalid request parameters")),
    Case(
        "parameters are a list",
        "client",
        INSERT + '{"notification":"n","parameters":[1]}}',
        failed("notification/insert", 400, "'parameters' must be JSON Object!"),
    ),
    Case(
        "bad time",
        "client",
        INSERT + '{"notification":"n","timestamp":"soon"}}',
        failed("notification/insert", 400, "Malformed Json received."),
    ),
    Case(
        "the platform's name",
        "client",
        INSERT + '{"notification":"$device-add"}}',
        failed("notification/insert", 403, ANY),
    ),  # type: ignore[arg-type]
    Case(
        "notification id is text",
        "admin",
        '{"action":"notification/get","requestId":1,"deviceId":"mine","notificationId":"x"}',
        failed("notification/get", 400, "Notification id should be an integer value."),
    ),
    Case(
        "missing notification",
        "admin",
        '{"action":"notification/get","requestId":1,"deviceId":"mine","notificationId":1}',
        failed("notification/get", 404, "Requested notification not found"),
    ),
    # -- text that no database holds
    *(
        Case(f"NUL in {action} {fields}", "admin", sent(action, fields), failed(action, 400, MALFORMED["error"]))
        for action, fields in (
            ("device/get", '"deviceId":"a\\u0000b"'),
            ("device/save", '"deviceId":"mine","device":{"name":"\\u0000"}'),
            ("device/list", '"namePattern":"\\u0000%"'),
            ("notification/insert", '"deviceId":"mine","notification":{"notification":"a\\u0000b"}'),
            ("notification/list", '"deviceId":"mine","names":["a","\\u0000"]'),
            ("notification/subscribe", '"names":["\\u0000"]'),
            ("command/insert", '"deviceId":"mine","command":{"command":"c","status":"\\u0000"}'),
            ("command/update", '"deviceId":"mine","commandId":1,"command":{"status":"\\u0000"}'),
            ("command/list", '"deviceId":"mine","status":"\\u0000"'),
            ("user/insert", '"user":{"login":"lo\\u0000gin","password":"secret-7","role":1}'),
            ("network/insert", '"network":{"name":"\\u0000"}'),
            ("configuration/put", '"name":"x","value":"\\u0000"'),
        )
    ),
    Case(
        "NUL and no permission",
        None,
        sent("device/list", '"name":"\\u0000"'),
        failed("device/list", 401, "Unauthorized"),
    ),
    Case(
        "NUL in what stays JSON",
        "client",
        INSERT + '{"notification":"\\\\u0000","parameters":{"\\u0000":"\\u0000"}}}',
        done("notification/insert", notification={"id": ANY, "timestamp": ANY}),
    ),
    Case(
        "half a surrogate pair in a name",
        "admin",
        sent("device/save", '"deviceId":"mine","device":{"name":"\\udc00"}'),
        MALFORMED,
    ),
    # -- commands
    Case(
        "command/insert",
        "client",
        COMMAND + '{"command":"on","lifetime":5,"parameters":null}}',
        done("command/insert", command={"id": ANY, "timestamp": ANY, "lastUpdated": ANY, "userId": ANY}),
    ),
    Case(
        "no command",
        "client",
        '{"action":"command/insert","requestId":1,"deviceId":"mine"}',
        failed("command/insert", 400, "Command is required"),
    ),
    Case(
        "command/update without an id",
        "client",
        '{"action":"command/update","requestId":1,"deviceId":"mine","command":{}}',
        failed("command/update", 400, "Command id is wrong or empty"),
    ),
    Case(
        "unknown sort field",
        "admin",
        '{"action":"command/list","requestId":1,"deviceId":"mine","sortField":"password"}',
        failed("command/list", 400, "Invalid request parameters"),
    ),
    # -- subscriptions
    Case(
        "subscribe to an empty device id",
        "admin",
        '{"action":"notification/subscribe","requestId":1,"deviceId":""}',
        failed("notification/subscribe", 400, "Device id is wrong or empty"),
    ),
    Case(
        "subscribe to a missing device, admin",
        "admin",
        '{"action":"command/subscribe","requestId":1,"deviceId":"nowhere"}',
        failed("command/subscribe", 404, NO_DEVICE),
    ),
    Case(
        "subscribe to a missing network, admin",
        "admin",
        '{"action":"notification/subscribe","requestId":1,"networkIds":[1,987654]}',
        failed("notification/subscribe", 404, "Networks with such networkIds wasn't found: {[987654]}"),
    ),
    Case(
        "subscribe to a foreign network, client",
        "client",
        '{"action":"notification/subscribe","requestId":1,"networkIds":[2]}',
        failed("notification/subscribe", 403, DENIED),
    ),
    Case(
        "names are text",
        "admin",
        '{"action":"notification/subscribe","requestId":1,"names":"a"}',
        failed("notification/subscribe", 400, "Malformed Json received."),
    ),
    Case(
        "unsubscribe what is not there",
        "admin",
        '{"action":"notification/unsubscribe","requestId":1,"subscriptionId":5}',
        failed("notification/unsubscribe", 404, "Subscription with id 5 was not found"),
    ),
    Case(
        "no subscriptions",
        "admin",
        '{"action":"subscription/list","requestId":1}',
        done("subscription/list", subscriptions=[]),
    ),
]


def matches(expected: object, actual: object) -> bool:
    """`...` matches anything; objects have exactly the keys expected."""
    if expected is ANY:
        return True
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(matches(v, actual[k]) for k, v in expected.items())
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(matches, expected, actual))
    return expected == actual and type(expected) is type(actual)
