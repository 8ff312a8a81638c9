"""The bus client: joins links, publisher, subscriptions and calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from skep import tokens
from skep.bus.calls import Calls
from skep.bus.counters import Counters
from skep.bus.durable import Durable
from skep.bus.errors import Refused, TimedOut
from skep.bus.link import Link
from skep.bus.options import Options
from skep.bus.publisher import Position, Publisher
from skep.bus.stream import Stream
from skep.bus.subscription import Leg, Pipe, Subscription
from skep.bus.window import Window
from skep.wire import messages, proxy, topics
from skep.wire.proxy import Code, Source, Start

log = logging.getLogger("skep.bus")

TOKEN_LIFE = 60_000
"""Milliseconds a service token is good for; it is shown once, at the handshake."""

Answer = proxy.Done | proxy.Described | proxy.HealthReport
A = TypeVar("A", bound=Answer)


class Bus:
    """One process run on the bus.

    urls: proxies, any of which will do for publishing; short-lived topics are read from all of them. instance:
    stable name, one process at a time (the static member name). name: this run's, `<instance>.<random>`.
    Nothing here needs the caller's help when a proxy goes away and comes back.
    """

    def __init__(
        self,
        urls: Sequence[str],
        service: str,
        instance: str,
        secret: str,
        name: str | None = None,
        options: Options = Options(),  # noqa: B008
    ) -> None:
        self.run = name or f"{instance}.{secrets.token_hex(8)}"
        self.options = options
        self.counters = Counters()
        self.publisher = secrets.randbits(63) or 1
        self.on_gap: Callable[[str], None] = lambda topic: None
        """Called with the name of a short-lived topic of which records may be missing."""
        self._urls = list(dict.fromkeys(urls))
        self._identity = (service, instance, secret)
        self._sid = 0
        self._legs: dict[int, Leg] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._streams: list[Stream] = []
        self._durables: list[Durable] = []
        self._links: list[Link] = []
        self._ready: list[Link] = []
        self._active: Link | None = None
        self._retries: dict[Subscription, float] = {}
        self._asks: dict[int, asyncio.Future[Answer]] = {}

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect; returns when one proxy is there and, if others are, they had a moment to be.

        Raises Refused(FORBIDDEN) when a proxy rejects our token, TimedOut after `start_timeout`."""
        self.loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._rejection: Refused | None = None
        self._publisher = Publisher(self.loop, self.options, self.counters, lambda: self._calls.flush())
        self._calls = Calls(self.loop, self.options, self.counters, self._publisher, topics.replies(self.run))
        self._streams.append(Stream(self, topics.replies(self.run), 10_000, 16 << 20, self._calls.answered))
        for url in self._urls:
            link = Link(url, self._token, self.publisher, self.options, self)
            self._links.append(link)
            link.start()
        try:
            await self._wait(lambda: self._active is not None, self.options.start_timeout, "no proxy answers")
            await self._wait(lambda: len(self._ready) == len(self._links), self.options.ready_timeout, "")
        except TimedOut:
            if self._active is None:
                await self.close()
                raise
        except Refused:
            await self.close()
            raise

    async def close(self) -> None:
        """Send what waits, leave the groups, disconnect; at most about three times `close_timeout`. Unconfirmed
        publishes and unanswered calls end as TimedOut."""
        with contextlib.suppress(TimedOut):
            await self._wait(lambda: not self._publisher.unconfirmed, self.options.close_timeout, "", poll=0.01)
        await asyncio.gather(*(s.close() for s in [*self._durables, *self._streams]))
        await asyncio.gather(*(link.stop() for link in self._links))
        self._calls.close()
        self._publisher.close()

    @property
    def connected(self) -> bool:
        """Whether a proxy is there to publish to."""
        return self._active is not None

    def gauges(self) -> dict[str, int]:
        """Present sizes, for metrics."""
        return {
            "unconfirmed_records": self._publisher.unconfirmed,
            "unconfirmed_bytes": self._publisher.bytes,
            "calls_waiting": self._calls.waiting,
            "proxies_up": len(self._ready),
        }

    def _token(self) -> str:
        service, instance, secret = self._identity
        return tokens.encode_service(service, instance, secret, int(time.time() * 1000) + TOKEN_LIFE)

    # -- publishing ----------------------------------------------------------------------------------------------

    async def publish(
        self,
        topic: str,
        payload: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        source: Source | None = None,
        timeout: float = 5.0,
    ) -> Position:
        """(partition, offset) of the record, (-1, -1) on short-lived topics. Past the bound on what is unconfirmed
        it waits. Raises Refused, TimedOut."""
        future: asyncio.Future[Position] = self.loop.create_future()
        entry = self._publisher.entry(topic, payload, key, partition, source, future)
        self._publisher.queue(entry, self.loop.time() + timeout)
        return await future

    def send(
        self,
        topic: str,
        payload: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        source: Source | None = None,
        timeout: float | None = 5.0,
    ) -> asyncio.Future[Position]:
        """`publish` without waiting. Order of calls is order on the wire. Raises Refused(FULL | TOO_LARGE) at once.
        A cancelled future means that the record is not sent again.

        timeout None: for records whose order must hold whatever happens. There is no deadline, since one that is
        published again later would come behind its successors, and past the bound on what is unconfirmed they wait,
        in order, instead of being refused; how many there are is bounded by the caller."""
        future: asyncio.Future[Position] = self.loop.create_future()
        entry = self._publisher.entry(topic, payload, key, partition, source, future)
        if timeout is None:
            self._publisher.queue(entry, math.inf)
        else:
            self._publisher.accept(entry, self.loop.time() + timeout)
        return future

    # -- subscribing ---------------------------------------------------------------------------------------------

    async def subscribe(
        self,
        topic: str,
        group: str | None = None,
        start: Start = Start(),  # noqa: B008
        records: int = 10_000,
        bytes: int = 16 << 20,
        timeout: float | None = None,
        drain: bool = False,
    ) -> Subscription:
        """Subscribe; in effect when it returns (short-lived topics: on every proxy that is up).

        records, bytes: what may wait here before the proxy stops delivering. drain: a partition goes to another member
        only when all that was delivered of it is acknowledged. Raises Refused, TimedOut."""
        subscription: Subscription
        if topics.is_short_lived(topic):
            subscription = stream = Stream(self, topic, records, bytes)
            self._streams.append(stream)
            for link in self._links:
                if link.up:
                    stream.attach(link)
        else:
            subscription = durable = Durable(self, topic, group, start, records, bytes, drain)
            self._durables.append(durable)
            self._attach_durable(durable)
        try:
            async with asyncio.timeout(timeout or self.options.subscribe_timeout):
                await subscription.ready
        except BaseException as error:
            await subscription.close()
            if isinstance(error, TimeoutError):
                raise TimedOut(f"not subscribed to {topic}") from None
            raise
        return subscription

    # -- calls ---------------------------------------------------------------------------------------------------

    def call(
        self,
        topic: str,
        body: Any,
        key: bytes | None = None,
        partition: int | None = None,
        timeout: float = 5.0,
        again: float | None = None,
    ) -> asyncio.Future[bytes]:
        """`request` without waiting; raises Refused(FULL | TOO_LARGE) at once."""
        return self._calls.call(topic, body, key, partition, timeout, again)

    async def request(
        self,
        topic: str,
        body: Any,
        key: bytes | None = None,
        partition: int | None = None,
        timeout: float = 5.0,
        again: float | None = None,
    ) -> bytes:
        """Ask and wait for the answer: MessagePack of the reply's body.

        body: a member of the topic's union (`wire.messages`), or `msgspec.Raw` of its MessagePack. again: seconds
        after which a read is asked a second time; the first answer counts. Raises Failed, TimedOut, Refused."""
        return await self._calls.call(topic, body, key, partition, timeout, again)

    def reply(self, call: messages.Call, code: int = 0, message: str = "", body: Any = None) -> asyncio.Future[bool]:
        """Answer a call; one record for each destination and loop turn. The future (shared by them) tells whether
        the asker's process has taken it; it never raises, and waits until the asker's deadline."""
        return self._calls.reply(call, code, message, body)

    # -- topics, health --------------------------------------------------------------------------------------------

    async def describe(self, topic: str, groups: bool = False) -> proxy.Described:
        """A durable topic's partitions (first, next offset), incarnation and, on demand, its groups' positions.
        Raises Refused, TimedOut."""
        return await self._ask(proxy.Described, lambda id: proxy.Describe(id, topic, groups))

    async def create_topic(self, topic: str, partitions: int = 1, retention: int = topics.HOUR) -> None:
        """retention in ms. A topic that exists keeps its partitions and gets the retention. Raises Refused,
        TimedOut."""
        await self._ask(proxy.Done, lambda id: proxy.CreateTopic(id, topic, partitions, retention))

    async def delete_topic(self, topic: str) -> None:
        """A topic that is missing is no failure. Raises Refused, TimedOut."""
        await self._ask(proxy.Done, lambda id: proxy.DeleteTopic(id, topic))

    async def health(self) -> proxy.HealthReport:
        """Of the proxy in use. Raises TimedOut."""
        return await self._ask(proxy.HealthReport, proxy.Health)

    async def _ask(self, kind: type[A], make: Callable[[int], proxy.ClientFrame]) -> A:
        """Ask the proxy in use; asked again where the connection ends before the answer. All are idempotent."""
        deadline = self.loop.time() + self.options.ask_timeout
        while True:
            await self._wait(lambda: self._active is not None, deadline - self.loop.time(), "no proxy answers")
            assert self._active is not None
            answer = await self._one_answer(self._active, make, deadline)
            if answer is None:
                continue
            failure = getattr(answer, "failure", None)
            if failure is not None:
                raise Refused(failure.code, failure.reason)
            if not isinstance(answer, kind):
                raise Refused(Code.BAD, f"the proxy answered with {type(answer).__name__}")
            return answer

    async def _one_answer(self, link: Pipe, make: Callable[[int], proxy.ClientFrame], deadline: float) -> Answer | None:
        """None: the connection ended first."""
        self._sid += 1
        id = self._sid
        future: asyncio.Future[Answer] = self.loop.create_future()
        self._asks[id] = future
        link.send(make(id))
        try:
            async with asyncio.timeout_at(deadline):
                return await future
        except TimeoutError:
            raise TimedOut("the proxy does not answer") from None
        except ConnectionError:
            return None
        finally:
            del self._asks[id]

    async def _wait(self, condition: Callable[[], bool], timeout: float, what: str, poll: float | None = None) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    if self._rejection is not None and self._active is None:
                        raise self._rejection
                    if poll is not None:
                        await asyncio.sleep(poll)
                        continue
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimedOut(what) from None

    # -- links: streams first, then whatever may bring answers to them ------------------------------------------------

    def link_up(self, link: Link) -> None:
        log.info("%s: connected", link.url)
        self.counters.connects += 1
        self._rejection = None
        for stream in list(self._streams):
            stream.attach(link)
        self.loop.call_later(self.options.ready_timeout, self._make_ready, link, link.welcome)
        self.in_effect(link)

    def in_effect(self, pipe: Pipe) -> None:
        for link in self._links:
            if link is pipe and link not in self._ready and not any(s.waits_for(link) for s in self._streams):
                self._make_ready(link, link.welcome)

    def _make_ready(self, link: Link, welcome: proxy.Welcome) -> None:
        if not link.up or link.welcome is not welcome or link in self._ready:
            return
        self._ready.append(link)
        if self._active is None:
            self._activate(link)
        self._changed.set()

    def _activate(self, link: Link) -> None:
        self._active = link
        for durable in list(self._durables):
            if not durable.attached:
                durable.attach(link)
        self._publisher.attach(link)

    def link_down(self, link: Link) -> None:
        log.log(logging.DEBUG if link.closing else logging.WARNING, "%s: disconnected", link.url)
        self._legs = {sid: leg for sid, leg in self._legs.items() if leg.pipe is not link}
        self._subscriptions = {sid: s for sid, s in self._subscriptions.items() if sid in self._legs}
        for subscription in [*self._streams, *self._durables]:
            subscription.link_down(link)
        if link in self._ready:
            self._ready.remove(link)
        if link is not self._active:
            return
        self._active = None
        self._publisher.detach()
        for future in self._asks.values():
            if not future.done():
                future.set_exception(ConnectionError())
        if self._ready:
            self._activate(random.choice(self._ready))  # noqa: S311

    def link_rejected(self, link: Link, reason: str) -> None:
        self._rejection = Refused(Code.FORBIDDEN, reason)
        self._changed.set()

    def link_frame(self, link: Link, frame: proxy.ProxyFrame) -> None:
        if isinstance(frame, proxy.Published):
            if link is self._active:
                self._publisher.published(frame)
        elif isinstance(frame, Answer):
            future = self._asks.get(frame.id)
            if future is not None and not future.done():
                future.set_result(frame)
        elif not isinstance(frame, proxy.Welcome):
            leg = self._legs.get(frame.sid)
            if leg is not None:
                self._deal(self._subscriptions[frame.sid], leg, frame)

    def _deal(self, subscription: Subscription, leg: Leg, frame: proxy.ProxyFrame) -> None:
        if isinstance(frame, proxy.Deliver):
            subscription.deliver(leg, frame)
        elif isinstance(frame, proxy.Subscribed):
            self._retries.pop(subscription, None)
            subscription.subscribed(leg, frame)
        elif isinstance(frame, proxy.Assigned):
            subscription.assigned(leg, frame)
        elif isinstance(frame, proxy.Revoked):
            subscription.revoked(leg, frame)
        elif isinstance(frame, proxy.Gap):
            subscription.gap(leg, frame)
        elif isinstance(frame, proxy.Closed):
            subscription.closed(leg, frame.failure)

    # -- the host of subscriptions -----------------------------------------------------------------------------------

    def open_leg(self, subscription: Subscription, pipe: Pipe, window: Window) -> Leg:
        self._sid += 1
        leg = self._legs[self._sid] = Leg(pipe, self._sid, window)
        self._subscriptions[self._sid] = subscription
        return leg

    def close_leg(self, leg: Leg) -> None:
        self._subscriptions.pop(leg.sid, None)
        if self._legs.pop(leg.sid, None) is not None and leg.subscribed:
            leg.pipe.send(proxy.Unsubscribe(leg.sid, leg.sid))

    def again(self, subscription: Subscription, pipe: Pipe) -> None:
        delay = self._retries.get(subscription, self.options.backoff_first)
        self._retries[subscription] = min(2 * delay, self.options.backoff_last)
        self.loop.call_later(delay, self._attach_again, subscription, pipe)

    def _attach_again(self, subscription: Subscription, pipe: Pipe) -> None:
        if isinstance(subscription, Stream):
            if pipe.up and subscription in self._streams and subscription.lacks(pipe):
                subscription.attach(pipe)
        elif isinstance(subscription, Durable) and subscription in self._durables and not subscription.attached:
            self._attach_durable(subscription)

    def _attach_durable(self, durable: Durable) -> None:
        if self._active is not None:
            durable.attach(self._active)

    def gap(self, topic: str) -> None:
        log.warning("%s: records may be missing", topic)
        try:
            self.on_gap(topic)
        except Exception:
            log.exception("on_gap failed")  # the connection is not to suffer from it

    def forget(self, subscription: Subscription) -> None:
        if isinstance(subscription, Stream):
            self._streams = [s for s in self._streams if s is not subscription]
        else:
            self._durables = [s for s in self._durables if s is not subscription]
        self._retries.pop(subscription, None)

    async def leave(self, legs: Iterable[Leg]) -> None:
        waits = []
        for leg in legs:
            self._subscriptions.pop(leg.sid, None)
            if self._legs.pop(leg.sid, None) is not None and leg.pipe.up:
                deadline = self.loop.time() + self.options.close_timeout
                waits.append(self._one_answer(leg.pipe, _unsubscribe(leg.sid), deadline))
        await asyncio.gather(*waits, return_exceptions=True)


def _unsubscribe(sid: int) -> Callable[[int], proxy.ClientFrame]:
    return lambda id: proxy.Unsubscribe(id, sid)
