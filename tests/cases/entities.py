"""WebSocket API: networks, device types, users, configuration (reference: rest-and-websocket-api.md 5.4).

Networks and device types 1 and 2 exist. Users: "admin" 1; "client" 2, a member of network 1; 3, a member of network 2
with device type 2 only. "manager" is the client with a token for every action. Of the administrator's narrowed tokens
"narrow" is for network 1 and device type 1, "networked" for network 1, "personnel" for users only.
"""

from __future__ import annotations

import json
from typing import Any

from skep.access import User
from tests.cases.websocket import ANY, DENIED, MALFORMED, Case, done, failed

NETWORK = {"id": 1, "name": "Network 1", "description": None}
TYPE = {"id": 1, "name": "Device type 1", "description": None}
MINE = {"id": "mine", "name": "Mine", "data": None, "isBlocked": False}
CLIENT = {
    "id": 2,
    "login": "client",
    "role": 1,
    "status": 0,
    "lastLogin": None,
    "data": {"a": 1},
    "introReviewed": False,
    "allDeviceTypesAvailable": True,
}
OTHER = {"id": 3, "login": "other", "data": None, "allDeviceTypesAvailable": False, "networks": []}
CREATED = {"id": 4, "lastLogin": None, "data": None, "introReviewed": False, "allDeviceTypesAvailable": True}
NEW = {"login": "newcomer", "password": "secret-7", "role": 1}
NO_ADMIN = "Admin permissions required for this action"
NO_USER = "User with id = 3 not found"
BAD_LOGIN = "Field cannot be empty. The length of login should be from 3 to 128 symbols."
BAD_PASSWORD = "Password can contain only from 6 to 128 symbols!"
NO_CONFIG = "Requested config with name = {} not found in the database"


def member(*networks: int) -> User:
    """The client as a member of these."""
    return User(2, "client", 1, 0, frozenset(networks))


def sent(action: str, **fields: Any) -> str:
    return json.dumps({"action": action, "requestId": 1, **fields})


def good(who: str, action: str, fields: dict[str, Any], **result: Any) -> Case:
    return Case(f"{action} {fields} by {who}", who, sent(action, **fields), done(action, **result))


def bad(who: str | None, action: str, fields: dict[str, Any], code: int, error: Any) -> Case:
    return Case(f"{action} {fields} by {who} is {code}", who, sent(action, **fields), failed(action, code, error))


def containers(prefix: str, key: str, noun: str, first: dict[str, Any]) -> list[Case]:
    """What networks and device types have in common."""
    one, two, none = ({f"{key}Id": id} for id in (1, 2, 9))
    second = first | {"id": 2, "name": f"{noun} 2"}
    missing, invalid = f"{noun} with id = 9 not found", "Invalid request parameters. Id cannot be specified."
    name, is_empty = {key: {"name": "x"}}, f"{noun} id is wrong or empty"
    return [
        bad(None, f"{prefix}/list", {}, 401, "Unauthorized"),
        good("admin", f"{prefix}/list", {}, **{f"{key}s": [first, second]}),
        good("narrow", f"{prefix}/list", {}, **{f"{key}s": [first]}),
        good("admin", f"{prefix}/count", {}, count=2),
        good("narrow", f"{prefix}/count", {}, count=1),
        bad("admin", f"{prefix}/list", {"sortOrder": "up"}, 400, "Invalid request parameters"),
        bad("admin", f"{prefix}/list", {"take": -1}, 400, "Malformed Json received."),
        good("narrow", f"{prefix}/get", one, **{key: first | {"devices": [MINE]}}),
        bad("narrow", f"{prefix}/get", two, 403, DENIED),
        bad("narrow", f"{prefix}/get", none, 403, DENIED),
        bad("admin", f"{prefix}/get", none, 404, missing),
        bad("admin", f"{prefix}/get", {}, 400, is_empty),
        good("admin", f"{prefix}/insert", {key: {"name": "x", "id": None}}, **{key: {"id": 3}}),
        bad("admin", f"{prefix}/insert", {key: {"name": "x", "id": 5}}, 400, invalid),
        bad("admin", f"{prefix}/insert", {}, 400, f"{noun} is required"),
        bad("client", f"{prefix}/insert", {}, 403, DENIED),
        good("narrow", f"{prefix}/update", one | name),
        bad("narrow", f"{prefix}/update", two | name, 403, DENIED),
        bad("admin", f"{prefix}/update", none | name, 404, missing),
        bad("admin", f"{prefix}/update", one, 400, f"{noun} is required"),
        bad("admin", f"{prefix}/update", name, 400, is_empty),
        bad("client", f"{prefix}/update", one | name, 403, DENIED),
        good("narrow", f"{prefix}/delete", one | {"force": True}),
        bad("narrow", f"{prefix}/delete", two | {"force": True}, 403, DENIED),
        bad("admin", f"{prefix}/delete", none, 404, missing),
        bad("admin", f"{prefix}/delete", {}, 400, is_empty),
        bad("client", f"{prefix}/delete", one, 403, DENIED),
    ]


USERS = [
    bad("client", "user/list", {}, 403, DENIED),
    good("manager", "user/list", {}, users=[CLIENT]),
    good("manager", "user/count", {}, count=1),
    good("admin", "user/count", {}, count=3),
    good("admin", "user/get", {"userId": 2}, user=CLIENT | {"networks": [NETWORK]}),
    good("manager", "user/get", {"userId": 2}, user=CLIENT | {"networks": [NETWORK]}),
    bad("manager", "user/get", {"userId": 3}, 404, NO_USER),
    bad("admin", "user/get", {"userId": 9}, 404, "User with id = 9 not found"),
    bad("admin", "user/get", {}, 400, "User id is wrong or empty"),
    bad("admin", "user/get", {"userId": "x"}, 400, "Malformed Json received."),
    good("client", "user/getCurrent", {}, current=CLIENT | {"networks": [NETWORK]}),
    good("narrow", "user/get", {"userId": 3}, user=CLIENT | OTHER),
    good("admin", "user/insert", {"user": NEW}, user=CREATED),
    good("manager", "user/insert", {"user": NEW}, user=CREATED),
    good("admin", "user/insert", {"user": NEW | {"role": 0, "password": 1111111}}, user=CREATED),
    bad("manager", "user/insert", {"user": NEW | {"role": 0}}, 403, NO_ADMIN),
    bad("client", "user/insert", {"user": NEW}, 403, DENIED),
    bad("admin", "user/insert", {}, 400, "User is required"),
    bad("admin", "user/insert", {"user": NEW | {"role": None}}, 400, "User role is invalid or empty"),
    bad("admin", "user/insert", {"user": NEW | {"login": " ab "}}, 400, BAD_LOGIN),
    bad("admin", "user/insert", {"user": NEW | {"password": "short"}}, 400, BAD_PASSWORD),
    bad("admin", "user/insert", {"user": NEW | {"data": []}}, 400, "'parameters' must be JSON Object!"),
    good("admin", "user/update", {"userId": 3, "user": {"status": 2}}),
    bad("admin", "user/update", {"userId": 9, "user": {"status": 2}}, 404, "User with id = 9 not found"),
    bad("admin", "user/update", {"userId": 3}, 400, "User is required"),
    bad("manager", "user/update", {"userId": 3, "user": {"password": "of-another"}}, 404, NO_USER),
    bad("manager", "user/update", {"userId": 2, "user": {"role": 0}}, 403, NO_ADMIN),
    good("client", "user/updateCurrent", {"user": {"password": "another", "data": None}}),
    bad("client", "user/updateCurrent", {"user": {"status": 0, "password": "x"}}, 403, NO_ADMIN),
    bad("client", "user/updateCurrent", {"user": {"login": "admin2"}}, 403, NO_ADMIN),
    bad("client", "user/updateCurrent", {"user": {"password": "x"}}, 400, BAD_PASSWORD),
    good("admin", "user/delete", {"userId": 3}),
    bad("admin", "user/delete", {"userId": 1}, 403, ANY),
    bad("manager", "user/delete", {"userId": 2}, 403, ANY),
    bad("manager", "user/delete", {"userId": 3}, 404, NO_USER),
    bad("client", "user/delete", {"userId": 3}, 403, DENIED),
]

ALL = {"allDeviceTypesAvailable": True}
NARROWED = [
    # no administrators
    bad("personnel", "user/insert", {"user": NEW | {"role": 0}}, 403, NO_ADMIN),
    bad("networked", "user/insert", {"user": NEW | {"role": 0}}, 403, NO_ADMIN),
    bad("personnel", "user/update", {"userId": 2, "user": {"role": 0}}, 403, DENIED),
    good("personnel", "user/update", {"userId": 2, "user": {"password": "another", "status": 2}}),
    good("personnel", "user/delete", {"userId": 3}),
    # not the own ones: whoever knows the password is everything that the user is
    *(
        bad("personnel", action, target | {"user": change}, 403, DENIED)
        for action, target in (("user/update", {"userId": 1}), ("user/updateCurrent", {}))
        for change in ({"password": "another"}, {"login": "another"}, {"status": 2}, {"role": 1})
    ),
    good("personnel", "user/updateCurrent", {"user": {"data": {}, "login": "admin", "role": 0, "status": 0}}),
    good("admin", "user/updateCurrent", {"user": {"password": "another"}}),
    # no clients that see more
    good("networked", "user/insert", {"user": NEW}, user=CREATED),
    bad("narrow", "user/insert", {"user": NEW | ALL}, 403, NO_ADMIN),
    good("narrow", "user/insert", {"user": NEW | {"allDeviceTypesAvailable": False}}, user=ANY),
    good("networked", "user/update", {"userId": 2, "user": {"password": "another"}}),
    bad("narrow", "user/update", {"userId": 2, "user": {"password": "another"}}, 403, DENIED),
    bad("networked", "user/update", {"userId": 3, "user": {"data": {}}}, 403, DENIED),
    bad("networked", "user/delete", {"userId": 3}, 403, DENIED),
    # nothing to others that they would use where the token does not reach
    bad("narrow", "user/assignNetwork", {"userId": 2, "networkId": 1}, 403, DENIED),
    good("networked", "user/assignNetwork", {"userId": 3, "networkId": 1}),
    good("narrow", "user/assignNetwork", {"userId": 1, "networkId": 1}),
    good("narrow", "user/unassignNetwork", {"userId": 2, "networkId": 1}),
    bad("networked", "user/assignDeviceType", {"userId": 3, "deviceTypeId": 1}, 403, DENIED),
    bad("networked", "user/allowAllDeviceTypes", {"userId": 3}, 403, DENIED),
    good("networked", "user/disallowAllDeviceTypes", {"userId": 3}),
    bad("networked", "user/update", {"userId": 9, "user": {"data": {}}}, 404, "User with id = 9 not found"),
]

MEMBERS = {"userId": 2, "networkId": 1}
NOT_OF_3 = "Network with id 1 for user with id 3 was not found"
NO_TYPE = "Device type with id 1 for user with id 3 not found"
MEMBERSHIPS = [
    good("client", "user/getNetwork", MEMBERS, network={"network": NETWORK}),
    bad("client", "user/getNetwork", {"userId": 1, "networkId": 1}, 404, "User with id = 1 not found"),
    bad("admin", "user/getNetwork", {"userId": 3, "networkId": 1}, 404, NOT_OF_3),
    bad("admin", "user/getNetwork", {"userId": 3}, 400, "Network id is wrong or empty"),
    bad("narrow", "user/getNetwork", {"userId": 3, "networkId": 2}, 404, NOT_OF_3.replace("1", "2")),
    good("admin", "user/assignNetwork", {"userId": 3, "networkId": 1}),
    bad("client", "user/assignNetwork", {"userId": 2, "networkId": 2}, 403, DENIED),
    bad("manager", "user/assignNetwork", {"userId": 2, "networkId": 2}, 403, DENIED),
    bad("narrow", "user/assignNetwork", {"userId": 2, "networkId": 2}, 403, DENIED),
    bad("manager", "user/assignNetwork", {"userId": 3, "networkId": 1}, 404, NO_USER),
    bad("admin", "user/assignNetwork", {"networkId": 1}, 400, "User id is wrong or empty"),
    good("admin", "user/unassignNetwork", MEMBERS),
    bad("client", "user/unassignNetwork", MEMBERS, 403, DENIED),
    good("narrow", "user/getDeviceTypes", {"userId": 3}, deviceTypes=[]),
    good("narrow", "user/getDeviceTypes", {"userId": 2}, deviceTypes=[TYPE]),
    bad("client", "user/getDeviceTypes", {"userId": 2}, 403, DENIED),
    good("client", "user/getDeviceType", {"userId": 2, "deviceTypeId": 1}, deviceType={"deviceType": TYPE}),
    bad("admin", "user/getDeviceType", {"userId": 3, "deviceTypeId": 1}, 404, NO_TYPE),
    bad("admin", "user/getDeviceType", {"userId": 3}, 400, "Device type id is wrong or empty"),
    good("admin", "user/assignDeviceType", {"userId": 3, "deviceTypeId": 1}),
    bad("narrow", "user/assignDeviceType", {"userId": 3, "deviceTypeId": 2}, 403, DENIED),
    good("admin", "user/unassignDeviceType", {"userId": 3, "deviceTypeId": 2}),
    good("admin", "user/allowAllDeviceTypes", {"userId": 3}),
    bad("narrow", "user/allowAllDeviceTypes", {"userId": 3}, 403, DENIED),
    bad("manager", "user/allowAllDeviceTypes", {"userId": 3}, 404, NO_USER),
    good("admin", "user/disallowAllDeviceTypes", {"userId": 2}),
]

VALUE = {"name": "timeout", "value": "1000", "entityVersion": 0}
CONFIGURATION = [
    good("admin", "configuration/get", {"name": "timeout"}, configuration=VALUE),
    bad("client", "configuration/get", {"name": "timeout"}, 403, DENIED),
    bad("admin", "configuration/get", {"name": "none"}, 404, NO_CONFIG.format("none")),
    bad("admin", "configuration/get", {"name": "jwt.secret"}, 404, NO_CONFIG.format("jwt.secret")),
    bad("admin", "configuration/get", {"name": ""}, 400, "Configuration name is wrong or empty"),
    good(
        "admin",
        "configuration/put",
        {"name": "timeout", "value": 5},
        configuration=VALUE | {"value": "5", "entityVersion": 1},
    ),
    bad("admin", "configuration/put", {"name": "timeout"}, 400, "Invalid request parameters"),
    bad("admin", "configuration/put", {"name": "JWT.Secret", "value": "x"}, 403, DENIED),
    good("admin", "configuration/delete", {"name": "jwt.secret"}),
    bad("admin", "configuration/delete", {"name": "none"}, 404, NO_CONFIG.format("none")),
]

CASES = [
    *containers("network", "network", "Network", NETWORK),
    *containers("devicetype", "deviceType", "Device type", TYPE),
    *USERS,
    *NARROWED,
    *MEMBERSHIPS,
    *CONFIGURATION,
    Case(
        "a user is text", "admin", sent("user/insert", user="x"), MALFORMED | {"action": "user/insert", "requestId": 1}
    ),
]
