from backend.core.timestamps import Timestamps

KEY = (0, "d")


def test_the_logs_time_counts_but_each_devices_rises() -> None:
    given = Timestamps()
    assert [given.give(KEY, t) for t in (100, 100, 99, 200)] == [100, 101, 102, 200]
    assert given.give((0, "other"), 100) == 100
    assert given.give((1, "d"), 100) == 100


def test_a_new_owner_starts_above_the_highest_given() -> None:
    before = Timestamps()
    before.give(KEY, 500)
    after = Timestamps(before.highest)
    assert after.give(KEY, 400) == 501


def test_what_was_given_before_counts() -> None:
    given = Timestamps()
    given.seen(KEY, 300)
    given.seen(KEY, 200)
    assert given.give(KEY, 100) == 301
    assert given.highest == 301


def test_above_is_a_lower_bound() -> None:
    assert Timestamps().give(KEY, 100, above=150) == 151


def test_forgotten_devices_start_above_what_they_had() -> None:
    given = Timestamps(devices=2)
    given.give((0, "a"), 900)
    for name in ("b", "c", "b", "c"):
        given.give((0, name), 100)
    assert given.give((0, "a"), 100) == 901
    assert len(given._last) == 2
