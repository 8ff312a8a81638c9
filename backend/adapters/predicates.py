"""A `List` query as a Hazelcast predicate. Paging predicates fail on Compact values, so sorting is done here."""

from __future__ import annotations

from typing import Any

from hazelcast.predicate import Predicate, and_, between, equal, in_, or_, true

from skep.wire.messages import UPDATE, List

_MIN, _MAX = -(2**63), 2**63 - 1
ATTRIBUTES = ("timestamp", "lastUpdated", "born", "name", "status", "__key")
"""What sorting needs, and the key."""


def predicate(query: List) -> Predicate:
    parts: list[Predicate] = []
    if query.kind == UPDATE:
        parts.append(equal("updated", True))
    if query.names is not None:
        parts.append(in_("name", *query.names))
    if query.status is not None:
        parts.append(equal("status", query.status))
    period = _period(query)
    if query.device_ids is not None:
        # With the period inside each branch the index on (deviceId, time) serves it.
        parts.append(_any([and_(equal("deviceId", device), *period) for device in query.device_ids]))
    if query.scopes is not None and (None, None) not in query.scopes:
        parts.append(_any([_scope(network, device_type, period) for network, device_type in query.scopes]))
    elif query.device_ids is None:
        parts += period
    return and_(*parts) if len(parts) > 1 else parts[0] if parts else true()


def _period(query: List) -> list[Predicate]:
    if query.start is None and query.end is None:
        return []
    first = query.start + 1 if query.start is not None else _MIN
    last = query.end - 1 if query.end is not None else _MAX
    return [between("lastUpdated" if query.kind == UPDATE else "timestamp", first, last)]


def _scope(network: int | None, device_type: int | None, period: list[Predicate]) -> Predicate:
    parts = [] if network is None else [equal("networkId", network)]
    if device_type is not None:
        parts.append(equal("deviceTypeId", device_type))
    return and_(*parts, *period)


def _any(parts: list[Predicate]) -> Predicate:
    return or_(*parts) if len(parts) > 1 else parts[0]


def page(query: List, rows: list[Any]) -> list[str]:
    """Keys of the page, in order. rows: values of `ATTRIBUTES`. Ties are in the order of arrival."""
    rows.sort(key=lambda row: (row[2], row[5]))
    by = {"status": 4, "command": 3, "notification": 3}.get(query.sort, 1 if query.kind == UPDATE else 0)
    rows.sort(key=lambda row: row[by] or (0 if by < 2 else ""), reverse=query.descending)
    end = None if query.take is None else query.skip + query.take
    return [row[5] for row in rows[query.skip : end]]
