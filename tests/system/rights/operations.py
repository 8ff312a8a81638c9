"""The operations of both transports by their WebSocket name, and what each is aimed at.

Routes and actions themselves come from the product's tables: one that is not here is an error, so that a new one does
not go unjudged.
"""

from __future__ import annotations

OPERATION = dict(line.rsplit(" ", 1) for line in """
GET / server/welcome
GET /info server/info
GET /info/cache server/cacheInfo
GET /info/config/cluster cluster/info
GET /health server/health
GET /metrics server/metrics
GET /openapi.json server/openapi
POST /token token
POST /token/refresh token/refresh
POST /token/create token/create
GET /device device/list
GET /device/count device/count
GET /device/{deviceId} device/get
PUT /device/{deviceId} device/save
DELETE /device/{deviceId} device/delete
GET /device/notification/poll notification/poll
GET /device/{deviceId}/notification notification/list
GET /device/{deviceId}/notification/{id} notification/get
GET /device/{deviceId}/notification/poll notification/pollDevice
POST /device/{deviceId}/notification notification/insert
GET /device/command/poll command/poll
GET /device/{deviceId}/command command/list
GET /device/{deviceId}/command/{commandId} command/get
GET /device/{deviceId}/command/poll command/pollDevice
GET /device/{deviceId}/command/{commandId}/poll command/wait
POST /device/{deviceId}/command command/insert
PUT /device/{deviceId}/command/{commandId} command/update
GET /network network/list
GET /network/count network/count
GET /network/{id} network/get
POST /network network/insert
PUT /network/{id} network/update
DELETE /network/{id} network/delete
GET /devicetype devicetype/list
GET /devicetype/count devicetype/count
GET /devicetype/{id} devicetype/get
POST /devicetype devicetype/insert
PUT /devicetype/{id} devicetype/update
DELETE /devicetype/{id} devicetype/delete
GET /user user/list
GET /user/count user/count
GET /user/current user/getCurrent
PUT /user/current user/updateCurrent
POST /user/current/mqtt user/makeOwnMqttPassword
DELETE /user/current/mqtt user/takeOwnMqttPassword
GET /user/{id} user/get
POST /user user/insert
PUT /user/{id} user/update
DELETE /user/{id} user/delete
POST /user/{id}/mqtt user/makeMqttPassword
DELETE /user/{id}/mqtt user/takeMqttPassword
GET /user/{id}/network/{networkId} user/getNetwork
PUT /user/{id}/network/{networkId} user/assignNetwork
DELETE /user/{id}/network/{networkId} user/unassignNetwork
GET /user/{id}/devicetype user/getDeviceTypes
GET /user/{id}/devicetype/{deviceTypeId} user/getDeviceType
PUT /user/{id}/devicetype/{deviceTypeId} user/assignDeviceType
DELETE /user/{id}/devicetype/{deviceTypeId} user/unassignDeviceType
PUT /user/{id}/devicetype/all user/allowAllDeviceTypes
DELETE /user/{id}/devicetype/all user/disallowAllDeviceTypes
GET /configuration/{name} configuration/get
PUT /configuration/{name} configuration/put
DELETE /configuration/{name} configuration/delete
GET /plugin plugin/list
GET /plugin/count plugin/count
POST /plugin plugin/insert
PUT /plugin plugin/update
DELETE /plugin plugin/delete
POST /token/plugin/create token/plugin/create
GET /token/plugin/authenticate token/plugin/authenticate
""".strip().splitlines())  # fmt: skip

DEVICE = ["device own", "device foreign", "device alien", "device blocked", "device missing"]
NETWORK = ["network own", "network foreign", "network missing"]
TYPE = ["type own", "type foreign", "type missing"]
PLUGIN = ["plugin own", "plugin foreign", "plugin missing"]
USER = ["user self", "user another", "user missing"]
PLACES = ["", *DEVICE, *NETWORK, *TYPE]
LISTED = ["", "unfiltered", "name foreign"]
NAMED = ["name present", "name missing", "name secret"]
MEMBER = ["user self network own", "user self network foreign", "user self network missing",
          "user another network own", "user another network foreign", "user missing network own"]  # fmt: skip
TYPED = [label.replace("network", "type") for label in MEMBER]
SAVED = [f"{device} network own type own" for device in DEVICE] + [
    "device own", "device missing network foreign type own", "device missing network missing type own",
    "device missing network own type foreign", "device missing network own type missing",
]  # fmt: skip
GRANTS = ["grant self", "grant other", "grant access", "grant expired", "grant disabled", "grant missing"]
"""Refresh tokens that are shown."""
_PLAIN = [
    "server/welcome", "server/info", "server/cacheInfo", "cluster/info", "server/health", "server/metrics",
    "server/openapi", "authenticate", "subscription/list",
    "notification/unsubscribe", "command/unsubscribe", "network/insert", "devicetype/insert", "user/insert",
    "user/getCurrent", "user/updateCurrent", "user/makeOwnMqttPassword", "user/takeOwnMqttPassword",
]  # fmt: skip
AIMS: dict[str, list[str]] = {
    **{operation: [""] for operation in _PLAIN},
    **{f"{noun}/{verb}": LISTED for noun in ("device", "network", "devicetype", "user") for verb in ("list", "count")},
    **{f"device/{verb}": DEVICE for verb in ("get", "delete")},
    **{f"notification/{verb}": DEVICE for verb in ("list", "get", "insert", "pollDevice")},
    **{f"command/{verb}": DEVICE for verb in ("list", "get", "insert", "update", "pollDevice", "wait")},
    **{f"{noun}/{verb}": PLACES for noun in ("notification", "command") for verb in ("poll", "subscribe")},
    **{f"network/{verb}": NETWORK for verb in ("get", "update", "delete")},
    **{f"devicetype/{verb}": TYPE for verb in ("get", "update", "delete")},
    **{f"user/{verb}": USER for verb in ("get", "update", "delete", "getDeviceTypes")},
    **{f"user/{verb}MqttPassword": USER for verb in ("make", "take")},
    **{f"user/{verb}": USER for verb in ("allowAllDeviceTypes", "disallowAllDeviceTypes")},
    **{f"user/{verb}Network": MEMBER for verb in ("get", "assign", "unassign")},
    **{f"user/{verb}DeviceType": TYPED for verb in ("get", "assign", "unassign")},
    **{f"configuration/{verb}": NAMED for verb in ("get", "put", "delete")},
    **{f"plugin/{verb}": PLUGIN for verb in ("get", "update", "delete")},
    **{f"plugin/{verb}": ["", *PLUGIN, *USER] for verb in ("list", "count")},
    "plugin/insert": ["", *NETWORK, "type missing", "device foreign", "device missing"],
    "token/plugin/create": PLUGIN,
    "token/plugin/authenticate": ["plugin missing"],
    "device/save": SAVED,
    "token": ["blank"],
    "token/refresh": GRANTS,
    "token/create": [*USER, "user disabled"],
}
"""By operation: labels of what it is aimed at, kind and which one."""


def brief(labels: list[str]) -> list[str]:
    """Own, foreign and missing, once each."""
    found = labels[:1]
    for words in (("foreign", "another", "expired"), ("missing", "secret")):
        found += [label for label in labels if label not in found and label.split()[-1] in words][:1]
    return found


CHANGING = ("save", "insert", "update", "updateCurrent", "delete", "assign", "unassign", "allow", "disallow", "put",
            "make", "take")  # fmt: skip
QUIET = ("notification/insert", "command/insert", "command/update", "notification/unsubscribe", "command/unsubscribe")
"""They change nothing that another cell would see."""


def changes(operation: str) -> bool:
    """Whether its success changes the world."""
    return operation not in QUIET and operation.partition("/")[2].startswith(CHANGING)
