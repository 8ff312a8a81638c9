"""Which tables of records there are. One is made before the first record that belongs in it."""

from __future__ import annotations

from ws_kafka_proxy.adapters.postgres.schema import NEVER, new_leaf
from ws_kafka_proxy.adapters.postgres.store import Store


class Leaves:
    """interval: width of a new table, ms of `expiry`."""

    def __init__(self, store: Store, interval: int) -> None:
        self._store = store
        self._interval = interval
        self._known: list[tuple[int, int]] = []
        self._last = (0, 0)

    async def load(self) -> None:
        self._known = await self._store.leaves()
        self._last = (0, 0)

    def covers(self, expiry: int) -> bool:
        if expiry >= NEVER or self._last[0] <= expiry < self._last[1]:
            return True
        for leaf in self._known:
            if leaf[0] <= expiry < leaf[1]:
                self._last = leaf
                return True
        return False

    async def ensure(self, expiry: int) -> None:
        """Raises StoreLost."""
        if not self.covers(expiry):
            leaf = new_leaf(expiry, self._interval, self._known)
            await self._store.create_leaf(*leaf)
            self._known = sorted({*self._known, leaf})

    def expired(self, now: int) -> list[tuple[int, int]]:
        return [leaf for leaf in self._known if leaf[1] <= now]

    def forget(self, leaf: tuple[int, int]) -> None:
        self._known.remove(leaf)
        self._last = (0, 0)
