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
    first, second = interests.acquire([A]).effect, interests.acquire([B, A]).effect
    assert first is not None
    assert second is not None
    await asyncio.gather(first, second)
    assert len(bus.interests()) == 2
    # Behind both records: the lease is record 0.
    assert bus.markers == [(0, 3), (1, 3), (2, 3)]
    assert interests.acquire([A, B]).effect is None


async def test_not_in_effect_before_every_partition_answered(interests: Interests, bus: FakeBus) -> None:
    bus.hold_markers = asyncio.Event()
    first = interests.acquire([A]).effect
    assert first is not None
    await settled()
    second = interests.acquire([A]).effect
    assert second is not None
    assert not first.done()
    assert not second.done()
    bus.hold_markers.set()
    await asyncio.gather(first, second)


async def test_one_subscriber_going_away_does_not_disturb_the_other(interests: Interests, bus: FakeBus) -> None:
    bus.hold_markers = asyncio.Event()
    claims = interests.acquire([A]), interests.acquire([A])
    first, second = (claim.effect for claim in claims)
    assert first is not None
    assert second is not None
    await settled()
    first.cancel()
    interests.release(claims[0])
    bus.hold_markers.set()
    await second
    assert len(interests) == 1


async def test_lingers_then_puts_a_tombstone(interests: Interests, bus: FakeBus) -> None:
    claim = interests.acquire([A])
    assert claim.effect is not None
    await claim.effect
    interests.release(claim)
    claim = interests.acquire([A])
    assert claim.effect is None  # still there
    interests.release(claim)
    bus.has_sent.clear()
    await bus.has_sent.wait()
    assert len(interests) == 0
    assert [tombstone for _, tombstone in bus.interests()] == [False, True]


async def test_a_failed_publication_leaves_nothing(interests: Interests, bus: FakeBus) -> None:
    bus.away = True
    claim = interests.acquire([A])
    assert claim.effect is not None
    with pytest.raises(errors.Unavailable):
        await claim.effect
    interests.release(claim)
    assert len(interests) == 0
    bus.away = False
    waiting = interests.acquire([A]).effect
    assert waiting is not None
    await waiting


async def test_nobody_answers_the_marker(bus: FakeBus, lost: Lost) -> None:
    interests = Interests(bus, lost, timeout=0.02)
    keeping = asyncio.create_task(interests.keep())
    bus.hold_markers = asyncio.Event()
    waiting = interests.acquire([A]).effect
    assert waiting is not None
    with pytest.raises(errors.Unavailable):
        await waiting
    assert [tombstone for _, tombstone in bus.interests()] == [False, True]
    keeping.cancel()


async def test_a_missed_lease_changes_the_owner(bus: FakeBus, lost: Lost) -> None:
    interests = Interests(bus, lost, lease=0.05)
    keeping = asyncio.create_task(interests.keep())
    waiting = interests.acquire([A]).effect
    assert waiting is not None
    await waiting
    owner, bus.away = interests.owner, True
    await lost.event.wait()
    bus.away = False
    assert len(interests) == 0
    assert interests.owner != owner
    waiting = interests.acquire([A]).effect
    assert waiting is not None
    await waiting
    assert messages.decode_interest(bus.sent[-1][1] or b"").owner == interests.owner
    leases = [key for key, _ in bus.sent if key and key.startswith(b"lease/")]
    assert leases[-1] == f"lease/{interests.owner}".encode()
    keeping.cancel()


async def test_who_releases_late_takes_nothing_from_others(interests: Interests, bus: FakeBus) -> None:
    """After a failure others hold the filter anew, before the first user has heard of it."""
    bus.away = True
    first = interests.acquire([A])
    assert first.effect is not None
    while len(interests):  # noqa: ASYNC110 - the turn in which it fails is the point
        await asyncio.sleep(0)
    bus.away = False
    second = interests.acquire([A])
    with pytest.raises(errors.Unavailable):
        await first.effect
    interests.release(first)
    assert second.effect is not None
    await second.effect
    await asyncio.sleep(0.05)  # five times the linger
    assert len(interests) == 1
    assert bus.interests()[-1][1] is False


async def test_a_socket_that_dies_after_the_lease_takes_nothing_from_others(bus: FakeBus, lost: Lost) -> None:
    interests = Interests(bus, lost, linger=0.01, lease=0.05)
    keeping = asyncio.create_task(interests.keep())
    old = interests.acquire([A])
    assert old.effect is not None
    await old.effect
    bus.away = True
    await lost.event.wait()
    bus.away = False
    new = interests.acquire([A])
    assert new.effect is not None
    await new.effect
    interests.release(old)
    await asyncio.sleep(0.03)
    assert len(interests) == 1
    keeping.cancel()


async def test_a_lease_lost_before_the_round_begins_leaves_no_empty_round(interests: Interests, lost: Lost) -> None:
    claim = interests.acquire([A])
    interests._lose()
    assert claim.effect is not None
    with pytest.raises(errors.Unavailable):
        await claim.effect
    assert not interests._rounds


async def test_an_orderly_stop_takes_everything_back(bus: FakeBus, lost: Lost) -> None:
    interests = Interests(bus, lost)
    keeping = asyncio.create_task(interests.keep())
    waiting = interests.acquire([A, B]).effect
    assert waiting is not None
    await waiting
    keeping.cancel()
    await interests.close()
    assert [payload for _, payload in bus.sent[-3:]] == [None, None, None]
    assert bus.sent[-1][0] == f"lease/{bus.run}".encode()
