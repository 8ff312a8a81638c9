from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from frontend.core.interests import Interests
from skep import errors
from skep.wire import messages
from tests.unit.frontend.fakes import FakeBus, settled

A, B = (0, None, None, "a", None), (0, 1, None, None, None)


class Lost:
    def __init__(self) -> None:
        self.event = asyncio.Event()

    def __call__(self) -> None:
        self.event.set()


@pytest.fixture
async def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
async def lost() -> Lost:
    return Lost()


@pytest.fixture
async def interests(bus: FakeBus, lost: Lost) -> AsyncIterator[Interests]:
    made = Interests(bus, lost, linger=0.01)
    keeping = asyncio.create_task(made.keep())
    await settled()
    yield made
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await made.close()


async def test_one_round_of_markers_for_all_of_a_turn(interests: Interests, bus: FakeBus) -> None:
    first, second = interests.acquire([A]), interests.acquire([B, A])
    assert first is not None
    assert second is not None
    await asyncio.gather(first, second)
    assert len(bus.interests()) == 2
    # Behind both records: the lease is record 0.
    assert bus.markers == [(0, 3), (1, 3), (2, 3)]
    assert interests.acquire([A, B]) is None


async def test_not_in_effect_before_every_partition_answered(interests: Interests, bus: FakeBus) -> None:
    bus.hold_markers = asyncio.Event()
    first = interests.acquire([A])
    assert first is not None
    await settled()
    second = interests.acquire([A])
    assert second is not None
    assert not first.done()
    assert not second.done()
    bus.hold_markers.set()
    await asyncio.gather(first, second)


async def test_one_subscriber_going_away_does_not_disturb_the_other(interests: Interests, bus: FakeBus) -> None:
    bus.hold_markers = asyncio.Event()
    first, second = interests.acquire([A]), interests.acquire([A])
    assert first is not None
    assert second is not None
    await settled()
    first.cancel()
    interests.release([A])
    bus.hold_markers.set()
    await second
    assert len(interests) == 1


async def test_lingers_then_puts_a_tombstone(interests: Interests, bus: FakeBus) -> None:
    waiting = interests.acquire([A])
    assert waiting is not None
    await waiting
    interests.release([A])
    assert interests.acquire([A]) is None  # still there
    interests.release([A])
    bus.has_sent.clear()
    await bus.has_sent.wait()
    assert len(interests) == 0
    assert [tombstone for _, tombstone in bus.interests()] == [False, True]


async def test_a_failed_publication_leaves_nothing(interests: Interests, bus: FakeBus) -> None:
    bus.away = True
    waiting = interests.acquire([A])
    assert waiting is not None
    with pytest.raises(errors.Unavailable):
        await waiting
    interests.release([A])
    assert len(interests) == 0
    bus.away = False
    waiting = interests.acquire([A])
    assert waiting is not None
    await waiting


async def test_nobody_answers_the_marker(bus: FakeBus, lost: Lost) -> None:
    interests = Interests(bus, lost, timeout=0.02)
    keeping = asyncio.create_task(interests.keep())
    bus.hold_markers = asyncio.Event()
    waiting = interests.acquire([A])
    assert waiting is not None
    with pytest.raises(errors.Unavailable):
        await waiting
    assert [tombstone for _, tombstone in bus.interests()] == [False, True]
    keeping.cancel()


async def test_a_missed_lease_changes_the_owner(bus: FakeBus, lost: Lost) -> None:
    interests = Interests(bus, lost, lease=0.05)
    keeping = asyncio.create_task(interests.keep())
    waiting = interests.acquire([A])
    assert waiting is not None
    await waiting
    owner, bus.away = interests.owner, True
    await lost.event.wait()
    bus.away = False
    assert len(interests) == 0
    assert interests.owner != owner
    waiting = interests.acquire([A])
    assert waiting is not None
    await waiting
    assert messages.decode_interest(bus.sent[-1][1] or b"").owner == interests.owner
    leases = [key for key, _ in bus.sent if key and key.startswith(b"lease/")]
    assert leases[-1] == f"lease/{interests.owner}".encode()
    keeping.cancel()


async def test_an_orderly_stop_takes_everything_back(bus: FakeBus, lost: Lost) -> None:
    interests = Interests(bus, lost)
    keeping = asyncio.create_task(interests.keep())
    waiting = interests.acquire([A, B])
    assert waiting is not None
    await waiting
    keeping.cancel()
    await interests.close()
    assert [payload for _, payload in bus.sent[-3:]] == [None, None, None]
    assert bus.sent[-1][0] == f"lease/{bus.run}".encode()
