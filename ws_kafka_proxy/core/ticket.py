"""A publish frame on its way: answered once each of its records is confirmed or refused."""

from __future__ import annotations

from collections.abc import Callable

from skep.wire.proxy import Failure


class Ticket:
    """`pending` counts the records without an outcome; `done` is called once, when none is left."""

    __slots__ = ("done", "failures", "id", "pending", "positions", "size")

    def __init__(self, id: int, count: int, size: int, done: Callable[[Ticket], None]) -> None:
        self.id = id
        self.pending = count
        self.size = size
        self.done = done
        self.positions: list[tuple[int, int]] = [(-1, -1)] * count
        self.failures: dict[int, Failure] = {}

    def confirm(self, count: int = 1) -> None:
        self.pending -= count
        if not self.pending:
            self.done(self)

    def refuse(self, index: int, failure: Failure) -> None:
        self.failures[index] = failure
        self.confirm()
