from skep.bus.sources import MAX_KNOWN, Sources
from skep.wire.proxy import Source


def of(offset: int, partition: int = 0, incarnation: str = "log") -> Source:
    return Source(incarnation, partition, offset)


def test_what_is_not_above_the_highest_is_a_repetition() -> None:
    sources = Sources()
    assert [sources.fresh(n, of(o)) for n, o in enumerate([3, 4, 3, 4, 5])] == [True, True, False, False, True]
    assert sources.fresh(5, of(3, partition=1))
    assert sources.fresh(6, of(3, incarnation="another log"))
    assert sources.fresh(7, None)
    assert sources.fresh(8, None)


def test_the_next_owner_knows_what_was_before_its_beginning_and_nothing_more() -> None:
    sources = Sources()
    for offset in range(4):
        sources.fresh(offset, of(10 + offset))
    following = Sources(sources.state(2))
    assert not following.fresh(9, of(11))
    assert following.fresh(2, of(12))
    last = Sources(sources.state(4))
    assert not last.fresh(4, of(13))


def test_a_state_of_somebody_else_is_no_state() -> None:
    assert Sources(b"\xff\x00").fresh(0, of(0))
    assert Sources(b"").fresh(0, of(0))


def test_memory_and_state_are_bounded() -> None:
    sources = Sources()
    for n in range(10 * MAX_KNOWN):
        sources.fresh(n, of(n, partition=n))
    assert len(sources.state(10 * MAX_KNOWN)) < 1024
