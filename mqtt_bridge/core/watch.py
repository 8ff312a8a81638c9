"""Whose sessions have to end: who was let in, and may less than that now.

For brokers that judge a subscription once. What somebody may see more needs a subscription of its own anyway.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from mqtt_bridge.core.acl import Client
from mqtt_bridge.core.clients import Clients, covers
from skep.access import Principal
from skep.errors import Unavailable

WATCHED = 100_000


class Watch:
    """Of the clients that this process let in; beyond `WATCHED` the first are forgotten. clock: seconds since the
    epoch."""

    def __init__(self, clients: Clients, clock: Callable[[], float] = time.time) -> None:
        self._clients, self._clock = clients, clock
        self._seen: OrderedDict[str, Principal | None] = OrderedDict()
        self._todo: set[str] = set()

    def admitted(self, client: Client) -> bool:
        """False while the session is that of another user: it has to end first."""
        before = self._seen.get(client.id)
        if before is not None and client.principal is not None and before.user_id != client.principal.user_id:
            self._todo.add(client.id)
            return False
        self._seen[client.id] = client.principal
        self._seen.move_to_end(client.id)
        if len(self._seen) > WATCHED:
            self._seen.popitem(last=False)
        return True

    def changed(self, user_ids: list[int]) -> None:
        """These users have, perhaps in what they may; none named: any may have."""
        for client_id, principal in self._seen.items():
            # Who was anonymous may have become somebody.
            if not user_ids or principal is None or principal.user_id in user_ids:
                self._todo.add(client_id)

    async def ended(self) -> list[str]:
        """Clients whose sessions have to end now: each is among `Clients.ending` as soon as that is found, and watched
        again when it comes back. What can't be told is looked at the next time."""
        now = int(self._clock() * 1000)
        expired = {id for id, seen in self._seen.items() if seen is not None and seen.expires < now}
        found = []
        for client_id in self._todo | expired:
            try:
                is_over = await self._is_over(client_id)
            except Unavailable:
                continue
            self._todo.discard(client_id)
            if is_over:
                self._seen.pop(client_id, None)
                self._clients.ending.add(client_id)
                found.append(client_id)
        return found

    async def _is_over(self, client_id: str) -> bool:
        if client_id not in self._seen:
            return False
        now = (await self._clients.client(client_id)).principal
        before, self._seen[client_id] = self._seen[client_id], now
        return before is not None and (now is None or now.user_id != before.user_id or not covers(now, before))
