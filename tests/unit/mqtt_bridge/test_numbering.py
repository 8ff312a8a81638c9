from __future__ import annotations

import itertools

import pytest

from mqtt_bridge.core.numbering import Numbering
from mqtt_bridge.core.packets import DISTANCE, Packet, Remembered
from skep import errors


class Memory:
    """PostgreSQL's part; `away`: it does not answer."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int], Remembered] = {}
        self.away = False

    async def recall(self, session: str) -> list[Remembered]:
        self._answer()
        return [kept for (of, _), kept in self.kept.items() if of == session]

    async def remember(self, session: str, packets: list[Remembered]) -> None:
        self._answer()
        self.kept |= {(session, p.packet_id): p for p in packets}

    def _answer(self) -> None:
        if self.away:
            raise errors.Unavailable


@pytest.fixture
def memory() -> Memory:
    return Memory()


def numbering(memory: Memory, session: str = "s", first: int = 100, window: int = 0) -> Numbering:
    return Numbering(memory, session, window, itertools.count(first).__next__)


def packet(id: int, payload: bytes = b"{}", dup: bool = False, qos: int = 1) -> Packet:
    return Packet(id, "dh/insert/notification/d1/t", payload, qos, dup)


async def ids(numbers: Numbering, *packets: Packet) -> list[tuple[int, bool]]:
    return [(n.id, n.is_repeated) for n in await numbers.number(list(packets))]


async def test_without_dup_always_a_fresh_id(memory: Memory) -> None:
    numbers = numbering(memory)
    assert await ids(numbers, packet(1), packet(2)) == [(100, False), (101, False)]
    assert await ids(numbers, packet(1)) == [(102, False)]


async def test_a_dup_has_the_id_its_packet_had_also_after_a_kill(memory: Memory) -> None:
    await numbering(memory).number([packet(1), packet(2, b'{"a":1}')])
    restarted = numbering(memory, first=500)
    again = [packet(2, b'{"a":1}', dup=True), packet(1, dup=True)]
    assert await ids(restarted, *again) == [(101, True), (100, True)]


async def test_a_dup_in_the_same_batch(memory: Memory) -> None:
    assert await ids(numbering(memory), packet(1), packet(1, dup=True)) == [(100, False), (100, True)]


async def test_a_dup_of_something_else_is_new(memory: Memory) -> None:
    """The first sending never came, and the identifier was used for another packet before."""
    numbers = numbering(memory)
    await numbers.number([packet(1, b'{"old":1}')])
    assert await ids(numbers, packet(1, b'{"new":1}', dup=True)) == [(101, False)]
    assert await ids(numbers, packet(7, dup=True)) == [(102, False)]


async def test_a_dup_of_what_carried_the_same_on_another_topic_is_new(memory: Memory) -> None:
    numbers = numbering(memory)
    await numbers.number([packet(1)])
    other = Packet(1, "dh/insert/notification/d2/t", b"{}", 1, True)
    assert await ids(numbers, other) == [(101, False)]


async def test_an_identifier_of_an_earlier_round_means_nothing(memory: Memory) -> None:
    numbers = numbering(memory)
    await numbers.number([packet(1)])
    await numbers.number([packet(2 + i) for i in range(DISTANCE)])
    assert await ids(numbers, packet(1, dup=True)) == [(100 + DISTANCE + 1, False)]


async def test_sessions_do_not_share_identifiers(memory: Memory) -> None:
    await numbering(memory, "a").number([packet(1)])
    assert await ids(numbering(memory, "b", 500), packet(1, dup=True)) == [(500, False)]


async def test_qos_0_is_not_remembered(memory: Memory) -> None:
    assert await ids(numbering(memory), packet(0, qos=0), packet(0, qos=0)) == [(100, False), (101, False)]
    assert not memory.kept


async def test_while_the_memory_is_away_nothing_is_numbered(memory: Memory) -> None:
    numbers = numbering(memory)
    await numbers.number([packet(1)])
    memory.away = True
    with pytest.raises(errors.Unavailable):
        await numbers.number([packet(2), packet(1, dup=True)])
    memory.away = False
    assert await ids(numbers, packet(2, dup=True), packet(1, dup=True)) == [(102, False), (100, True)]


# -- a broker that counts anew in every connection ------------------------------------------------------------------


async def test_a_dup_under_another_identifier_keeps_its_id(memory: Memory) -> None:
    await ids(numbering(memory, window=10), packet(5, b"a"), packet(6, b"b"), packet(7, b"c"))
    later = numbering(memory, first=200, window=10)
    again = packet(1, b"b", dup=True), packet(2, b"c", dup=True), packet(3, b"d", dup=True)
    assert await ids(later, *again) == [(101, True), (102, True), (200, False)]
    assert await ids(numbering(memory, first=300, window=10), packet(9, b"b", dup=True)) == [(101, True)]


async def test_of_what_is_alike_the_latest_come_again_each_once(memory: Memory) -> None:
    await ids(numbering(memory, window=10), *(packet(n) for n in (1, 2, 3)))
    later = numbering(memory, first=200, window=10)
    # Identifier 1 was another packet's, which the broker has dropped since.
    assert await ids(later, packet(1, dup=True)) == [(102, True)]
    assert await ids(later, packet(2, dup=True), packet(3, dup=True)) == [(101, True), (100, True)]
    assert await ids(later, packet(4, dup=True)) == [(200, False)]


async def test_what_came_in_this_connection_or_long_before_is_not_meant(memory: Memory) -> None:
    await ids(numbering(memory, window=10), packet(1, b"old"), *(packet(n, str(n).encode()) for n in range(2, 12)))
    later = numbering(memory, first=200, window=10)
    assert await ids(later, packet(1, b"old", dup=True), packet(2), packet(3, dup=True)) == [
        (200, False),
        (201, False),
        (202, False),
    ]


async def test_a_memory_that_is_away_takes_nothing_from_what_may_come_again(memory: Memory) -> None:
    await ids(numbering(memory, window=10), packet(1, b"a"))
    later = numbering(memory, first=200, window=10)
    await ids(later)
    memory.away = True
    with pytest.raises(errors.Unavailable):
        await ids(later, packet(1, b"a", dup=True))
    memory.away = False
    assert await ids(later, packet(1, b"a", dup=True)) == [(100, True)]
