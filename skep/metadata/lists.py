"""What all lists share: patterns, sorting, paging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, any_, bindparam, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from skep import errors

MAX_TAKE = 1_000
"""Most rows of one list; asking for more, or for no number, gives this many."""
MAX_PATTERN = 128
BIGGEST = 2**63 - 1


def within(column: ColumnElement[int], ids: Iterable[int] | None) -> ColumnElement[bool]:
    """column is one of ids; None: any. One bound array, so that the statement is the same for every caller; but a
    single id is compared as such: an index that begins with the column is then in the order of what follows."""
    if ids is None:
        return true()
    wanted = sorted(ids)
    if len(wanted) == 1:
        return column == bindparam(None, wanted[0], BigInteger, unique=True)
    return column == any_(bindparam(None, wanted, ARRAY(BigInteger), unique=True))


def like(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """SQL LIKE, case-sensitive, with the server's escape character (backslash). Raises BadRequest."""
    escapes = len(pattern) - len(pattern.rstrip("\\"))
    if len(pattern) > MAX_PATTERN or escapes % 2:  # the server refuses a dangling escape only where rows come near it
        raise errors.BadRequest
    return column.like(pattern)


def fits(number: int) -> bool:
    """Whether it can be an id at all; others are simply not found."""
    return 0 <= number <= BIGGEST


def descending(sort_order: str | None) -> bool:
    """Of ASC, DESC or nothing, in any case. Raises BadRequest for anything else."""
    order = "ASC" if sort_order is None else sort_order.upper()
    if order not in ("ASC", "DESC"):
        raise errors.BadRequest
    return order == "DESC"


def order(
    sortable: Mapping[str, ColumnElement[Any]], key: ColumnElement[Any], sort_field: str | None, descending: bool
) -> list[ColumnElement[Any]]:
    """`sort_field` in any case, one of `sortable`, else BadRequest; ties and lists without it go by `key`, so that
    pages neither overlap nor leave gaps."""
    column = key
    if sort_field is not None:
        names = {name.lower(): c for name, c in sortable.items()}
        if sort_field.lower() not in names:
            raise errors.BadRequest
        column = names[sort_field.lower()]
    columns = [column] if column is key else [column, key]
    return [c.desc() if descending else c.asc() for c in columns]


def page(
    query: Select[Any],
    sortable: Mapping[str, ColumnElement[Any]],
    key: ColumnElement[Any],
    sort_field: str | None,
    descending: bool,
    take: int | None,
    skip: int,
) -> Select[Any]:
    """Sort (see `order`) and cut. Raises BadRequest."""
    take = MAX_TAKE if take is None else take
    if take < 0 or not fits(skip):
        raise errors.BadRequest
    ordered = query.order_by(*order(sortable, key, sort_field, descending))
    return ordered.limit(min(take, MAX_TAKE)).offset(skip)
