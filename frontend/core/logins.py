"""When users were last there: `lastLogin` moves with each WebSocket `authenticate`, too (reference 2.8).

A client that connects again and again, and ten thousand that do so at once, cost one write a minute for each user, and
one statement for all that wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from skep import errors

EVERY = 60.0
"""Seconds between two notes of a user."""
PATIENCE = 0.3
"""Seconds that `authenticate` waits for its note: who asks right after it should read it, but it goes without."""
MOST = 10_000
"""Users of one statement."""

log = logging.getLogger("frontend.logins")


class Logins:
    """write: notes these users' time, e.g. `skep.metadata.users.Users.seen`. clock: seconds."""

    def __init__(
        self, write: Callable[[list[int]], Awaitable[None]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._clock = write, clock
        self._noted: OrderedDict[int, float] = OrderedDict()
        self._due: dict[int, None] = {}
        self._writing: asyncio.Task[None] | None = None

    async def note(self, user_id: int) -> None:
        """Never fails. A cancelled call leaves the note to be written all the same."""
        self._forget_old()
        if user_id in self._noted:
            return
        self._noted[user_id] = self._clock()
        self._due[user_id] = None
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._work())
        await asyncio.wait({self._writing}, timeout=PATIENCE)

    async def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait({self._writing})

    def _forget_old(self) -> None:
        old = self._clock() - EVERY
        while self._noted and next(iter(self._noted.values())) <= old:
            self._noted.popitem(last=False)

    async def _work(self) -> None:
        while self._due:
            ids = list(self._due)[:MOST]
            for id in ids:
                del self._due[id]
            try:
                await self._write(ids)
            except errors.SkepError as error:
                log.warning("logins of %d users were not noted: %s", len(ids), error)
                for id in ids:
                    self._noted.pop(id, None)
