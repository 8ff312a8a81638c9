"""Many devices, written straight into PostgreSQL: for tests and measurements of the lists."""

from __future__ import annotations

from typing import NamedTuple

import psycopg

PLACES = ["cellar", "kitchen", "hall", "garden", "roof", "garage", "office", "attic"]
KINDS = ["thermostat", "camera", "lamp", "lock", "meter", "valve", "blind", "sensor"]

_CONTAINERS = "INSERT INTO {} (name) SELECT %s || i FROM generate_series(1, %s) i RETURNING id"
# `h` is a number of 32 bits that looks random and is the same every time.
_DEVICES = """
    INSERT INTO devices (id, name, data, network_id, device_type_id, is_blocked)
    SELECT md5('fleet ' || i),
        (%(places)s::text[])[1 + h %% 8] || '-' || (%(kinds)s::text[])[1 + h / 8 %% 8] || '-' || h / 64 %% %(count)s,
        '{"serial": ' || i || ', "firmware": "1.' || i %% 7 || '"}',
        (%(networks)s::bigint[])[1 + floor(cardinality(%(networks)s::bigint[]) * power(h / 4294967296.0, 2))],
        (%(types)s::bigint[])[1 + h / 16 %% cardinality(%(types)s::bigint[])],
        i %% 50 = 0
    FROM (SELECT i, hashint4(i)::bigint + 2147483648 AS h FROM generate_series(1, %(count)s) i) numbered
"""


class Fleet(NamedTuple):
    """Ids; the first network has most devices, about a seventh, the last a hundredth."""

    networks: list[int]
    types: list[int]
    users: list[int]


def fill(url: str, devices: int = 100_000, networks: int = 50, types: int = 20, users: int = 10_000) -> Fleet:
    """New networks, device types and users, and that many devices in them. Names and ids are in no order."""
    with psycopg.connect(url) as connection:

        def containers(table: str, count: int) -> list[int]:
            rows = connection.execute(_CONTAINERS.format(table), (f"{table} of the fleet ", count))  # type: ignore[arg-type]
            return [row[0] for row in rows]

        fleet = Fleet(containers("networks", networks), containers("device_types", types), _users(connection, users))
        values = {"places": PLACES, "kinds": KINDS, "networks": fleet.networks, "types": fleet.types, "count": devices}
        connection.execute("SET session_replication_role = replica")  # no look-up of foreign keys row by row
        connection.execute(_DEVICES, values)
    with psycopg.connect(url, autocommit=True) as connection:
        for table in ("devices", "networks", "device_types", "users"):
            connection.execute(f"VACUUM ANALYZE {table}")  # type: ignore[arg-type]  # as autovacuum does by and by
    return fleet


def _users(connection: psycopg.Connection, count: int) -> list[int]:
    query = """INSERT INTO users (login, password_hash, role, status)
        SELECT 'user-' || md5('fleet ' || i), 'none', 1, i %% 3 FROM generate_series(1, %s) i RETURNING id"""
    return [row[0] for row in connection.execute(query, (count,))]
