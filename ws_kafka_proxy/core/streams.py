"""Short-lived topics: records go from publisher to subscriber inside the proxy. No I/O, no clock.

A record is confirmed when its subscriber took it (`ack`), refused with NO_SUBSCRIBER when nobody reads the topic and
with FULL when it waited `full_after` ms or the topic is at its bounds. Refusals while nobody reads are remembered:
the next subscriber is told `gap`. For the first `hold` ms such records wait instead, since after a restart of the
proxy the subscribers are on their way.

Order: everything of a topic passes one queue, first in, first out; what a vanished subscriber had not taken goes
back to the front of it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from msgspec import Struct

from skep.wire import topics
from skep.wire.proxy import Code, Delivered, Failure, Record
from ws_kafka_proxy.core.ticket import Ticket

NOBODY = Failure(Code.NO_SUBSCRIBER, "nobody reads this topic")
STAYED_FULL = Failure(Code.FULL, "the stream stayed full and was cut")
AT_BOUND = Failure(Code.FULL, "too many records wait")
REMEMBERED = 10_000
"""Topics whose refusals are remembered; the oldest are forgotten."""


class Limits(Struct, frozen=True):
    """records, bytes: most that may wait on one topic. total: bytes that may wait on all. Times in ms."""

    records: int = 20_000
    bytes: int = 64 << 20
    total: int = 256 << 20
    hold: int = 3_000
    full_after: int = 2_000


class Entry:
    """A record without outcome. `readers`: subscriptions that have yet to take it; `number`: order of arrival."""

    __slots__ = ("index", "number", "publisher", "readers", "record", "since", "size", "taken", "ticket")

    def __init__(self, record: Record, publisher: int, ticket: Ticket, index: int, number: int, since: int) -> None:
        self.record = record
        self.publisher = publisher
        self.ticket = ticket
        self.index = index
        self.number = number
        self.since = since
        self.size = len(record.payload or b"") + len(record.key or b"")
        self.readers = 1
        self.taken = False


class Queue(deque[Entry]):
    """`size`: bytes of what waits."""

    size = 0

    def push(self, entry: Entry) -> None:
        self.append(entry)
        self.size += entry.size

    def pull(self) -> Entry:
        entry = self.popleft()
        self.size -= entry.size
        return entry

    def refill(self, entries: list[Entry]) -> None:
        """Only these, in order of arrival."""
        self.clear()
        self.extend(sorted(entries, key=lambda e: e.number))
        self.size = sum(e.size for e in entries)


class Subscription:
    """One socket's subscription. The socket takes `out` (and `cut`) after `wake` was called."""

    def __init__(self, topic: Topic, owner: int, records: int, size: int, wake: Callable[[], None]) -> None:
        self.topic = topic
        self.owner = owner
        self.records = records
        self.bytes = size
        self.wake = wake
        self.superseded = False
        self.cut = False
        self.out: list[Delivered] = []
        self.flying: deque[Entry] = deque()
        self.waiting = topic.queue if topic.spread else Queue()
        self.next = 0

    def deliver(self, entry: Entry) -> None:
        record = entry.record
        self.out.append(
            Delivered(self.next, entry.since, entry.publisher, record.seq, record.key, record.payload, record.source)
        )
        self.next += 1
        self.records -= 1
        self.bytes -= entry.size
        self.flying.append(entry)
        self.wake()

    @property
    def ready(self) -> bool:
        return self.records > 0 and self.bytes > 0


class Topic:
    """`queue`: what waits for any subscriber (spread), or for the first one (the others, in the first seconds)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.spread = name in topics.SPREAD
        self.subscriptions: list[Subscription] = []
        self.queue = Queue()

    def queues(self) -> list[Queue]:
        return [self.queue] if self.spread else [self.queue, *(s.waiting for s in self.subscriptions)]


class Streams:
    """All short-lived topics of one proxy. `now` is in ms, of a clock that never goes back except `since`."""

    def __init__(self, limits: Limits, now: int) -> None:
        self.limits = limits
        self._held_until = now + limits.hold
        self._topics: dict[str, Topic] = {}
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._backlog: set[Topic] = set()
        self._number = 0
        self._bytes = 0

    def begin(self, now: int) -> None:
        """The proxy begins to listen: records without subscriber are held from now on."""
        self._held_until = now + self.limits.hold

    # -- publishing

    def publish(self, publisher: int, ticket: Ticket, index: int, record: Record, now: int) -> None:
        """Take one record; its outcome goes to the ticket, perhaps before this returns."""
        topic = self._topics.get(record.topic)
        if topic is None:
            if now >= self._held_until:
                self._refuse_unread(record.topic, ticket, index)
                return
            topic = self._topics[record.topic] = Topic(record.topic)
        self._number += 1
        entry = Entry(record, publisher, ticket, index, self._number, now)
        if not topic.subscriptions:
            if now >= self._held_until:
                self._refuse_unread(record.topic, ticket, index)
            else:
                self._wait(topic, topic.queue, entry)
        elif topic.spread:
            taker = None if topic.queue else self._taker(topic)
            if taker is not None:
                taker.deliver(entry)
            else:
                self._wait(topic, topic.queue, entry)
        else:
            entry.readers = len(topic.subscriptions)
            for subscription in topic.subscriptions:
                if not subscription.waiting and subscription.ready:
                    subscription.deliver(entry)
                else:
                    self._wait(topic, subscription.waiting, entry)

    def _refuse_unread(self, name: str, ticket: Ticket, index: int) -> None:
        self._remember(name)
        ticket.refuse(index, NOBODY)

    def _remember(self, name: str) -> None:
        self._refused[name] = None
        self._refused.move_to_end(name)
        if len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)

    def _wait(self, topic: Topic, queue: Queue, entry: Entry) -> None:
        limits = self.limits
        queue.push(entry)
        self._bytes += entry.size
        self._backlog.add(topic)
        if len(queue) <= limits.records and queue.size <= limits.bytes and self._bytes <= limits.total:
            return
        if not topic.spread and topic.subscriptions:
            self._cut(next(s for s in topic.subscriptions if s.waiting is queue), AT_BOUND)
            return
        queue.pop()
        queue.size -= entry.size
        self._bytes -= entry.size
        if not topic.subscriptions:
            self._remember(topic.name)
        self._drop(entry, AT_BOUND)

    # -- subscribing

    def subscribe(
        self, name: str, owner: int, records: int, size: int, wake: Callable[[], None], now: int
    ) -> tuple[Subscription, bool]:
        """A new subscription, and whether records were refused since the topic's last one.

        An older subscription of the same `owner` (a run, by its publisher number) is a socket that is dead without
        our knowing: the new one takes its place and all that it had not taken.
        """
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Topic(name)
        gap = not topic.subscriptions and name in self._refused
        self._refused.pop(name, None)
        subscription = Subscription(topic, owner, records, size, wake)
        older = [s for s in topic.subscriptions if s.owner == owner]
        for old in older:
            old.superseded = True
            topic.subscriptions.remove(old)
        left = [e for s in older for e in s.flying]
        if topic.spread:
            self._fill(topic, topic.queue, [*left, *topic.queue])
        else:
            left += [e for s in older for e in self._empty(s.waiting)]
            self._fill(topic, subscription.waiting, left + self._empty(topic.queue))
        topic.subscriptions.append(subscription)
        self._pump(topic)
        return subscription, gap

    def ack(self, subscription: Subscription, offset: int) -> None:
        """Everything before `offset` was taken. Raises ValueError for an offset that was not delivered."""
        if subscription.superseded:
            return
        flying = subscription.flying
        taken = offset - (subscription.next - len(flying))
        if taken > len(flying) - len(subscription.out):
            raise ValueError("acknowledged what was not delivered")
        for _ in range(taken):
            entry = flying.popleft()
            entry.taken = True
            entry.readers -= 1
            if not entry.readers:
                entry.ticket.confirm()

    def credit(self, subscription: Subscription, records: int, size: int) -> None:
        """Adds to what may be delivered, up to the bounds of a topic."""
        subscription.records = min(subscription.records + records, self.limits.records)
        subscription.bytes = min(subscription.bytes + size, self.limits.bytes)
        if not subscription.superseded:
            self._pump(subscription.topic)

    def remove(self, subscription: Subscription, now: int) -> None:
        """The subscriber left or vanished. What it had not taken goes to others, or is refused where none is."""
        if subscription.superseded:
            return
        subscription.superseded = True
        topic = subscription.topic
        topic.subscriptions.remove(subscription)
        left = list(subscription.flying)
        if not topic.spread:
            left += self._empty(subscription.waiting)
        if topic.spread or (not topic.subscriptions and now < self._held_until):
            self._fill(topic, topic.queue, [*left, *self._empty(topic.queue)])
        else:
            self._refuse_left(topic, left)
        self._settle(topic, now)
        self._pump(topic)

    def _refuse_left(self, topic: Topic, entries: list[Entry]) -> None:
        if entries and not topic.subscriptions:
            self._remember(topic.name)
        for entry in entries:
            self._drop(entry, NOBODY)

    # -- time

    def tick(self, now: int) -> None:
        """Cut what stayed full, refuse what was held long enough. Call several times a second."""
        for topic in list(self._backlog):
            self._settle(topic, now)
            old = now - self.limits.full_after
            if topic.spread:
                while topic.subscriptions and topic.queue and topic.queue[0].since <= old:
                    self._drop(self._unqueue(topic.queue), STAYED_FULL)
            else:
                for subscription in topic.subscriptions:
                    if subscription.waiting and subscription.waiting[0].since <= old:
                        self._cut(subscription, STAYED_FULL)
            self._rest(topic)

    def waiting(self) -> dict[str, int]:
        """Topic -> records without outcome."""
        return {
            t.name: sum(map(len, t.queues())) + sum(len(s.flying) for s in t.subscriptions)
            for t in self._topics.values()
        }

    # -- inside

    def _taker(self, topic: Topic) -> Subscription | None:
        """The least busy subscriber of a spread topic that has credit."""
        ready = [s for s in topic.subscriptions if s.ready]
        return min(ready, key=lambda s: len(s.flying)) if ready else None

    def _pump(self, topic: Topic) -> None:
        if topic.spread:
            while topic.queue and (taker := self._taker(topic)) is not None:
                taker.deliver(self._unqueue(topic.queue))
        else:
            for subscription in topic.subscriptions:
                while subscription.waiting and subscription.ready:
                    subscription.deliver(self._unqueue(subscription.waiting))
        self._rest(topic)

    def _unqueue(self, queue: Queue) -> Entry:
        entry = queue.pull()
        self._bytes -= entry.size
        return entry

    def _empty(self, queue: Queue) -> list[Entry]:
        entries = list(queue)
        self._bytes -= queue.size
        queue.refill([])
        return entries

    def _fill(self, topic: Topic, queue: Queue, entries: list[Entry]) -> None:
        self._bytes -= queue.size
        queue.refill(entries)
        self._bytes += queue.size
        if entries:
            self._backlog.add(topic)

    def _settle(self, topic: Topic, now: int) -> None:
        """Refuse what nobody is going to read."""
        if not topic.subscriptions and now >= self._held_until:
            self._refuse_left(topic, self._empty(topic.queue))

    def _cut(self, subscription: Subscription, failure: Failure) -> None:
        for entry in self._empty(subscription.waiting):
            self._drop(entry, failure)
        subscription.cut = True
        subscription.wake()

    def _drop(self, entry: Entry, failure: Failure) -> None:
        """One reader fewer; the last one decides."""
        entry.readers -= 1
        if entry.readers:
            return
        if entry.taken:
            entry.ticket.confirm()
        else:
            entry.ticket.refuse(entry.index, failure)

    def _rest(self, topic: Topic) -> None:
        if not any(topic.queues()):
            self._backlog.discard(topic)
            if not topic.subscriptions:
                self._topics.pop(topic.name, None)
