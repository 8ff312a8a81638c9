"""Partitions to members: balanced, sticky, back to whom they were with."""

from hypothesis import given
from hypothesis import strategies as st

from ws_kafka_proxy.core.groups import assign

NAMES = ["a", "b", "c", "d"]


def test_one_member_has_all():
    assert assign(3, ["a"], {}, {}) == {0: "a", 1: "a", 2: "a"}


def test_nobody():
    assert assign(3, [], {0: "a"}, {}) == {}


def test_a_second_member_takes_half_and_leaves_the_rest_alone():
    owners = dict.fromkeys(range(8), "a")
    found = assign(8, ["a", "b"], owners, {})
    assert sorted(found.values()) == ["a"] * 4 + ["b"] * 4


def test_who_comes_back_gets_what_was_its_own():
    before = assign(8, ["a", "b"], {}, {})
    alone = assign(8, ["a"], before, {})
    mine = {p: "b" for p, name in before.items() if name == "b"}
    assert assign(8, ["a", "b"], alone, mine) == before


@given(
    st.integers(1, 20),
    st.sets(st.sampled_from(NAMES), min_size=1),
    st.dictionaries(st.integers(0, 19), st.sampled_from([*NAMES, "gone"])),
    st.dictionaries(st.integers(0, 19), st.sampled_from([*NAMES, "gone"])),
)
def test_balanced_and_as_few_moves_as_possible(count, members, owners, previous):
    owners = {p: name for p, name in owners.items() if p < count}
    found = assign(count, members, owners, previous)
    assert set(found) == set(range(count))
    sizes = [list(found.values()).count(name) for name in members]
    assert max(sizes) - min(sizes) <= 1
    assert set(found.values()) <= members
    held = {name: sum(1 for owner in owners.values() if owner == name) for name in members}
    larger, share = count % len(members), count // len(members)
    quota = sorted(held.values(), reverse=True)
    surplus = sum(max(0, has - share - (place < larger)) for place, has in enumerate(quota))
    free = count - sum(held.values())
    assert sum(1 for p in range(count) if found[p] != owners.get(p)) == surplus + free
