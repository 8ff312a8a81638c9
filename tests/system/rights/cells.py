"""One question of the matrix: who asks for what, aimed at what, and how that is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from tests.system.rights.callers import Caller
from tests.system.rights.operations import AIMS, brief
from tests.system.rights.world import World


class Target:
    """What is named, by kind: ids, None where nothing is. `label` as in AIMS."""

    def __init__(self, operation: str, label: str, caller: Caller, world: World) -> None:
        words = label.split()
        told = dict(zip(words[::2], words[1::2], strict=False))
        self.label = label
        self.device = world.device(told["device"]) if "device" in told else None
        self.network = world.network.get(told.get("network", ""))
        self.type = world.type.get(told.get("type", ""))
        self.user = _user(operation, told["user"], caller, world) if "user" in told else None
        self.name = _name(operation, told["name"], world) if "name" in told else None
        self.plugin = world.topic.get(told.get("plugin", ""))
        self.owner = world.plugins[self.plugin].owner if self.plugin in world.plugins else None
        self.login: str | None = None
        self.grant = _grant(told["grant"], world) if "grant" in told else None


def targets(operation: str, caller: Caller, world: World) -> Iterator[Target]:
    """Raises KeyError for an operation without an aim."""
    for label in brief(AIMS[operation]) if caller.is_brief else AIMS[operation]:
        yield Target(operation, label, caller, world)


def _user(operation: str, label: str, caller: Caller, world: World) -> int:
    own = caller.user.id if caller.user is not None else world.person["client"]
    if label == "self":
        return own
    if label == "another":
        label = "typed" if "DeviceType" in operation else "other"
        label = label if world.person[label] != own else "client"
    return world.person[label]


def _name(operation: str, label: str, world: World) -> str:
    kind = {"device": "dev", "network": "net", "devicetype": "typ", "user": "usr", "configuration": "conf"}
    label = {"own": "client", "foreign": "other"}.get(label, label) if operation.startswith("user") else label
    return f"{world.mark}-{kind[operation.partition('/')[0]]}-{label}"


def _grant(label: str, world: World) -> dict[str, Any]:
    """The payload of a token that is shown as a refresh token."""
    person = {"self": "client", "access": "client", "expired": "client"}.get(label, label)
    expires = 1_000_000_000_000 if label == "expired" else 4_000_000_000_000
    kind = 1 if label == "access" else 0
    return {"u": world.person[person], "a": [3], "n": ["*"], "dt": ["*"], "e": expires, "t": kind}


@dataclass(frozen=True)
class Cell:
    """entry: frontend, auth or websocket. route: of REST, as the product's table names it."""

    entry: str
    operation: str
    route: str
    caller: Caller
    target: Target
    world: World

    def __str__(self) -> str:
        aimed = self.target.label or "nothing"
        return f"{self.entry} {self.route or self.operation} at {aimed} by {self.caller.name}"

    # -- REST -----------------------------------------------------------------------------------------------------

    @property
    def method(self) -> str:
        return self.route.partition(" ")[0]

    @property
    def path(self) -> str:
        t, path = self.target, self.route.partition(" ")[2]
        ids = {"{deviceId}": t.device, "{networkId}": t.network, "{deviceTypeId}": t.type, "{name}": t.name}
        first = path.split("/")[1]
        ids["{commandId}"] = self._message("command")
        by = {"network": t.network, "devicetype": t.type, "user": t.user, "device": self._message("notification")}
        ids["{id}"] = by.get(first)
        for name, id in ids.items():
            path = path.replace(name, quote(str(id)))
        query = urlencode({k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in self._options().items()})
        return f"{path}?{query}" if query else path

    @property
    def body(self) -> bytes | None:
        body = self._body() if self.route != "PUT /plugin" else None
        return None if body is None else json.dumps(body).encode()

    # -- WebSocket ------------------------------------------------------------------------------------------------

    @property
    def message(self) -> dict[str, Any]:
        t, noun = self.target, self.operation.partition("/")[0]
        sent = {"deviceId": t.device, "userId": t.user, "name": t.name, "topicName": t.plugin}
        if not self.operation.endswith(("/subscribe", "plugin/insert")):
            sent |= {"networkId": t.network, "deviceTypeId": t.type}
        if self.operation in ("notification/get", "command/get", "command/update"):
            sent[f"{noun}Id"] = self._message(noun)
        if self.operation == "authenticate":
            sent["token"] = self.caller.token
        body = self._body()
        if body is not None:
            key = {"devicetype": "deviceType", "token": "payload", "configuration": "", "": ""}.get(noun, noun)
            sent |= {key: body} if key and self.operation not in ("token", "token/refresh") else body
        sent = {key: value for key, value in (sent | self._options()).items() if value is not None}
        return {"action": self.operation, **sent}

    # -- both -----------------------------------------------------------------------------------------------------

    def _message(self, kind: str) -> int:
        """The stored one of the device; of a missing device any."""
        return self.world.messages.get((kind, self.target.device or ""), 1)

    def _options(self) -> dict[str, Any]:
        t, verb, mark = self.target, self.operation.partition("/")[2], self.world.mark
        noun = self.operation.partition("/")[0]
        if verb in ("list", "count") and noun in ("device", "network", "devicetype", "user"):
            key = "login" if noun == "user" else "name"
            options: dict[str, Any] = {"take": 1000} if verb == "list" else {}
            if t.name is not None:
                return options | {key: t.name}
            return options | ({} if t.label == "unfiltered" else {f"{key}Pattern": f"{mark}-%"})
        if verb == "delete" and noun in ("network", "devicetype"):
            return {"force": "true"} if self.route else {"force": True}
        if verb == "wait":
            return {"waitTimeout": 0}
        if verb.startswith("poll"):
            places = {"deviceId": t.device if verb == "poll" else None, **self._places()}
            since = {"waitTimeout": 0, "timestamp": 1, "names": [f"{mark}stored"]}
            return {k: v for k, v in places.items() if v is not None} | since
        if noun == "plugin" or verb == "plugin/authenticate":
            return self._plugin_options(verb)
        if verb == "subscribe":
            return {"names": [f"{mark}never"], **self._places()}
        return {}

    def _plugin_options(self, verb: str) -> dict[str, Any]:
        t, mark = self.target, self.world.mark
        if verb == "plugin/authenticate":
            claims = {"a": [16], "t": 1, "e": 4_000_000_000_000, "tpc": t.plugin}
            return {"token": self.world.sign(claims)}
        options: dict[str, Any] = {"topicName": t.plugin}
        if verb in ("list", "count"):
            options |= {"userId": t.user, "namePattern": f"{mark}-%"}
        elif verb == "insert":
            options |= {"deviceId": t.device, **self._places()}
        elif verb == "update" and self.route:
            options |= {"description": "of a cell"}
        return {key: value for key, value in options.items() if value is not None}

    def _places(self) -> dict[str, Any]:
        t = self.target
        networks = None if t.network is None else [t.network]
        return {"networkIds": networks, "deviceTypeIds": None if t.type is None else [t.type]}

    def _body(self) -> dict[str, Any] | None:
        t, mark = self.target, self.world.mark
        save = {"name": t.device, "networkId": t.network, "deviceTypeId": t.type}
        create = {"userId": t.user, "actions": ["*"], "networkIds": ["*"], "deviceTypeIds": ["*"]}
        bodies: dict[str, dict[str, Any]] = {
            "device/save": {key: value for key, value in save.items() if value is not None},
            "network/insert": {"name": f"{mark}-net-new"},
            "network/update": {"description": "changed"},
            "devicetype/insert": {"name": f"{mark}-typ-new"},
            "devicetype/update": {"description": "changed"},
            "user/insert": {"login": f"{mark}-usr-new", "password": "of a cell", "role": 1},
            "user/update": {"introReviewed": True},
            "user/updateCurrent": {"introReviewed": True},
            "notification/insert": {"notification": "of-a-cell"},
            "command/insert": {"command": "of-a-cell"},
            "command/update": {"status": "of-a-cell"},
            "configuration/put": {"value": "2"},
            "plugin/insert": {"name": f"{mark}-plg-new"},
            "plugin/update": {"description": "of a cell"},
            "token/plugin/create": {"tpc": t.plugin},
            "token": {"login": t.login or "", "password": "none"},
            "token/refresh": {"refreshToken": self.world.sign(t.grant) if t.grant else ""},
            "token/create": create,
        }
        return bodies.get(self.operation)
