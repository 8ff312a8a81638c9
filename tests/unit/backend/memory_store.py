"""The message store port in memory, for unit tests; passes the contract suite."""

import asyncio
import time

from backend.core.store import Away, Entry, Full, Held, Key, Page, Rejected, message, retagged, table
from skep.wire.messages import UPDATE, Item, List


class MemoryStore:
    """`away`, `full`: fail so. `poison`: names it can't hold. `puts`: batches written."""

    def __init__(self, ttl: float = 120.0) -> None:
        self.ttl = ttl
        self.now = 0.0
        self.away = self.full = False
        self.poison: set[str] = set()
        self.puts: list[list[Entry]] = []
        self.gets: list[list[Key]] = []
        self._held: dict[tuple[int, Key], tuple[float, Entry]] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def put(self, entries: list[Entry]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Away()
        if self.full:
            raise Full()
        if any(message(e.item).name in self.poison for e in entries):
            raise Rejected("poison")
        self.puts.append(entries)
        for entry in entries:
            key = (entry.kind, _key(entry.item))
            old = self._held.get(key)
            if old is None or old[0] <= self.now or _newer(entry, old[1]):
                self._held[key] = (self.now + self.ttl, entry)

    async def get(self, kind: int, keys: list[Key]) -> dict[Key, Held]:
        await asyncio.sleep(0)
        if self.away:
            raise Away()
        self.gets.append(keys)
        found = {key: self._held.get((kind, key)) for key in keys}
        return {k: Held(v[1].item, v[1].incarnation, v[1].born) for k, v in found.items() if v and v[0] > self.now}

    async def list(self, query: List, limit: int) -> Page:
        if self.away:
            raise Away()
        found = [e for (kind, _), (until, e) in self._held.items() if kind == table(query.kind) and until > self.now]
        now = int((time.time() + self.now) * 1000)
        found = [e for e in found if _matches(query, e.item, now)]
        found.sort(key=lambda e: e.born)  # sorts are stable, reversed ones too: ties stay so
        found.sort(key=lambda e: _sort_key(query, e.item, now), reverse=query.descending)
        end = None if query.take is None else query.skip + query.take
        page, size = Page([]), 0
        for entry in found[query.skip : end]:
            size += len(entry.body)
            if size > limit and page.items:
                page.more = True
                break
            page.items.append(retagged(entry.body, query.kind))
        return page

    async def healthy(self) -> bool:
        return not self.away


def _key(item: Item) -> Key:
    found = message(item)
    return found.device_id, found.id


def _newer(entry: Entry, old: Entry) -> bool:
    if (entry.incarnation, entry.item.partition) != (old.incarnation, old.item.partition):
        return True
    return entry.item.offset > old.item.offset


def _clock(query: List, item: Item) -> int:
    return item.command.last_updated if query.kind == UPDATE and item.command else message(item).timestamp


def _sort_key(query: List, item: Item, now: int) -> str | int:
    if query.sort == "status":
        return (item.command.status_at(now) if item.command else None) or ""
    return message(item).name if query.sort in ("command", "notification") else _clock(query, item)


def _matches(query: List, item: Item, now: int) -> bool:
    found = message(item)
    if query.kind == UPDATE and not (item.command and item.command.is_updated):
        return False
    if query.device_ids is not None and found.device_id not in query.device_ids:
        return False
    if query.names is not None and found.name not in query.names:
        return False
    if query.status is not None and (item.command is None or item.command.status_at(now) != query.status):
        return False
    if query.start is not None and _clock(query, item) <= query.start:
        return False
    if query.end is not None and _clock(query, item) >= query.end:
        return False
    return query.scopes is None or any(
        n in (None, found.network_id) and t in (None, found.device_type_id) for n, t in query.scopes
    )
