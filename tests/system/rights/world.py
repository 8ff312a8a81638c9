"""Worlds of the matrix: a few users, networks, device types and devices that know nothing of each other's world.

Written into PostgreSQL at once, thousands of rows in tens of milliseconds: no service has them in a cache yet.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg

from deploy import postgres
from tests.system.suite import Suite

ACTIVE, LOCKED_OUT, DISABLED = 0, 1, 2
ADMIN, CLIENT = 0, 1
Sign = Callable[[dict[str, Any]], str]
DEVICES = {"own": ("own", "own"), "foreign": ("foreign", "own"), "alien": ("own", "foreign"), "blocked": ("own", "own")}
"""A device's network and device type."""


class Device(NamedTuple):
    id: str
    network: int
    type: int
    blocked: bool


@dataclass(frozen=True)
class User:
    """networks: a member of. types: those he may have, all of the world where all_types."""

    id: int
    login: str
    role: int
    status: int
    networks: frozenset[int]
    types: frozenset[int]
    all_types: bool


class Plugin(NamedTuple):
    """owner: a user's id."""

    topic: str
    name: str
    owner: int


@dataclass
class World:
    """By label: ids in `network`, `type`, `person`, `topic`; "missing" is one that nobody has. The rest by id. Plugins
    are disabled, so that nothing is collected for them."""

    mark: str
    network: dict[str, int]
    type: dict[str, int]
    person: dict[str, int]
    networks: dict[int, str] = field(default_factory=dict)
    types: dict[int, str] = field(default_factory=dict)
    users: dict[int, User] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    topic: dict[str, str] = field(default_factory=dict)
    plugins: dict[str, Plugin] = field(default_factory=dict)
    configuration: frozenset[str] = frozenset()
    sign: Sign = json.dumps
    messages: dict[tuple[str, str], int] = field(default_factory=dict)
    """Id of the stored notification and command of each device."""

    def device(self, label: str) -> str:
        return f"{self.mark}-dev-{label}"

    def names_in(self, text: str) -> frozenset[str]:
        """Of entities of this world."""
        return frozenset(re.findall(rf"{self.mark}-(?:net|typ|dev|usr|plg)-[a-z]+", text))


def database_url(suite: Suite) -> str:
    return postgres.server(suite.data, suite.secret("postgres_password")).url("skep")


def connect(suite: Suite) -> psycopg.Connection[Any]:
    return psycopg.connect(database_url(suite), autocommit=True)


def build(db: psycopg.Connection[Any], count: int, sign: Sign) -> list[World]:
    """In one transaction. Users can't log in. sign: payload to token."""
    run = f"mx{secrets.token_hex(3)}"
    ids = {table: _ids(db, table, 12 * count) for table in ("users", "networks", "device_types")}
    worlds = [_made(f"{run}w{number}", ids, sign) for number in range(count)]
    with db.transaction(), db.cursor() as cursor:
        for table, rows in (
            ("users (id, login, password_hash, role, status, all_device_types)", map(_user_rows, worlds)),
            ("networks (id, name)", (w.networks.items() for w in worlds)),
            ("device_types (id, name)", (w.types.items() for w in worlds)),
            ("devices (id, name, network_id, device_type_id, is_blocked)", map(_device_rows, worlds)),
            ("user_network (user_id, network_id)", map(_member_rows, worlds)),
            ("user_device_type (user_id, device_type_id)", map(_typed_rows, worlds)),
            ("plugins (topic_name, name, user_id, filter, status, enabled)", map(_plugin_rows, worlds)),
            ("configuration (name, value)", ([(n, "1") for n in w.configuration] for w in worlds)),
        ):
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:  # type: ignore[arg-type]
                for row in itertools.chain.from_iterable(rows):
                    copy.write_row(row)
    return worlds


def erase(db: psycopg.Connection[Any], worlds: list[World]) -> None:
    """All that has the worlds' marks, what cells have made too."""
    run = worlds[0].mark.partition("w")[0] + "w%"
    for table, column in (
        ("devices", "id"),
        ("networks", "name"),
        ("device_types", "name"),
        ("users", "login"),
        ("plugins", "name"),
    ):
        db.execute(f"DELETE FROM {table} WHERE {column} LIKE %s", [run])  # type: ignore[arg-type]
    db.execute("DELETE FROM configuration WHERE name LIKE %s", [run])


def _ids(db: psycopg.Connection[Any], table: str, count: int) -> Any:
    query = f"SELECT nextval(pg_get_serial_sequence('{table}', 'id')) FROM generate_series(1, {count})"
    return iter([row[0] for row in db.execute(query)])  # type: ignore[arg-type]


def _made(mark: str, ids: dict[str, Any], sign: Sign) -> World:
    network, kind = (
        {label: next(ids[t]) for label in ("own", "foreign", "missing")} for t in ("networks", "device_types")
    )
    labels = ("client", "typed", "other", "root", "locked", "disabled", "missing")
    world = World(mark, network, kind, {label: next(ids["users"]) for label in labels}, sign=sign)
    world.networks = {network[label]: f"{mark}-net-{label}" for label in ("own", "foreign")}
    world.types = {kind[label]: f"{mark}-typ-{label}" for label in ("own", "foreign")}
    for label, (net, typ) in DEVICES.items():
        world.devices[world.device(label)] = Device(world.device(label), network[net], kind[typ], label == "blocked")
    for label in labels[:-1]:
        id, role = world.person[label], ADMIN if label == "root" else CLIENT
        status = {"locked": LOCKED_OUT, "disabled": DISABLED}.get(label, ACTIVE)
        networks = {"root": frozenset[int](), "other": frozenset({network["foreign"]})}
        types = frozenset({kind["own"]}) if label == "typed" else frozenset(world.types)
        inside = networks.get(label, frozenset({network["own"]}))
        world.users[id] = User(id, f"{mark}-usr-{label}", role, status, inside, types, label != "typed")
    world.topic = {label: f"plugin_topic_{uuid.uuid4()}" for label in ("own", "foreign", "missing")}
    for label, owner in (("own", "client"), ("foreign", "other")):
        topic = world.topic[label]
        world.plugins[topic] = Plugin(topic, f"{mark}-plg-{label}", world.person[owner])
    world.configuration = frozenset({f"{mark}-conf-present"})
    return world


def _user_rows(world: World) -> list[tuple[Any, ...]]:
    return [(u.id, u.login, "none", u.role, u.status, u.all_types) for u in world.users.values()]


def _device_rows(world: World) -> list[tuple[Any, ...]]:
    return [(d.id, d.id, d.network, d.type, d.blocked) for d in world.devices.values()]


def _member_rows(world: World) -> list[tuple[Any, ...]]:
    return [(u.id, n) for u in world.users.values() for n in u.networks]


def _plugin_rows(world: World) -> list[tuple[Any, ...]]:
    return [(*plugin, "*/*/*/*/*", 1, False) for plugin in world.plugins.values()]


def _typed_rows(world: World) -> list[tuple[Any, ...]]:
    return [(u.id, t) for u in world.users.values() if not u.all_types for t in u.types]
