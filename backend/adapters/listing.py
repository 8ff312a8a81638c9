"""A `List` query as SQL over `skep_messages.entries`."""

from __future__ import annotations

from typing import Any

from backend.adapters.slices import NEWEST
from skep.wire.messages import UPDATE, List

_NAMED = ("command", "notification")


def select(query: List, kind: int, now: int) -> tuple[str, dict[str, Any]]:
    """Statement and parameters; the rows are bodies."""
    values: dict[str, Any] = {"now": now, "kind": kind, "skip": query.skip, "take": query.take}
    clock = "e.updated_at" if query.kind == UPDATE else "e.ts"
    where = ["e.kind = %(kind)s", "e.expires > %(now)s"]

    def narrow(condition: str, name: str, value: object) -> None:
        if value is not None:
            where.append(condition)
            values[name] = value

    if query.kind == UPDATE:
        where.append("e.updated_at IS NOT NULL")
    if query.device_ids is not None and len(query.device_ids) == 1:
        narrow("e.device_id = %(device)s", "device", query.device_ids[0])
    else:
        narrow("e.device_id = ANY(%(devices)s)", "devices", query.device_ids)
    narrow("e.name = ANY(%(names)s)", "names", query.names)
    narrow("e.status = %(status)s", "status", query.status)
    narrow(f"{clock} > %(start)s", "start", query.start)
    narrow(f"{clock} < %(end)s", "end", query.end)
    if query.scopes is not None:
        where.append(_scopes(query.scopes, values))
    where.append(NEWEST)
    statement = (
        f"SELECT e.body FROM skep_messages.entries e WHERE {' AND '.join(where)} "  # noqa: S608  constants only
        f"ORDER BY {_order(query, clock)} OFFSET %(skip)s" + (" LIMIT %(take)s" if query.take is not None else "")
    )
    return statement, values


def _scopes(scopes: list[tuple[int | None, int | None]], values: dict[str, Any]) -> str:
    if not scopes:
        return "false"
    if (None, None) in scopes:
        return "true"
    # Networks with the same types are one condition: a user's scopes are a cross product.
    types: dict[int | None, set[int | None]] = {}
    for network, device_type in scopes:
        types.setdefault(network, set()).add(device_type)
    groups: dict[tuple[bool, frozenset[int | None]], list[int]] = {}
    for network, of_network in types.items():
        group = groups.setdefault((network is None, frozenset(of_network)), [])
        if network is not None:
            group.append(network)
    return "(" + " OR ".join(_scope(i, *key, ids, values) for i, (key, ids) in enumerate(groups.items())) + ")"


def _scope(i: int, anywhere: bool, types: frozenset[int | None], networks: list[int], values: dict[str, Any]) -> str:
    parts = []
    if not anywhere:
        values[f"networks{i}"] = networks
        parts.append(f"e.network_id = ANY(%(networks{i})s)")
    if None not in types:
        values[f"types{i}"] = sorted(t for t in types if t is not None)
        parts.append(f"e.device_type_id = ANY(%(types{i})s)")
    return "(" + " AND ".join(parts) + ")"


def _order(query: List, clock: str) -> str:
    """Ties are in the order of arrival whichever way the field is sorted."""
    column = "coalesce(e.status, '')" if query.sort == "status" else "e.name" if query.sort in _NAMED else clock
    return f"{column} {'DESC' if query.descending else 'ASC'}, e.born, e.seq"
