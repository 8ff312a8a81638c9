"""A `List` query as a Hazelcast predicate. Paging predicates fail on Compact values, so sorting is done here."""

from __future__ import annotations

from typing import Any

from hazelcast.predicate import Predicate, and_, between, equal, greater, in_, less_or_equal, or_, true

from skep.wire.messages import EXPIRED, NOTIFICATION, UPDATE, List

_MIN, _MAX = -(2**63), 2**63 - 1
_BORN, _NAME, _KEY, _TIME, _STATUS, _UPDATED, _LAPSES = range(7)


def attributes(query: List) -> tuple[str, ...]:
    """What sorting needs: the columns of `page`'s rows."""
    common = ("born", "name", "__key", "timestamp")
    return common if query.kind == NOTIFICATION else (*common, "status", "lastUpdated", "lapses")


def nothing(query: List) -> bool:
    """Whether no message can match."""
    if query.kind == NOTIFICATION and query.status is not None:
        return True
    return query.take == 0 or [] in (query.device_ids, query.scopes, query.names)


def predicate(query: List, now: int) -> Predicate:
    """now: ms since the epoch."""
    parts: list[Predicate] = []
    if query.kind == UPDATE:
        parts.append(equal("updated", True))
    if query.names is not None:
        parts.append(in_("name", *query.names))
    if query.status is not None:
        parts.append(_status(query.status, now))
    period = _period(query)
    if query.device_ids is not None:
        # With the period inside each branch the index on (deviceId, time) serves it.
        parts.append(_any([and_(equal("deviceId", device), *period) for device in query.device_ids]))
    if query.scopes is not None and (None, None) not in query.scopes:
        parts.append(_any([_scope(network, device_type, period) for network, device_type in query.scopes]))
    elif query.device_ids is None:
        parts += period
    return and_(*parts) if len(parts) > 1 else parts[0] if parts else true()


def _status(status: str, now: int) -> Predicate:
    if status == EXPIRED:
        return or_(equal("status", status), less_or_equal("lapses", now))
    return and_(equal("status", status), greater("lapses", now))


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


def page(query: List, rows: list[Any], now: int) -> list[str]:
    """Keys of the page, in order. Ties are in the order of arrival. now: ms since the epoch."""
    rows.sort(key=lambda row: (row[_BORN], row[_KEY]))
    by = _UPDATED if query.kind == UPDATE else _TIME
    if query.sort == "status" and query.kind != NOTIFICATION:
        rows.sort(key=lambda row: EXPIRED if row[_LAPSES] <= now else row[_STATUS] or "", reverse=query.descending)
    elif query.sort in ("command", "notification"):
        rows.sort(key=lambda row: row[_NAME] or "", reverse=query.descending)
    elif query.sort != "status":
        rows.sort(key=lambda row: row[by], reverse=query.descending)
    end = None if query.take is None else query.skip + query.take
    return [row[_KEY] for row in rows[query.skip : end]]
