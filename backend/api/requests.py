"""The pipeline: take what waits on `requests`, store it in one call, publish what follows, acknowledge.

While a batch waits for its confirmations the next one is stored; batches are acknowledged in order.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterator

from backend.api.counters import Counters
from backend.api.publishing import Publisher
from backend.api.subscriptions import Subscriptions
from backend.core import batches
from backend.core.batches import Failed, Partition, Plan, Planner, Work
from backend.core.store import Away, Full, Held, Key, Store
from skep import bus
from skep.wire import topics
from skep.wire.messages import Marker
from skep.wire.proxy import Delivered

log = logging.getLogger("backend.requests")
GROUP = "backend"

Batch = list[tuple[Partition, list[Delivered]]]


class Requests:
    """records, size: most of one batch. in_flight: most batches that are not acknowledged."""

    def __init__(
        self,
        link: bus.Bus,
        store: Store,
        subscriptions: Subscriptions,
        planner: Planner,
        counters: Counters,
        records: int = 1_000,
        size: int = 4 << 20,
        in_flight: int = 8,
    ) -> None:
        self._bus = link
        self._store = store
        self._subscriptions = subscriptions
        self._planner = planner
        self._counters = counters
        self._records = records
        self._size = size
        self._publisher = Publisher(link, counters)
        self._partitions: dict[int, Partition] = {}
        self._flying: asyncio.Queue[tuple[asyncio.Task[None], Batch]] = asyncio.Queue(in_flight)

    async def start(self) -> None:
        self._subscription = await self._bus.subscribe(
            topics.REQUESTS, group=GROUP, start=bus.Start("earliest"), records=self._records * 2, bytes=self._size * 2
        )

    async def close(self) -> None:
        await self._subscription.close()

    async def drained(self) -> None:
        """Wait until every batch taken is acknowledged."""
        await self._flying.join()

    # -- taking ----------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Take batches; until cancelled. Raises bus.Closed."""
        while True:
            waiting: Batch = []
            for event in await self._subscription.next():
                if isinstance(event, bus.Records):
                    waiting.append((self._partitions[event.partition], event.records))
                    continue
                await self._handle(waiting)
                waiting = []
                await self._changed(event)
            await self._handle(waiting)

    async def _changed(self, event: bus.Event) -> None:
        if isinstance(event, bus.Assigned):
            log.info("partition %d from %d, repeated below %d", event.partition, event.offset, event.end)
            partition = Partition(event.partition, event.incarnation, event.end, event.state)
            self._partitions[event.partition] = partition
            await self._subscriptions.reached(await self._subscriptions.end())
        elif isinstance(event, bus.Revoked):
            log.info("partitions %s are another's", event.partitions)
            for number in event.partitions:
                self._partitions.pop(number, None)
        elif isinstance(event, bus.Gap):
            log.error(
                "requests lost: partition %d, %d to %d: %s", event.partition, event.start, event.end, event.reason
            )

    async def _handle(self, waiting: Batch) -> None:
        for batch in _cut(waiting, self._records, self._size):
            plan = await self._stored(batch)
            self._counters.batches += 1
            await self._flying.put((self._publisher.publish(plan), batch))

    async def settle(self) -> None:
        """Acknowledge batches as they are confirmed, in order; until cancelled."""
        while True:
            confirmed, batch = await self._flying.get()
            await confirmed
            for partition, records in batch:
                if self._partitions.get(partition.number) is partition:
                    self._subscription.ack(partition.number, records[-1].offset + 1, partition.state())
            self._flying.task_done()

    # -- storing -----------------------------------------------------------------------------------------------------

    async def _stored(self, batch: Batch) -> Plan:
        """Decode the batch and store what it brings; what could not be handled is in `Plan.failed`."""
        works: list[Work] = []
        failed: list[Failed] = []
        for partition, records in batch:
            for record in records:
                decoded = batches.decode(partition, record)
                if isinstance(decoded, Work):
                    works.append(decoded)
                else:
                    failed.append(decoded)
        self._counters.handled += len(works)
        await self._markers([w.request.offset for w in works if isinstance(w.request, Marker)])
        try:
            plan = await self._carried_out(works)
        except Exception as e:
            log.warning("a batch of %d failed, trying its records one by one: %s", len(works), e)
            plan = await self._one_by_one(works)
        plan.failed += failed
        for bad in plan.failed:
            log.error("not handled: partition %d, offset %d: %s", bad.partition.number, bad.record.offset, bad.reason)
        self._counters.dead_letters += len(plan.failed)
        self._counters.expired += plan.expired
        return plan

    async def _markers(self, offsets: list[int]) -> None:
        """Read `subscriptions` as far as the markers say; one that is past its end fails when it is planned."""
        furthest = max(offsets, default=0)
        if self._subscriptions.interests.position < furthest:
            await self._subscriptions.reached(min(furthest, await self._subscriptions.end()))

    async def _carried_out(self, works: list[Work]) -> Plan:
        """Plan and store; waits while the engine is away. Raises what the store holds against the input."""
        pause = 0.05
        refused: list[batches.Answer] = []
        while True:
            works = await self._ours(works)
            try:
                held: dict[int, dict[Key, Held]] = {}
                for kind, keys in batches.wanted(works).items():
                    held[kind] = await self._store.get(kind, keys)
                plan = self._planner.plan(works, held, _now())
                if plan.entries:
                    await self._store.put(list(plan.entries.values()))
                plan.answers += refused
                return plan
            except Full as e:
                log.warning("%s", e)
                told, works = _split(works, _now())
                refused += [batches.refusal(w) for w in told]
                self._counters.refused += len(told)
            except Away as e:
                log.warning("the message store is away: %s", e.__cause__ or e)
                for work in works:
                    work.maybe = True  # it may have been written after all
            if works:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(pause * 2, 1.0)

    async def _one_by_one(self, works: list[Work]) -> Plan:
        whole = Plan()
        for work in works:
            for tries in range(batches.TRIES, 0, -1):
                try:
                    whole.add(await self._carried_out([work]))
                    break
                except Exception as e:
                    if tries == 1:
                        whole.failed.append(
                            Failed(work.partition, work.record, work.call, f"{type(e).__name__}: {e}", batches.TRIES)
                        )
        return whole

    async def _ours(self, works: list[Work]) -> list[Work]:
        """Those of partitions that nobody took over meanwhile."""
        if not works:
            return works
        owned = await self._subscription.owned({w.partition.number for w in works})
        mine = {p for n, p in self._partitions.items() if n in owned}
        return works if all(w.partition in mine for w in works) else [w for w in works if w.partition in mine]


def _cut(waiting: Batch, most: int, room: int) -> Iterator[Batch]:
    """Batches within the limits; one record always fits."""
    batch: Batch = []
    count = size = 0
    for partition, records in waiting:
        first = 0
        for i, record in enumerate(records):
            length = len(record.payload or b"")
            if count and (count == most or size + length > room):
                if i > first:
                    batch.append((partition, records[first:i]))
                yield batch
                batch, count, size, first = [], 0, 0, i
            count += 1
            size += length
        batch.append((partition, records[first:]))
    if batch:
        yield batch


def _split(works: list[Work], now: int) -> tuple[list[Work], list[Work]]:
    """(those whose caller waits and can be told to try again, the others: they wait for room)."""
    told = [w for w in works if w.call.reply_to and now < w.call.deadline and not isinstance(w.request, Marker)]
    gone = set(map(id, told))
    return told, [w for w in works if id(w) not in gone]


def _now() -> int:
    return int(time.time() * 1000)
