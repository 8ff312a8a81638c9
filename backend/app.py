"""Composition root of the backend."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from backend.adapters.postgres import PostgresStore
from backend.api.counters import Counters
from backend.api.queries import Queries
from backend.api.requests import Requests
from backend.api.subscriptions import Subscriptions
from backend.core.batches import Planner
from backend.core.store import Away, Store
from backend.settings import Settings
from skep import bus, logs

log = logs.get("backend")
REPORT = 60.0
"""Seconds between lines with the counters."""
DRAIN = 1.5
"""Seconds a stop waits for batches under way; what is left is repeated by the next owner."""


class App:
    def __init__(self, settings: Settings) -> None:
        self._counters = Counters()
        self._bus = bus.Bus(settings.bus_urls, "backend", settings.instance, settings.bus_secret)
        self._store = make_store(settings)
        self._subscriptions = Subscriptions(self._bus)
        self._queries = Queries(self._bus, self._store, settings.queries, self._counters)
        self._requests = Requests(
            self._bus,
            self._store,
            self._subscriptions,
            Planner(self._subscriptions.interests, fault(settings.fault)),
            self._counters,
            settings.batch_records,
            settings.batch_bytes,
            settings.batches,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._joined = False

    async def start(self) -> None:
        await self._start_store()
        await self._bus.start()
        self._joined = True
        await self._subscriptions.start()
        self._run(interests=self._subscriptions.follow(), sweep=self._subscriptions.sweep(), report=self._report())
        await self._subscriptions.reached(await self._subscriptions.end())
        await self._queries.start()
        await self._requests.start()
        self._run(queries=self._queries.follow(), requests=self._requests.follow(), settle=self._requests.settle())

    async def stop(self) -> None:
        for task in self._tasks:
            if task.get_name() != "settle":
                task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN):
                await self._requests.drained()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._joined:
            await self._bus.close()
        await self._store.stop()

    async def _start_store(self) -> None:
        while True:
            try:
                return await self._store.start()
            except Away as e:
                log.warning("waiting for the message store: %s", e.__cause__ or e)
                await asyncio.sleep(1.0)

    def _run(self, **loops: Coroutine[Any, Any, None]) -> None:
        for name, loop in loops.items():
            task = asyncio.create_task(loop, name=name)
            task.add_done_callback(_ended)
            self._tasks.append(task)

    async def _report(self) -> None:
        before = msgspec.structs.asdict(self._counters)
        while True:
            await asyncio.sleep(REPORT)
            now = msgspec.structs.asdict(self._counters)
            if now != before:
                log.info(
                    "in %d s: %s", REPORT, ", ".join(f"{k} {v - before[k]}" for k, v in now.items() if v != before[k])
                )
            before = now


def make_store(settings: Settings) -> Store:
    if settings.store == "hazelcast":
        from backend.adapters.hazelcast import HazelcastStore  # 30 MB that the light set does without

        return HazelcastStore(settings.members, settings.cluster, settings.store_entries, settings.store_timeout)
    return PostgresStore(
        settings.store_url or settings.database_url, settings.ttl, settings.store_bytes, settings.store_timeout
    )


def fault(setting: str) -> Callable[[str], None] | None:
    """`raise:NAME`: what raises on a notification of that name."""
    if not setting:
        return None
    wanted = setting.removeprefix("raise:")

    def raise_on(name: str) -> None:
        if name == wanted:
            raise RuntimeError("SKEP_FAULT")

    return raise_on


def _ended(task: asyncio.Task[None]) -> None:
    """A loop that ends by itself leaves the process useless: stop it, whoever keeps it running starts a new one."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s ended: %s", task.get_name(), error, exc_info=error)
        signal.raise_signal(signal.SIGTERM)
