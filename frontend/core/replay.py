"""Stored messages of a scope, oldest first, in pages; without a gap where items expire between the pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from frontend.core.interests import Claim
from frontend.core.scope import Scope
from frontend.core.subscriptions import Holder, is_current, may_see
from skep.wire.messages import COMMAND, UPDATE, Found, Item, List

PAGE = 200


def before(claim: Claim, handled: dict[int, int]) -> Callable[[Item], bool]:
    """Whether a stored item is for the replay to give, and not for the live stream.

    claim: in effect. handled: `Registry.positions` from when the watch was registered. What is behind both comes live,
    in order. In the store it may become visible sooner, but of a batch that is being written a later message of a
    device sooner than an earlier one. Commands are all given: their offset is their last update's.
    """

    def judge(item: Item) -> bool:
        if item.kind == COMMAND:
            return True
        passed = claim.passed(item.partition)
        return passed is None or item.offset <= max(passed, handled.get(item.partition, -1))

    return judge


class Reads(Protocol):
    async def list(self, query: List) -> Found: ...


def time_of(item: Item) -> int:
    """What its kind is compared by, ms."""
    if item.notification is not None:
        return item.notification.timestamp
    assert item.command is not None
    return item.command.last_updated if item.kind == UPDATE else item.command.timestamp


def id_of(item: Item) -> tuple[str, int]:
    """(device id, id)."""
    message = item.notification or item.command
    assert message is not None
    return message.device_id, message.id


async def pages(
    reads: Reads,
    holder: Holder,
    scope: Scope,
    since: int,
    limit: int,
    now: int,
    is_due: Callable[[Item], bool] = lambda item: True,
) -> AsyncGenerator[list[Item], None]:
    """Items later than `since` that are due and that the holder may see, at most `limit` (0: no limit). Raises
    Unavailable."""
    left, start, skip = limit, since, 0
    edge: set[tuple[str, int]] = set()
    while True:
        found = await reads.list(_query(scope, start, PAGE + len(edge), skip))
        fresh = [item for item in found.items if id_of(item) not in edge]
        seen = [item for item in fresh if is_due(item) and _is_wanted(item, holder, scope, now)]
        if limit:
            seen = seen[:left]
            left -= len(seen)
        if seen:
            yield seen
        if (limit and not left) or not found.items or (not found.more and len(found.items) < PAGE + len(edge)):
            return
        if not fresh:
            skip += len(found.items)
            continue
        # The next page begins within the last millisecond: what is already given there is left out by id. Skipping
        # a count instead would leave a gap where items expired meanwhile.
        last, skip = time_of(fresh[-1]), 0
        at_last = {id_of(item) for item in fresh if time_of(item) == last}
        edge = at_last | edge if last - 1 == start else at_last
        start = last - 1


def _query(scope: Scope, start: int, take: int, skip: int) -> List:
    return List(
        kind=scope.kind,
        device_ids=None if scope.device_id is None else [scope.device_id],
        scopes=None if scope.device_id is not None else scope.pairs(),
        names=None if scope.names is None else sorted(scope.names),
        start=start,
        take=take,
        skip=skip,
    )


def _is_wanted(item: Item, holder: Holder, scope: Scope, now: int) -> bool:
    message = item.notification or item.command
    return (
        message is not None
        and scope.holds(message)
        and may_see(holder.principal, item.kind, message, now)
        and is_current(item.kind, message, now)
    )
