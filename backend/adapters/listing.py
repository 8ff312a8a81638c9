"""A `List` query as SQL over `skep_messages.entries`.

One index drives it: of the device, of the network, or of time alone. Several devices or networks are walked each in
the order asked for, up to `skip + take`, and merged.
"""

from __future__ import annotations

from typing import Any

from backend.adapters.slices import NEWEST
from skep.wire.messages import EXPIRED, UPDATE, List

ROWS = 10_000
"""Most rows of one answer, whatever the limit of bytes."""

_NAMED = ("command", "notification")
_COLUMNS = "e.body, e.ts, e.updated_at, e.status, e.lapses, e.name, e.born, e.seq"
_STATUS = f"CASE WHEN e.lapses <= %(now)s THEN '{EXPIRED}' ELSE e.status END"
_CUT = "OFFSET %(skip)s LIMIT %(take)s"
_DEEPEST = "LIMIT %(skip)s::bigint + %(take)s::bigint"


def select(query: List, kind: int, now: int, limit: int) -> tuple[str, dict[str, Any]]:
    """Statement and parameters; rows: (body, how many there would be without the limit of bytes)."""
    take = ROWS if query.take is None else min(query.take, ROWS)
    values: dict[str, Any] = {"now": now, "kind": kind, "skip": query.skip, "take": take, "limit": limit}
    where = _conditions(query, values)
    column, ids = _driver(query)
    order = _order(query)
    if len(ids) == 1:
        values["id"] = ids[0]
        where.append(f"{column} = %(id)s")
    elif ids:
        values["ids"] = ids
        where.append(f"{column} = w.id")
    # What is put together here is constants of this module; values are parameters.
    page = f"SELECT {_COLUMNS} FROM skep_messages.entries e WHERE {' AND '.join(where)} ORDER BY {order}"  # noqa: S608
    if len(ids) > 1:
        array = "text[]" if column == "e.device_id" else "bigint[]"
        each = f"CROSS JOIN LATERAL ({page} {_DEEPEST}) e"
        page = f"SELECT {_COLUMNS} FROM unnest(%(ids)s::{array}) w (id) {each} ORDER BY {order}"  # noqa: S608
    sizes = (
        "SELECT body, octet_length(body) AS own, count(*) OVER () AS total, "
        "sum(octet_length(body)) OVER (ROWS UNBOUNDED PRECEDING) AS size"
    )
    # The running sum goes in the order of the page; what is past the limit is not even read from its TOAST table.
    cut = f"SELECT body, total FROM ({sizes} FROM ({page} {_CUT}) p) s WHERE size <= %(limit)s OR size = own"  # noqa: S608
    return cut, values


def nothing(query: List) -> bool:
    """Whether no message can match."""
    return query.take == 0 or query.device_ids == [] or query.scopes == [] or query.names == []


def _conditions(query: List, values: dict[str, Any]) -> list[str]:
    clock = _clock(query)
    where = ["e.kind = %(kind)s", "e.expires > %(now)s", NEWEST]

    def narrow(condition: str, name: str, value: object) -> None:
        if value is not None:
            where.append(condition)
            values[name] = value

    if query.kind == UPDATE:
        where.append("e.updated_at IS NOT NULL")
    narrow("e.name = ANY(%(names)s::text[])", "names", query.names)
    narrow(f"{_STATUS} = %(status)s", "status", query.status)
    narrow(f"{clock} > %(start)s", "start", query.start)
    narrow(f"{clock} < %(end)s", "end", query.end)
    if query.scopes is not None and (None, None) not in query.scopes:
        where.append("(" + " OR ".join(_scopes(query.scopes, values)) + ")")
    return where


def _driver(query: List) -> tuple[str, list[Any]]:
    """The column whose index leads, and the values to walk; no values: time leads."""
    if query.device_ids is not None:
        return "e.device_id", sorted(set(query.device_ids))
    networks = {network for network, _ in query.scopes or [(None, None)]}
    if None in networks:
        return "", []
    return "e.network_id", sorted(n for n in networks if n is not None)


def _scopes(scopes: list[tuple[int | None, int | None]], values: dict[str, Any]) -> list[str]:
    """Networks with the same types are one condition: a user's scopes are a cross product."""
    types: dict[int | None, set[int | None]] = {}
    for network, device_type in scopes:
        types.setdefault(network, set()).add(device_type)
    groups: dict[frozenset[int | None], set[int | None]] = {}
    for network, of_network in types.items():
        groups.setdefault(frozenset(of_network), set()).add(network)
    return [_scope(i, networks, set(of), values) for i, (of, networks) in enumerate(groups.items())]


def _scope(i: int, networks: set[int | None], types: set[int | None], values: dict[str, Any]) -> str:
    parts = ["true"]
    for column, name, ids in (("e.network_id", f"networks{i}", networks), ("e.device_type_id", f"types{i}", types)):
        if None not in ids:
            values[name] = sorted(n for n in ids if n is not None)
            parts.append(f"{column} = ANY(%({name})s::bigint[])")
    return "(" + " AND ".join(parts) + ")"


def _clock(query: List) -> str:
    return "e.updated_at" if query.kind == UPDATE else "e.ts"


def _order(query: List) -> str:
    """Ties are in the order of arrival whichever way the field is sorted."""
    by_status = f"coalesce({_STATUS}, '')"
    column = by_status if query.sort == "status" else "e.name" if query.sort in _NAMED else _clock(query)
    return f"{column} {'DESC' if query.descending else 'ASC'}, e.born, e.seq"
