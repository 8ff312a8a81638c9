import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.interests import LEASE, Interests
from skep.wire.messages import COMMAND, NOTIFICATION, Lease, encode
from tests.unit.backend.build import interest

OFFSETS = itertools.count()


def apply(index: Interests, key: str, payload: bytes | None, now: int = 0) -> None:
    index.apply(next(OFFSETS), key.encode(), payload, now)


def lease(index: Interests, owner: str, now: int, duration: int = 60) -> None:
    apply(index, f"lease/{owner}", encode(Lease(owner, duration)), now)


def match(index: Interests, name: str = "n", device: str = "d", kind: int = NOTIFICATION) -> set[str]:
    return index.match(kind, 1, 2, device, name)


FIELDS = {"network_id": 1, "device_type_id": 2, "device_id": "d", "name": "n"}


@pytest.mark.parametrize("shape", list(itertools.product((False, True), repeat=4)))
def test_each_of_the_sixteen_shapes_matches(shape: tuple[bool, ...]) -> None:
    index = Interests()
    fields = {k: v for (k, v), exact in zip(FIELDS.items(), shape, strict=True) if exact}
    apply(index, "a/1", interest(**fields))

    assert match(index) == {"events.a"}
    assert match(index, kind=COMMAND) == set()
    for field, value in fields.items():
        other = {**FIELDS, field: "x" if isinstance(value, str) else 9}
        assert index.match(NOTIFICATION, *other.values()) == set()  # type: ignore[arg-type]


values = {"network_id": st.sampled_from([None, 1, 2]), "device_type_id": st.sampled_from([None, 1, 2])}
values2 = {"device_id": st.sampled_from([None, "a", "b"]), "name": st.sampled_from([None, "a", "b"])}
filters = st.fixed_dictionaries({**values, **values2})


@given(
    st.lists(st.tuples(st.integers(0, 3), filters, st.booleans()), max_size=12),
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.sampled_from("ab"), st.sampled_from("ab")),
)
def test_matching_is_what_trying_every_filter_finds(
    changes: list[tuple[int, dict[str, object], bool]], message: tuple[int, int, str, str]
) -> None:
    index, present = Interests(), {}
    for key, fields, there in changes:
        apply(index, f"a/{key}", interest(f"events.{key % 2}", **fields) if there else None)
        present.pop(key, None)
        if there:
            present[key] = fields
    wanted = {
        f"events.{key % 2}"
        for key, fields in present.items()
        if all(fields[name] in (None, m) for name, m in zip(FIELDS, message, strict=True))
    }
    assert index.match(NOTIFICATION, *message) == wanted
    assert len(index) == len(present)


def test_a_destination_counts_once_and_stays_until_its_last_interest_is_gone() -> None:
    index = Interests()
    apply(index, "a/1", interest())
    apply(index, "a/2", interest())
    assert match(index) == {"events.a"}
    apply(index, "a/1", None)
    assert match(index) == {"events.a"}
    apply(index, "a/2", None)
    apply(index, "a/2", None)
    assert match(index) == set()
    assert index._index == {}


def test_a_record_replaces_the_one_of_its_key() -> None:
    index = Interests()
    apply(index, "a/1", interest(name="n"))
    apply(index, "a/1", interest(name="m"))
    assert match(index, "n") == set()
    assert match(index, "m") == {"events.a"}


def test_the_position_follows_whatever_the_record_is() -> None:
    index = Interests()
    index.apply(7, b"a/1", interest(), 0)
    assert index.position == 8
    for bad in (b"garbage", encode([1])):
        with pytest.raises(ValueError, match="record 9"):
            index.apply(9, b"a/2", bad, 0)
    assert index.position == 10
    index.apply(10, None, b"x", 0)
    assert (index.position, match(index)) == (11, {"events.a"})


def test_interests_end_with_their_owners_lease_and_come_back_with_it() -> None:
    index = Interests()
    lease(index, "a", 0)
    apply(index, "a/1", interest(owner="a"))
    apply(index, "p", interest("plugin_topic_1"))
    assert index.expire(59) == []
    assert match(index) == {"events.a", "plugin_topic_1"}
    assert index.expire(60) == []
    assert match(index) == {"plugin_topic_1"}
    lease(index, "a", 70)
    assert match(index) == {"events.a", "plugin_topic_1"}


def test_owners_gone_for_good_get_tombstones_their_lease_last() -> None:
    index = Interests()
    lease(index, "a", 0)
    apply(index, "a/1", interest(owner="a"))
    index.expire(60)
    assert index.expire(179) == []
    gone = index.expire(180)
    assert gone == [b"a/1", LEASE + b"a"]
    for key in gone:
        index.apply(next(OFFSETS), key, None, 180)
    assert (index.expire(1000), index._records, index._owners) == ([], {}, {})


def test_an_interest_added_while_the_lease_is_over_waits_for_it() -> None:
    index = Interests()
    lease(index, "a", 0)
    index.expire(60)
    apply(index, "a/1", interest(owner="a"), now=61)
    assert match(index) == set()
    apply(index, "a/1", None)
    apply(index, "a/1", interest(owner="a"), now=62)
    lease(index, "a", 63)
    assert match(index) == {"events.a"}
    assert len(index) == 1


def test_an_owner_that_leaves_in_order_takes_its_interests_along() -> None:
    index = Interests()
    lease(index, "a", 0)
    apply(index, "a/1", interest(owner="a"))
    apply(index, "lease/a", None)
    assert match(index) == set()
    assert (index._records, index._owners) == ({}, {})


def test_an_owner_without_a_lease_is_believed_for_a_while() -> None:
    index = Interests(patience=60)
    apply(index, "a/1", interest(owner="a"), now=0)
    index.expire(59)
    assert match(index) == {"events.a"}
    index.expire(60)
    assert match(index) == set()
