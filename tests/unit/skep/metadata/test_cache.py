"""The cache by itself: age, freshness, single flight, bounds, invalidation. The clock is the test's."""

import asyncio

import pytest

from skep import errors
from skep.metadata.cache import Cache


class Source:
    """Counts loads; holds them while `gate` is not set."""

    def __init__(self, **rows):
        self.rows = rows
        self.loads = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.started = asyncio.Event()
        self.failure = None

    async def load(self, keys):
        rows = {k: self.rows[k] for k in keys if k in self.rows}
        self.loads.append(keys)
        self.started.set()
        await self.gate.wait()
        if self.failure:
            raise self.failure
        return rows


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def cache_of(source, clock, limit=10_000):
    return Cache(source.load, len, limit, 60.0, clock)


async def test_served_until_too_old(clock):
    source = Source(a="1")
    cache = cache_of(source, clock)
    assert [await cache.get("a") for _ in range(3)] == ["1"] * 3
    source.rows["a"] = "2"
    clock.now += 60
    assert await cache.get("a") == "1"
    clock.now += 0.1
    assert await cache.get("a") == "2"
    assert source.loads == [["a"], ["a"]]


async def test_missing_is_remembered_too(clock):
    source = Source()
    cache = cache_of(source, clock)
    assert [await cache.get("a"), await cache.get("a")] == [None, None]
    assert len(source.loads) == 1


async def test_one_load_for_all_who_wait_and_one_for_all_keys(clock):
    source = Source(a="1", b="2")
    cache = cache_of(source, clock)
    values = await asyncio.gather(*(cache.get(k) for k in "aabab"))
    assert values == ["1", "1", "2", "1", "2"]
    assert source.loads == [["a", "b"]]


async def test_fresh_reads_again_but_not_more_than_once_a_second(clock):
    source = Source(a="1")
    cache = cache_of(source, clock)
    await cache.get("a")
    clock.now += 0.9
    await cache.get("a", fresh=True)
    assert len(source.loads) == 1
    clock.now += 0.1
    source.rows["a"] = "2"
    assert await cache.get("a", fresh=True) == "2"
    assert await cache.get("a", fresh=True) == "2"
    assert len(source.loads) == 2


async def test_fresh_does_not_take_the_answer_of_an_earlier_read(clock):
    source = Source(a="1")
    cache = cache_of(source, clock)
    source.gate.clear()
    early = asyncio.create_task(cache.get("a"))
    await source.started.wait()
    source.rows["a"] = "2"
    fresh = asyncio.create_task(cache.get("a", fresh=True))
    await asyncio.sleep(0)
    source.gate.set()
    assert [await early, await fresh] == ["1", "2"]


@pytest.mark.parametrize("drop", [lambda c: c.drop(["a"]), lambda c: c.clear()])
async def test_what_was_dropped_while_being_read_is_not_kept(clock, drop):
    source = Source(a="old")
    cache = cache_of(source, clock)
    source.gate.clear()
    early = asyncio.create_task(cache.get("a"))
    await source.started.wait()
    source.rows["a"] = "new"
    drop(cache)
    late = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0)
    source.gate.set()
    assert [await early, await late] == ["old", "new"]
    assert cache.peek("a") == "new"


async def test_a_failed_load_fails_all_who_wait_and_nobody_later(clock):
    source = Source(a="1")
    source.failure = errors.Unavailable()
    cache = cache_of(source, clock)
    results = await asyncio.gather(cache.get("a"), cache.get("b"), return_exceptions=True)
    assert [type(r) for r in results] == [errors.Unavailable] * 2
    source.failure = None
    assert await cache.get("a") == "1"


async def test_while_the_database_is_away_entries_serve_until_too_old(clock):
    source = Source(a="1")
    cache = cache_of(source, clock)
    await cache.get("a")
    source.failure = errors.Unavailable()
    clock.now += 59
    assert await cache.get("a") == "1"
    assert await cache.get("a", fresh=True) == "1"
    clock.now += 2
    with pytest.raises(errors.Unavailable):
        await cache.get("a")


async def test_one_who_gives_up_takes_nothing_from_the_others(clock):
    source = Source(a="1")
    cache = cache_of(source, clock)
    source.gate.clear()
    one, other = (asyncio.create_task(cache.get("a")) for _ in range(2))
    await source.started.wait()
    one.cancel()
    source.gate.set()
    assert await other == "1"
    assert one.cancelled() or await asyncio.wait({one})


async def test_a_failure_that_nobody_waits_for_is_silent(clock):
    source = Source()
    source.failure = errors.Unavailable()
    cache = cache_of(source, clock)
    source.gate.clear()
    waiter = asyncio.create_task(cache.get("a"))
    await source.started.wait()
    waiter.cancel()
    await asyncio.wait({waiter})
    source.gate.set()
    with pytest.raises(errors.Unavailable):
        await cache.get("b")  # and pytest fails on "exception was never retrieved"


async def test_the_least_recently_used_goes_first(clock):
    source = Source(a="x" * 100, b="x" * 100, c="x" * 100)
    cache = cache_of(source, clock, limit=650)
    for key in ("a", "b", "a", "c"):
        await cache.get(key)
    assert [cache.peek(k) is not None for k in "abc"] == [True, False, True]
    assert len(cache) == 2


async def test_more_misses_than_may_wait_are_unavailable(clock, monkeypatch):
    monkeypatch.setattr("skep.metadata.cache.WAITING", 2)
    source = Source(a="1")
    cache = cache_of(source, clock)
    results = await asyncio.gather(*(cache.get(k) for k in "abc"), return_exceptions=True)
    assert [type(r) for r in results] == [str, type(None), errors.Unavailable]


async def test_large_batches_are_split(clock, monkeypatch):
    monkeypatch.setattr("skep.metadata.cache.BATCH", 2)
    source = Source(a="1", b="2", c="3")
    cache = cache_of(source, clock)
    assert await asyncio.gather(*(cache.get(k) for k in "abc")) == ["1", "2", "3"]
    assert source.loads == [["a", "b"], ["c"]]
