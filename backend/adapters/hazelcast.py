"""Messages in Hazelcast: maps `skep-notifications` and `skep-commands`, key `<device id>/<message id>`.

Values are Compact, type names `skep.Notification` and `skep.Command`, with the fields

    deviceId string    networkId, deviceTypeId int64    name string    timestamp, born int64    body string

and of commands also `status` string, `lastUpdated` int64, `updated` boolean, `lapses` int64.

TTL and indexes come from the member's configuration, for both maps: time-to-live-seconds = MESSAGE_TTL,
backup-count 1, in-memory-format BINARY, indexes HASH (deviceId), SORTED (deviceId, timestamp),
SORTED (networkId, timestamp); for `skep-commands` SORTED (deviceId, lastUpdated) too.

The client has a reactor thread of its own; what it answers is handed to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hazelcast.client import HazelcastClient
from hazelcast.config import IntType, ReconnectMode
from hazelcast.errors import HazelcastError, HazelcastSerializationError
from hazelcast.projection import multi_attribute

from backend.adapters import predicates
from backend.adapters.compact import CommandSerializer, NotificationSerializer, Value, replaces, value
from backend.core.store import Away, Entry, Full, Held, Key, Page, Rejected, retagged, table
from skep.wire.messages import COMMAND, NOTIFICATION, List

log = logging.getLogger("backend.store")
MAPS = {NOTIFICATION: "skep-notifications", COMMAND: "skep-commands"}
CHUNK = 256
"""Values fetched at a time for a list."""


class HazelcastStore:
    """members: "host:port". limit: entries in both maps after which writes are refused. timeout: seconds."""

    def __init__(self, members: Sequence[str], cluster: str, limit: int = 1_000_000, timeout: float = 5.0) -> None:
        self._members = list(members)
        self._cluster = cluster
        self._limit = limit
        self._timeout = timeout
        self._entries = 0
        self._client: Any = None
        self._maps: dict[int, Any] = {}
        self._upkeep: asyncio.Task[None] | None = None

    @property
    def entries(self) -> int:
        """Messages kept, as last counted plus what was written since."""
        return self._entries

    async def start(self) -> None:
        if self._client is None:
            self._client = await asyncio.to_thread(self._connect)
        try:
            for kind, name in MAPS.items():
                self._maps[kind] = await asyncio.to_thread(self._client.get_map, name)
            await self._count()
        except HazelcastError as e:
            raise Away() from e
        if self._upkeep is None:
            self._upkeep = asyncio.create_task(self._keep(), name="message store upkeep")

    def _connect(self) -> Any:
        # It logs a traceback for each try to connect; that the store is away is said once, by whoever waits for it.
        logging.getLogger("hazelcast").setLevel(logging.ERROR)
        return HazelcastClient(
            cluster_name=self._cluster,
            cluster_members=self._members,
            compact_serializers=[NotificationSerializer(), CommandSerializer()],
            default_int_type=IntType.LONG,  # 32 bits otherwise: too small for times and ids in predicates
            # Never give up the cluster, but answer at once that it is away: waiting is the caller's business.
            async_start=True,
            reconnect_mode=ReconnectMode.ASYNC,
            retry_initial_backoff=0.1,
            retry_max_backoff=1.0,
            connection_timeout=2.0,
            # The client leaves Nagle's algorithm on: with two members each batch waited 40 ms for a delayed ACK.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            # A killed member costs 0.8 s instead of 5 s, and no put. Safe: a put done twice is the same put.
            redo_operation=True,
            operation_backup_timeout=0.5,
            invocation_retry_pause=0.2,
            invocation_timeout=self._timeout,
            # A hung member is noticed in 4 s instead of 60 s.
            heartbeat_interval=1.0,
            heartbeat_timeout=4.0,
        )

    async def stop(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.wait([self._upkeep])
        if self._client is not None:
            await asyncio.to_thread(self._client.shutdown)

    async def put(self, entries: list[Entry]) -> None:
        if self._entries >= self._limit:
            raise Full()
        batches: dict[int, dict[str, Value]] = {}
        maybe: dict[int, dict[str, Entry]] = {}
        for entry in entries:
            made = value(entry)
            key = _key((made.device_id, entry.message.id))
            batches.setdefault(entry.kind, {})[key] = made
            if entry.maybe:
                maybe.setdefault(entry.kind, {})[key] = entry
        for kind, asked in maybe.items():
            stored = await self._call(partial(self._maps[kind].get_all, list(asked)))
            for key, old in stored.items():
                if not replaces(asked[key], old.held()):
                    del batches[kind][key]
        puts = [self._call(partial(self._maps[kind].put_all, batch)) for kind, batch in batches.items() if batch]
        await asyncio.gather(*puts)
        self._entries += len(entries)

    async def get(self, kind: int, keys: list[Key]) -> dict[Key, Held]:
        wanted = {_key(key): key for key in keys}
        found = await self._call(partial(self._maps[kind].get_all, list(wanted)))
        return {wanted[key]: stored.held() for key, stored in found.items()}

    async def list(self, query: List, limit: int) -> Page:
        if predicates.nothing(query):
            return Page([])
        entries, now = self._maps[table(query.kind)], int(time.time() * 1000)
        wanted, columns = predicates.predicate(query, now), multi_attribute(*predicates.attributes(query))
        rows = await self._call(partial(entries.project, columns, wanted))
        keys = predicates.page(query, [list(row) for row in rows], now)
        page, size = Page([], loose=True), 0  # `put_all` is not atomic
        for first in range(0, len(keys), CHUNK):
            chunk = keys[first : first + CHUNK]
            found = await self._call(partial(entries.get_all, chunk))
            for body in (found[key].encoded() for key in chunk if key in found):
                size += len(body)
                if size > limit and page.items:
                    page.more = True
                    return page
                page.items.append(retagged(body, query.kind))
        return page

    async def healthy(self) -> bool:
        try:
            async with asyncio.timeout(1.0):
                await self._count()
        except (Away, TimeoutError):
            return False
        return True

    async def _count(self) -> None:
        sizes = [await self._call(entries.size) for entries in self._maps.values()]
        self._entries = sum(sizes)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            with contextlib.suppress(Away):
                await self._count()

    async def _call(self, invoke: Callable[[], Any]) -> Any:
        """Await what the client's thread does. Raises Away, Rejected."""
        try:
            async with asyncio.timeout(self._timeout):
                return await _bridged(invoke())
        except HazelcastSerializationError as e:
            raise Rejected(str(e)) from e
        except (HazelcastError, OSError, TimeoutError) as e:
            raise Away() from e
        except (TypeError, ValueError, ArithmeticError, struct.error) as e:  # what the serializer can't write
            raise Rejected(str(e)) from e


def _key(key: Key) -> str:
    return f"{key[0]}/{key[1]}"


def _bridged(future: Any) -> asyncio.Future[Any]:
    """The client's future as one of this loop; without a thread that waits."""
    loop = asyncio.get_running_loop()
    bridged: asyncio.Future[Any] = loop.create_future()

    def settle(done: Any) -> None:
        if bridged.done():
            return
        try:
            bridged.set_result(done.result())
        except Exception as e:
            bridged.set_exception(e)

    def answered(done: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, done)

    future.add_done_callback(answered)
    return bridged
