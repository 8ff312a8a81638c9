"""What an allowed change may change: keys of rows, made of the question on one side, of the database on the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg

from tests.system.rights.cells import Cell

Row = tuple[str, str]
"""Table, and its columns as JSON."""
Key = tuple[Any, ...]
TABLES = (
    "users",
    "networks",
    "device_types",
    "devices",
    "user_network",
    "user_device_type",
    "configuration",
    "plugins",
    "mqtt_clients",
    "mqtt_passwords",
)
PASSED_OVER = ["last_login", "login_attempts", "filter", "interests", "collecting", "stream", "last_contact"]
"""Columns that change by themselves: with a login, a refresh, and with the rights of a plugin's owner."""


def rows(db: psycopg.Connection[Any]) -> set[Row]:
    """All metadata as of now."""
    found = set()
    for table in TABLES:
        query = f"SELECT (to_jsonb(t) - %s::text[])::text FROM {table} t"
        found |= {(table, row[0]) for row in db.execute(query, [PASSED_OVER])}  # type: ignore[arg-type]
    return found


def unasked(cells: list[Cell], changed: set[Row]) -> list[Row]:
    """Rows that none of the cells was to change."""
    allowed = {key for cell in cells for key in _asked(cell)}
    return [row for row in changed if allowed.isdisjoint(_keys(row))]


def _asked(cell: Cell) -> Iterator[Key]:
    t, (noun, verb) = cell.target, cell.operation.split("/")
    assert cell.caller.user is not None
    if verb == "insert":
        yield ("new", cell.world.mark)
    elif noun == "user":
        user = t.user or cell.caller.user.id
        if verb.endswith("MqttPassword"):
            yield from (("mqtt_clients", user), ("mqtt_passwords", user))
        elif verb.endswith("Network"):
            yield ("user_network", user, t.network)
        elif verb.endswith("DeviceType"):
            yield ("user_device_type", user, t.type)
        else:
            yield ("users", user)
            if "update" not in verb:
                yield from (("user_network", user), ("user_device_type", user))
    elif noun == "device":
        yield ("devices", t.device)
    elif noun == "plugin":
        own = next((topic for topic, p in cell.world.plugins.items() if p.owner == cell.caller.user.id), None)
        yield ("plugins", own if "tpc" in (cell.caller.claims or {}) else t.plugin)
    elif noun == "configuration":
        yield ("configuration", t.name)
    else:
        id = t.network or t.type
        yield ("networks" if noun == "network" else "device_types", id)
        if verb == "delete":  # what is inside goes too
            yield ("network_id" if noun == "network" else "device_type_id", id)


def _keys(row: Row) -> Iterator[Key]:
    table, values = row[0], json.loads(row[1])
    if table == "plugins":
        yield (table, values["topic_name"])
    elif table in ("mqtt_clients", "mqtt_passwords"):
        yield (table, values["user_id"])
    elif "user_id" in values:
        (other,) = (value for key, value in values.items() if key != "user_id")
        yield from ((table, values["user_id"]), (table, values["user_id"], other))
    else:
        yield (table, values.get("id", values.get("name")))
    mark, _, label = str(values.get("login", values.get("name", ""))).partition("-")
    if label.endswith("-new"):
        yield ("new", mark)
    yield from ((column, values.get(column)) for column in ("network_id", "device_type_id"))
