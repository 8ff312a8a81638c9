"""Lists of stored messages: the API's sorting and paging as a query to a backend."""

from __future__ import annotations

from skep import errors
from skep.wire.messages import NOTIFICATION, List

MAX_TAKE = 1_000
MAX_SKIP = 10**9
"""More than anything holds."""
_SORTABLE = {NOTIFICATION: ("timestamp", "notification")}
_SORTABLE_COMMANDS = ("timestamp", "status", "command")


def listing(
    kind: int,
    device_ids: list[str],
    names: list[str] | None,
    status: str | None,
    start: int | None,
    end: int | None,
    sort_field: str | None,
    sort_order: str | None,
    take: int,
    skip: int,
) -> List:
    """With a sort field the order is descending unless ASC is asked for, without one ascending unless DESC is.

    Raises BadRequest for negative numbers and unknown fields or orders."""
    field = "timestamp" if sort_field is None else sort_field.lower()
    order = None if sort_order is None else sort_order.upper()
    if order not in (None, "ASC", "DESC") or field not in _SORTABLE.get(kind, _SORTABLE_COMMANDS):
        raise errors.BadRequest
    if take < 0 or skip < 0:
        raise errors.BadRequest
    return List(
        kind=kind,
        device_ids=device_ids,
        names=names,
        status=status,
        # Plain integers: what a route decoded may be of a class of its own, which has no place on the bus.
        start=None if start is None else int(start),
        end=None if end is None else int(end),
        sort=field,
        descending=order != "ASC" if sort_field else order == "DESC",
        take=min(take, MAX_TAKE),
        skip=min(skip, MAX_SKIP),
    )
