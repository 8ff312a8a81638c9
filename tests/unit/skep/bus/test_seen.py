import pytest

from skep.bus import seen
from skep.bus.seen import AGE, PUBLISHERS, STATE, Seen


def test_repetitions_are_known_for_each_publisher() -> None:
    table = Seen()
    assert [table.note(1, seq, 0) for seq in (1, 3, 2, 3, 4)] == [True, True, False, False, True]
    assert table.note(2, 1, 0)


def test_records_of_nobody_are_all_new() -> None:
    table = Seen()
    assert all(table.note(0, 0, 0) for _ in range(3))


def test_the_oldest_publishers_go_first() -> None:
    table = Seen()
    for publisher in range(1, PUBLISHERS + 1):
        table.note(publisher, 5, publisher)
    table.note(1, 6, PUBLISHERS + 1)
    table.note(100, 1, PUBLISHERS + 2)
    assert len(table.seqs) == PUBLISHERS
    assert not table.note(1, 6, 0)
    assert table.note(2, 5, PUBLISHERS + 3)


def test_a_state_of_full_size_fits_the_limit_and_comes_back() -> None:
    table = Seen()
    for i in range(PUBLISHERS):
        table.note((1 << 63) - 1 - i, (1 << 63) - 1 - i, 1_800_000_000_000 + i * 9_000)
    data = seen.pack((1 << 63) - 1, b"s" * STATE, table)
    assert len(data) <= 3_000
    owner, caller, back = seen.unpack(data)
    assert (owner, caller, back.seqs) == ((1 << 63) - 1, b"s" * STATE, table.seqs)
    assert all(abs(back.times[p] - table.times[p]) < 1_000 for p in table.times)


def test_publishers_unseen_for_long_do_not_travel() -> None:
    table = Seen()
    table.note(1, 5, 0)
    table.note(2, 5, AGE + 1)
    assert seen.unpack(seen.pack(9, b"", table))[2].seqs == {2: 5}


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x95\x01\x02\xc4\x00\x00\x92\x01"])
def test_what_is_not_ours_is_nothing(data: bytes) -> None:
    owner, caller, table = seen.unpack(data)
    assert (owner, caller, table.seqs) == (0, b"", {})
