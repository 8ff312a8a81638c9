"""Who may do what: written from the DeviceHive reference (2.4 to 2.7, 3, 5.4) and the project's stricter rules, for the
matrix to judge by. Imports nothing of Skep. `j` is who calls, `t` what he names (None where nothing), `w` the world."""

import time
from typing import Any

from tests.cases.refusals import refusal
from tests.cases.tokens import ACTIONS

# Actions, one of which is enough ("-": public) | checks in their order, check:refusal where that is not the check's |
# what a success shows | operations. Rows with $ are two: for notifications and commands, for networks and device types.
TABLE = """
-|||server/welcome server/info server/cacheInfo cluster/info server/health server/metrics server/openapi
-|token||authenticate; -|credentials||token
-|refresh_type refresh_lifetime refresh_user||token/refresh; ManageToken|token_for user is_active||token/create
GetDevice||devices|device/list device/count; GetDevice|device|devices|device/get
RegisterDevice|into_network into_type exists own_device removable||device/save
RegisterDevice|device removable||device/delete
GetDevice$M|device|devices|$m/list $m/get; GetDevice$M|device unblocked|devices|$m/pollDevice
GetDevice$M|device unblocked place kind|devices|$m/poll; GetDeviceCommand|device unblocked|devices|command/wait
GetDevice$M|device unblocked place kind somewhere||$m/subscribe; GetDevice$M|||$m/unsubscribe
CreateDevice$M|device unblocked||$m/insert; UpdateDeviceCommand|device unblocked||command/update
GetDeviceCommand GetDeviceNotification|||subscription/list
Get$C||$ks|$c/list $c/count; Get$C|sees_$k $k|$ks devices|$c/get; Manage$C|||$c/insert
Manage$C|sees_$k $k||$c/update; Manage$C|sees_$k $k inside deletable||$c/delete
ManageUser||users|user/list user/count; ManageUser|user|user networks_of|user/get
GetCurrentUser||user networks_of|user/getCurrent; UpdateCurrentUser|||user/updateCurrent
ManageUser|every_type:new_user||user/insert; ManageUser|user within||user/update
ManageUser|user password|user|user/makeMqttPassword; ManageUser|user password||user/takeMqttPassword
UpdateCurrentUser|password|user|user/makeOwnMqttPassword; UpdateCurrentUser|password||user/takeOwnMqttPassword
ManageUser|user not_oneself within||user/delete; GetNetwork|user member|networks|user/getNetwork
ManageNetwork|sees_network user within_types network||user/assignNetwork
ManageNetwork|sees_network user network||user/unassignNetwork
ManageDeviceType|user|types_of|user/getDeviceTypes; GetDeviceType|user typed|types|user/getDeviceType
ManageDeviceType|sees_type user within_networks type limited||user/assignDeviceType
ManageDeviceType|sees_type user type limited||user/unassignDeviceType
ManageDeviceType|every_type user within_networks||user/allowAllDeviceTypes
ManageDeviceType|every_type user||user/disallowAllDeviceTypes
ManageConfiguration|configuration||configuration/get configuration/delete
ManageConfiguration|no_secret||configuration/put
ManagePlugin|owner|plugins|plugin/list plugin/count; ManagePlugin|shown_plugin|plugins|plugin/get
ManagePlugin|user_token:denied place:filtered_network kind:filtered_type device somewhere:denied||plugin/insert
ManagePlugin|plugin||plugin/update plugin/delete; -|grant_plugin||token/plugin/authenticate
ManagePlugin|user_token plugin:creator exactly_creator reach||token/plugin/create
"""
RULES: dict[str, list[str]] = {}
for M, C in (("Notification", "Network"), ("Command", "DeviceType")):
    rows = TABLE.replace("$M", M).replace("$m", M.lower()).replace("$C", C).replace("$c", C.lower())
    rows = rows.replace("$k", C.removeprefix("Device").lower()).replace("\n", ";").strip(";")
    RULES |= {name: row.strip().split("|") for row in rows.split(";") for name in row.split("|")[3].split()}


def expect(operation: str, caller: Any, target: Any, world: Any) -> tuple[int, str, frozenset[str]]:
    """(status, 200 for any success; text of a refusal; names of the world that a success shows, exactly these).
    caller: `.user` and `.claims`, a token's payload or None."""
    actions, checks, shows, _ = RULES[operation]
    who = Who(caller, set(actions.split()), target, world)
    first = "token lifetime action " if actions != "-" else "token lifetime " if caller.claims else ""
    first = first if actions == "ManagePlugin" else first.replace("lifetime", "lifetime user_token")
    for part in (first + checks).split():
        check, _, told = part.partition(":")
        if not CHECKS[check](who, target, world):
            status, text = refusal(told or check, who.is_admin, who.everything)
            return status, text.format(**vars(target)), frozenset()
    shown = frozenset(name for what in shows.split() for name in SHOWN[what](who, target, world))
    return 200, "", shown if target.name is None else shown & {target.name}


class Who:
    """What token and user both allow as of now. networks, types: None for all."""

    def __init__(self, caller: Any, wanted: set[str], target: Any, world: Any) -> None:
        claims, user = self.claims, self.user = caller.claims, caller.user
        self.wanted = wanted
        self.device = world.devices.get(target.device)
        self.target = world.users.get(target.user) if target.user else user
        self.is_admin = self.everything = False
        if claims is None or user is None:
            return
        self.is_admin, every = user.role == 0, user.role == 0 or user.all_types
        a, n, dt = claims["a"] or [], claims.get("n", ["*"]), claims.get("dt", ["*"])
        self.actions = set(ACTIONS[2:]) if 0 in a else {ACTIONS[i] for i in a}
        self.networks = both(n, None if self.is_admin else user.networks)
        self.types = both(["*"] if dt is None and user.all_types else dt, None if every else user.types)
        self.everything = self.networks is None and self.types is None
        self.unlimited = self.is_admin and self.everything and 0 in a

    def sees(self, network: int | None = None, type: int | None = None) -> bool:
        inside = network is None or self.networks is None or network in self.networks
        return inside and (type is None or self.types is None or type in self.types)


def both(listed: list[str] | None, held: frozenset[int] | None) -> frozenset[int] | None:
    if listed == ["*"]:
        return held
    ids = frozenset(map(int, listed or ()))
    return ids if held is None else ids & held


def devices(j: Any, t: Any, w: Any) -> list[str]:
    found = [d for d in w.devices.values() if t.network in (None, d.network) and t.type in (None, d.type)]
    return [d.id for d in found if t.device in (None, d.id) and (j is None or j.sees(d.network, d.type))]


def plugins(j: Any, t: Any, w: Any) -> list[str]:
    found = [p for p in w.plugins.values() if t.plugin in (None, p.topic) and t.user in (None, p.owner)]
    return [p.name for p in found if j.is_admin or p.owner == j.user.id]


def within(j: Any, networks: bool = False, types: bool = False) -> bool:
    inside = not networks or j.networks is None or j.target.networks <= j.networks
    return inside and (not types or j.types is None or (not j.target.all_types and j.target.types <= j.types))


CHECKS: Any = {
    "token": lambda j, t, w: j.claims and j.claims["t"] == 1 and j.user and not j.user.status,
    "user_token": lambda j, t, w: "tpc" not in j.claims,
    "lifetime": lambda j, t, w: j.claims["e"] > time.time() * 1000,
    "action": lambda j, t, w: j.actions & j.wanted,
    "credentials": lambda j, t, w: t.login,
    "refresh_type": lambda j, t, w: t.grant["t"] == 0,
    "refresh_lifetime": lambda j, t, w: t.grant["e"] > time.time() * 1000,
    "refresh_user": lambda j, t, w: t.grant["u"] in w.users and w.users[t.grant["u"]].status == 0,
    "token_for": lambda j, t, w: j.is_admin or t.user == j.user.id,
    "is_active": lambda j, t, w: j.target.status == 0,
    "device": lambda j, t, w: t.device is None or (j.device and j.sees(j.device.network, j.device.type)),
    "own_device": lambda j, t, w: not j.device or j.sees(j.device.network, j.device.type),
    "unblocked": lambda j, t, w: not j.device or not j.device.blocked,
    "removable": lambda j, t, w: not j.device or not j.device.blocked or j.is_admin,
    "network": lambda j, t, w: t.network in w.networks,
    "type": lambda j, t, w: t.type in w.types,
    "sees_network": lambda j, t, w: j.sees(t.network),
    "sees_type": lambda j, t, w: j.sees(None, t.type),
    "every_type": lambda j, t, w: j.types is None,
    "inside": lambda j, t, w: devices(j, t, w) == devices(None, t, w),
    "deletable": lambda j, t, w: j.is_admin or not any(w.devices[id].blocked for id in devices(j, t, w)),
    "place": lambda j, t, w: t.network is None or (t.network in w.networks and j.sees(t.network)),
    "kind": lambda j, t, w: t.type is None or (t.type in w.types and j.sees(None, t.type)),
    "somewhere": lambda j, t, w: t.device or ((t.network or j.networks != set()) and (t.type or j.types != set())),
    "into_network": lambda j, t, w: j.sees(t.network) if t.network else any(map(j.sees, j.user.networks)),
    "into_type": lambda j, t, w: j.sees(None, t.type) if t.type else j.types != set(),
    "exists": lambda j, t, w: t.network in (None, *w.networks) and t.type in (None, *w.types),
    "user": lambda j, t, w: j.target and (j.is_admin or j.target is j.user),
    # Who may set a user's password can be that user, and what a user is given the caller must see.
    "within": lambda j, t, w: j.target is j.user or j.unlimited or (j.target.role == 1 and within(j, True, True)),
    "password": lambda j, t, w: j.unlimited or (j.target.role == 1 and (j.target is j.user or within(j, True, True))),
    "within_networks": lambda j, t, w: j.target.role == 0 or within(j, networks=True),
    "within_types": lambda j, t, w: j.target.role == 0 or within(j, types=True),
    "not_oneself": lambda j, t, w: j.target is not j.user,
    "member": lambda j, t, w: t.network in j.target.networks and j.sees(t.network),
    "typed": lambda j, t, w: t.type in j.target.types and j.sees(None, t.type),
    "limited": lambda j, t, w: not j.target.all_types,
    "configuration": lambda j, t, w: t.name in w.configuration,
    "owner": lambda j, t, w: j.is_admin or t.user in (None, j.user.id),
    "shown_plugin": plugins,
    "plugin": lambda j, t, w: "tpc" in j.claims or (t.plugin in w.plugins and (j.is_admin or t.owner == j.user.id)),
    "exactly_creator": lambda j, t, w: t.owner == j.user.id,
    "reach": lambda j, t, w: within(j, True, True),
    "grant_plugin": lambda j, t, w: t.plugin in w.plugins,
    "no_secret": lambda j, t, w: "secret" not in t.name,
}
SHOWN: Any = {
    "plugins": plugins,
    "devices": devices,
    "networks": lambda j, t, w: [n for i, n in w.networks.items() if t.network in (None, i) and j.sees(i)],
    "types": lambda j, t, w: [n for i, n in w.types.items() if t.type in (None, i) and j.sees(None, i)],
    "users": lambda j, t, w: [u.login for u in w.users.values() if j.is_admin or u is j.user],
    "user": lambda j, t, w: [j.target.login],
    "networks_of": lambda j, t, w: [w.networks[i] for i in j.target.networks if j.sees(i)],
    "types_of": lambda j, t, w: [w.types[i] for i in j.target.types if j.sees(None, i)],
}
