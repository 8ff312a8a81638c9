import asyncio
from math import inf
from typing import Any

import pytest

from skep.bus.counters import Counters
from skep.bus.errors import Refused, TimedOut
from skep.bus.options import Options
from skep.bus.publisher import Position, Publisher
from skep.wire import proxy
from skep.wire.proxy import Code
from tests.unit.skep.bus.fakes import FakePipe, turn


def make(**options: int) -> Publisher:
    return Publisher(asyncio.get_running_loop(), Options(**options), Counters())  # type: ignore[arg-type]


def send(
    publisher: Publisher, topic: str = "requests", payload: bytes = b"x", timeout: float = 60, **more: Any
) -> asyncio.Future[Position]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Position] = loop.create_future()
    publisher.accept(publisher.entry(topic, payload, None, None, None, future, **more), loop.time() + timeout)
    return future


def seqs(frame: proxy.Publish) -> list[int]:
    return [r.seq for r in frame.records]


def confirm(publisher: Publisher, frame: proxy.Publish, failures: dict[int, proxy.Failure] | None = None) -> None:
    positions = [(0, r.seq * 10) for r in frame.records]
    publisher.published(proxy.Published(frame.id, positions, failures or {}))


async def test_a_loop_turn_is_one_frame_for_durable_topics_and_one_for_each_short_lived_one() -> None:
    publisher, pipe = make(), FakePipe()
    publisher.attach(pipe)
    for topic in ("requests", "events.a", "subscriptions", "events.b", "events.a"):
        send(publisher, topic)
    assert pipe.sent == []
    await turn()
    frames = pipe.take(proxy.Publish)
    assert [seqs(f) for f in frames] == [[1, 3], [2, 5], [4]]


async def test_derived_records_of_a_topic_have_a_frame_of_their_own() -> None:
    publisher, pipe = make(), FakePipe()
    publisher.attach(pipe)
    source = proxy.Source("log", 0, 1)
    for topic, made_of in (("requests", None), ("a", source), ("b", source), ("dead-letters", None), ("a", source)):
        loop = asyncio.get_running_loop()
        publisher.queue(publisher.entry(topic, b"x", None, None, made_of, loop.create_future()), inf)
    await turn()
    assert [seqs(f) for f in pipe.take(proxy.Publish)] == [[1, 4], [2, 5], [3]]


async def test_confirmation_gives_the_position() -> None:
    publisher, pipe = make(), FakePipe()
    publisher.attach(pipe)
    first, second = send(publisher), send(publisher)
    await turn()
    confirm(publisher, *pipe.take(proxy.Publish))
    assert (first.result(), second.result()) == ((0, 10), (0, 20))
    assert publisher.unconfirmed == publisher.bytes == 0


async def test_a_refusal_is_final_and_concerns_one_record() -> None:
    publisher, pipe = make(), FakePipe()
    publisher.attach(pipe)
    first, second = send(publisher), send(publisher)
    await turn()
    confirm(publisher, *pipe.take(proxy.Publish), {0: proxy.Failure(Code.UNAVAILABLE, "away")})
    with pytest.raises(Refused, match="UNAVAILABLE: away"):
        first.result()
    assert second.done()
    publisher.detach()
    publisher.attach(pipe)
    assert pipe.take(proxy.Publish) == []


async def test_unconfirmed_records_are_sent_again_in_order_with_their_seq() -> None:
    publisher, old, new = make(), FakePipe(), FakePipe()
    publisher.attach(old)
    for _ in range(3):
        send(publisher)
    await turn()
    confirm_later = old.take(proxy.Publish)
    send(publisher)
    await turn()
    publisher.detach()
    send(publisher)
    await turn()
    publisher.attach(new)
    send(publisher)
    await turn()
    assert [seqs(f) for f in new.take(proxy.Publish)] == [[1, 2, 3, 4, 5], [6]]
    confirm(publisher, *confirm_later)  # the dead connection has no say any more
    assert publisher.unconfirmed == 6


async def test_frames_are_split_by_bytes_and_by_number() -> None:
    publisher, pipe = make(), FakePipe(max_frame=4000, max_batch=3)
    publisher.attach(pipe)
    for size in (1400, 1400, 1400, 1, 1, 1, 1):
        send(publisher, payload=b"x" * size)
    await turn()
    frames = pipe.take(proxy.Publish)
    assert [seqs(f) for f in frames] == [[1, 2], [3, 4, 5], [6, 7]]
    assert all(len(proxy.encode(f)) <= 4000 for f in frames)


async def test_what_is_too_large_is_refused_at_once() -> None:
    with pytest.raises(Refused) as refused:
        send(make(), payload=b"x" * (proxy.MAX_BODY + 1))
    assert (refused.value.code, refused.value.status) == (Code.TOO_LARGE, 413)


async def test_past_the_bound_send_is_refused_and_publish_waits_in_order() -> None:
    publisher, pipe = make(unconfirmed_records=2), FakePipe()
    publisher.attach(pipe)
    loop = asyncio.get_running_loop()
    futures = [send(publisher), send(publisher)]
    with pytest.raises(Refused) as refused:
        send(publisher)
    assert refused.value.code == Code.FULL
    for payload in (b"third", b"fourth"):
        future: asyncio.Future[Position] = loop.create_future()
        publisher.queue(publisher.entry("requests", payload, None, None, None, future), loop.time() + 60)
        futures.append(future)
    await turn()
    confirm(publisher, *pipe.take(proxy.Publish))
    await turn()
    (frame,) = pipe.take(proxy.Publish)
    assert [(r.seq, r.payload) for r in frame.records] == [(3, b"third"), (4, b"fourth")]


async def test_bytes_are_bounded_too() -> None:
    publisher = make(unconfirmed_bytes=1000)
    send(publisher, payload=b"x" * 800)
    with pytest.raises(Refused, match="FULL"):
        send(publisher, payload=b"x" * 800)


async def test_an_expired_record_that_was_never_sent_is_forgotten() -> None:
    publisher, pipe = make(), FakePipe()
    future = send(publisher, timeout=0.01)
    with pytest.raises(TimedOut):
        await future
    assert publisher.unconfirmed == publisher.bytes == 0
    publisher.attach(pipe)
    assert pipe.take(proxy.Publish) == []


async def test_an_expired_record_that_was_sent_counts_until_the_connection_ends() -> None:
    publisher, pipe = make(), FakePipe()
    publisher.attach(pipe)
    future = send(publisher, timeout=0.01)
    with pytest.raises(TimedOut):
        await future
    assert publisher.unconfirmed == 1
    publisher.detach()
    assert publisher.unconfirmed == publisher.bytes == 0
    publisher.attach(pipe)
    assert len(pipe.take(proxy.Publish)) == 1  # the first time only


async def test_a_cancelled_record_is_not_sent_again() -> None:
    publisher, pipe = make(), FakePipe()
    futures = [send(publisher), send(publisher)]
    await turn()
    futures[0].cancel()
    publisher.attach(pipe)
    assert [seqs(f) for f in pipe.take(proxy.Publish)] == [[2]]


async def test_a_call_hears_of_failures_only() -> None:
    publisher, pipe = make(), FakePipe()
    publisher.attach(pipe)
    futures = [send(publisher, confirms=False), send(publisher, confirms=False)]
    await turn()
    confirm(publisher, *pipe.take(proxy.Publish), {1: proxy.Failure(Code.NO_SUBSCRIBER, "nobody")})
    assert not futures[0].done()
    assert isinstance(futures[1].exception(), Refused)


async def test_close_ends_everything() -> None:
    publisher = make()
    future = send(publisher)
    await turn()
    publisher.close()
    assert isinstance(future.exception(), TimedOut)


async def test_what_has_no_deadline_keeps_its_order_past_the_bound() -> None:
    """A small record must not slip in before a large one that has to wait for room."""
    publisher, pipe = make(unconfirmed_bytes=1_000), FakePipe()
    publisher.attach(pipe)
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Position]] = [loop.create_future() for _ in range(3)]
    for payload, future in zip((b"a" * 500, b"b" * 600, b"c"), futures, strict=True):
        publisher.queue(publisher.entry("events.a", payload, None, None, None, future), inf)
    payloads = []
    for _ in range(3):
        await turn()
        for frame in pipe.take(proxy.Publish):
            payloads += [r.payload[:1] for r in frame.records if r.payload]
            confirm(publisher, frame)
    assert payloads == [b"a", b"b", b"c"]
    assert all(future.done() for future in futures)


async def test_what_has_no_deadline_is_sent_after_any_outage() -> None:
    publisher, pipe = make(), FakePipe()
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Position] = loop.create_future()
    publisher.queue(publisher.entry("events.a", b"x", None, None, None, future), inf)
    late = send(publisher, "events.a", timeout=0)
    with pytest.raises(TimedOut):
        await late
    publisher.attach(pipe)
    assert [seqs(frame) for frame in pipe.take(proxy.Publish)] == [[1]]
