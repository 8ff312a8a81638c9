"""Lists that take several answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from frontend.core import messages as module
from frontend.core import queries
from frontend.core.messages import Messages
from skep.wire import messages
from skep.wire.messages import NOTIFICATION, Found, Item, List, Notification

STORED = [Item(0, n, NOTIFICATION, Notification(n, "n", "d", 1, 1, n, b"x" * 100)) for n in range(1, 11)]


class Backend:
    """Gives at most `most` items in one answer."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked: list[tuple[int, int | None]] = []

    def call(self, topic: str, body: List, key: bytes | None = None, **_: Any) -> asyncio.Future[bytes]:
        self.asked.append((body.skip, body.take))
        wanted = STORED[body.skip :][: body.take]
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        future.set_result(messages.encode(Found(wanted[: self.most], len(wanted) > self.most)))
        return future


@pytest.mark.parametrize(
    ("take", "skip", "ids"), [(None, 0, range(1, 11)), (6, 0, range(1, 7)), (6, 2, range(3, 9)), (50, 8, (9, 10))]
)
async def test_a_list_is_read_to_its_end(take: int | None, skip: int, ids: Any) -> None:
    items = await Messages(Backend(4)).whole(List(NOTIFICATION, ["d"], take=take, skip=skip))
    assert [item.notification.id for item in items if item.notification] == list(ids)


async def test_one_answer_is_enough_where_it_holds_all() -> None:
    backend = Backend(20)
    assert len(await Messages(backend).whole(List(NOTIFICATION, ["d"], take=10))) == 10
    assert backend.asked == [(0, 10)]


def test_no_engine_is_asked_to_skip_more_than_it_can_count() -> None:
    asked = queries.listing(NOTIFICATION, ["d"], None, None, None, None, None, None, 2**63 - 1, 2**63 - 1)
    assert asked.skip + (asked.take or 0) < 2**31


async def test_a_list_is_cut_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE", 350)
    assert len(await Messages(Backend(2)).whole(List(NOTIFICATION, ["d"], take=None))) == 4
