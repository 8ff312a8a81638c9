"""Mosquitto's dynamic security: what is there, what should be, and the commands between (`mosquitto_ctrl_dynsec(1)`).

Facts of 2.0.11, held by `tests/contract/test_mqtt_dynsec.py`:
- A client is bound to a client id; `modifyClient` and `deleteClient` end its connection.
- `modifyRole` ends nobody's connection and counts from the next packet on; `addRoleACL` and `addClientRole` do end
  connections, and whoever does that to itself gets the broker into trouble. So only `modifyRole` is used, the bridge's
  own role included.
- Passwords go in and never come out. Which one is in force is said by a mark in the client's description.
- Each command writes the plugin's whole file.

Clients that have none of our roles are the operator's, and left alone.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from mqtt_bridge.core.roles import PATTERN, RECEIVE, SEND, Entry
from mqtt_bridge.core.topics import ROOT

TOPIC = "$CONTROL/dynamic-security/v1"
RESPONSE = f"{TOPIC}/response"
PREFIX = "skep-user-"
"""Of the names of our roles; the user's id follows."""
DEFAULTS = {SEND: False, RECEIVE: False, "subscribe": False, "unsubscribe": True}
"""What is not listed is denied."""
OWN = frozenset(
    (
        Entry(SEND, f"{ROOT}/#"),
        Entry(RECEIVE, f"{ROOT}/#"),
        Entry(PATTERN, f"{ROOT}/#"),
        Entry(PATTERN, f"$share/+/{ROOT}/#"),
    )
)
"""What the bridge's account needs beside the plugin's topics: 2.0.11 does not look behind `$share`."""

Command = dict[str, Any]


class Account(Struct, frozen=True):
    """A client of the broker as it should be."""

    username: str
    client_id: str
    password: str
    role: str
    entries: frozenset[Entry]

    def __repr__(self) -> str:
        return f"Account({self.username!r})"

    @property
    def mark(self) -> str:
        """Says whether a password is this one, and nothing else of it: there are 192 bits in it."""
        return b64encode(hashlib.sha256(b"skep mqtt mark\0" + self.password.encode()).digest()[:12]).decode()


class Client(Struct, frozen=True):
    """As the broker has it."""

    client_id: str
    mark: str
    roles: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        return any(role.startswith(PREFIX) for role in self.roles)


class State(Struct, frozen=True):
    """What the broker has: clients by username, entries by role, defaults by kind."""

    clients: Mapping[str, Client]
    roles: Mapping[str, frozenset[Entry]]
    defaults: Mapping[str, bool]


def strangers(state: State, wanted: Iterable[Account]) -> list[str]:
    """Usernames that should be ours and are the operator's: they stay as they are."""
    return [a.username for a in wanted if a.username in state.clients and not state.clients[a.username].is_ours]


def commands(state: State, wanted: Iterable[Account], own: str) -> list[Command]:
    """What makes the broker's clients and roles those that are wanted; what is taken away comes first. own: the
    bridge's username."""
    taken = set(strangers(state, wanted)) | {own}
    accounts = {account.username: account for account in wanted if account.username not in taken}
    return [
        *_defaults(state),
        *_own_role(state, own),
        *_removed(state, accounts),
        *(command for account in accounts.values() for command in _account(state, account)),
    ]


def _defaults(state: State) -> Iterator[Command]:
    if dict(state.defaults) != DEFAULTS:
        acls = [{"acltype": kind, "allow": allow} for kind, allow in DEFAULTS.items()]
        yield {"command": "setDefaultACLAccess", "acls": acls}


def _own_role(state: State, own: str) -> Iterator[Command]:
    """The first role of the bridge's account gets what it lacks beside what it has."""
    names = state.clients[own].roles if own in state.clients else ()
    has = frozenset(entry for name in names for entry in state.roles.get(name, ()))
    if names and not has >= OWN:
        yield _role("modifyRole", names[0], state.roles.get(names[0], frozenset()) | OWN)


def _removed(state: State, accounts: Mapping[str, Account]) -> Iterator[Command]:
    for username, client in state.clients.items():
        if client.is_ours and not _is_same(client, accounts.get(username)):
            yield {"command": "deleteClient", "username": username}
    kept = {account.role for account in accounts.values()}
    for name in state.roles:
        if name.startswith(PREFIX) and name not in kept:
            yield {"command": "deleteRole", "rolename": name}


def _is_same(client: Client, account: Account | None) -> bool:
    """Whether it is the same user's: a login may go from one user to another."""
    return account is not None and account.role in client.roles


def _account(state: State, account: Account) -> Iterator[Command]:
    has = state.roles.get(account.role)
    if has is None:
        yield _role("createRole", account.role, account.entries)
    elif has != account.entries:
        yield _role("modifyRole", account.role, account.entries)
    client = state.clients.get(account.username)
    if client is None or not _is_same(client, account):
        yield _client("createClient", account)
    elif client != Client(account.client_id, account.mark, (account.role,)):
        yield _client("modifyClient", account)


def _role(command: str, name: str, entries: frozenset[Entry]) -> Command:
    acls = [{"acltype": e.kind, "topic": e.topic, "allow": e.allow, "priority": e.priority} for e in sorted(entries)]
    return {"command": command, "rolename": name, "acls": acls}


def _client(command: str, account: Account) -> Command:
    return {
        "command": command,
        "username": account.username,
        "clientid": account.client_id,
        "password": account.password,
        "textdescription": account.mark,
        "roles": [{"rolename": account.role}],
    }


def after(state: State, wanted: Iterable[Account], own: str) -> State:
    """What is there when the commands have been carried out."""
    accounts = [a for a in wanted if a.username not in {*strangers(state, wanted), own}]
    clients = {name: client for name, client in state.clients.items() if not client.is_ours}
    names = state.clients[own].roles[:1] if own in state.clients else ()
    others = {name: entries for name, entries in state.roles.items() if not name.startswith(PREFIX)}
    return State(
        clients | {a.username: Client(a.client_id, a.mark, (a.role,)) for a in accounts},
        others | {name: others.get(name, frozenset()) | OWN for name in names} | {a.role: a.entries for a in accounts},
        DEFAULTS,
    )
