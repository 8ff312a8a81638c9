import random

from ws_kafka_proxy.core.assignment import Claim, assign


def rounds(held: dict[str, set[int]], count: int) -> tuple[dict[str, set[int]], int]:
    """Until nobody has to give anything up; how many rounds it took."""
    for number in range(1, 10):
        given = assign({m: Claim(number, frozenset(p)) for m, p in held.items()}, count)
        assert all(a.isdisjoint(b) for m, a in given.items() for n, b in given.items() if m < n)
        # Whatever somebody holds now must not be given to another in the same round.
        for member, share in given.items():
            for other, former in held.items():
                assert member == other or share.isdisjoint(former)
        lost = any(held[m] - given[m] for m in held)
        held = given
        if not lost:
            return held, number
    raise AssertionError("no end")


def test_one_member_gets_all_at_once() -> None:
    assert rounds({"a": set()}, 4) == ({"a": {0, 1, 2, 3}}, 1)


def test_a_second_member_gets_half_in_two_rounds_and_the_first_keeps_the_rest() -> None:
    held, number = rounds({"a": {0, 1, 2, 3}, "b": set()}, 4)
    assert (held["a"], held["b"], number) == ({0, 1}, {2, 3}, 2)


def test_what_a_dead_member_had_is_given_at_once_and_nothing_else_moves() -> None:
    held, number = rounds({"a": {0, 1}, "b": {4, 5}}, 6)
    assert number == 1
    assert held["a"] > {0, 1}
    assert held["b"] > {4, 5}


def test_of_two_claims_the_later_generation_counts() -> None:
    given = assign({"a": Claim(3, frozenset({0, 1})), "b": Claim(7, frozenset({0, 1}))}, 2)
    assert 0 not in given["a"]
    assert 1 not in given["a"]


def test_partitions_that_are_no_more_are_forgotten() -> None:
    assert assign({"a": Claim(1, frozenset({0, 9}))}, 2) == {"a": {0, 1}}


def test_shares_are_even_whatever_came_before() -> None:
    dice = random.Random(1)
    for _ in range(500):
        count, members = dice.randint(0, 20), [f"m{n}" for n in range(dice.randint(1, 6))]
        held: dict[str, set[int]] = {m: set() for m in members}
        for partition in range(count):
            owner = dice.choice([*members, None])
            if owner is not None:
                held[owner].add(partition)
        result, number = rounds(held, count)
        assert number <= 2
        assert set().union(*result.values()) == set(range(count))
        sizes = [len(share) for share in result.values()]
        assert max(sizes) - min(sizes) <= 1
