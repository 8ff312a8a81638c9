"""What a plugin may get: its filter within its owner's rights."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.core.interests import Interests
from plugin_manager.core import filters
from skep import access
from skep.access import User
from skep.wire import messages
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE
from skep.wire.plugins import Filter
from tests.unit.plugin_manager import build

ADMIN = User(7, "x", access.ADMIN, access.ACTIVE)
CLIENT = User(7, "x", access.CLIENT, access.ACTIVE, frozenset({1, 2}))


def matching(interests: set[filters.Interest]) -> Interests:
    index = Interests()
    for offset, interest in enumerate(sorted(interests, key=str)):
        record = messages.encode(messages.Interest("stream", "", *interest))
        index.apply(offset, messages.encode(interest), record, 0)
    return index


@settings(max_examples=200, deadline=None)
@given(build.filters, build.users, st.lists(build.messages, min_size=1, max_size=40))
def test_what_is_collected_is_what_filter_and_rights_allow(wanted, owner, sent):
    """As the backend matches it: nothing foreign, nothing missed."""
    extent = filters.extent(build.state(wanted, owner))
    interests, whole = filters.collected(extent, 10_000, set())
    index = matching(interests)
    assert whole
    assert len(interests) == len(extent)
    for message in sent:
        assert bool(index.match(*message)) == build.may_have(message, wanted, owner), message


@settings(max_examples=100, deadline=None)
@given(build.filters, build.users, build.filters, build.users, st.lists(build.messages, max_size=40))
def test_covering_is_what_it_says(wanted, owner, other, other_owner, sent):
    wide = filters.extent(build.state(wanted, owner)).interests()
    narrow = filters.extent(build.state(other, other_owner)).interests()
    if filters.covers(wide, narrow):
        assert all(matching(wide).match(*m) for m in sent if matching(narrow).match(*m))
    assert filters.covers(wide, wide)
    assert filters.covers(wide, set())


@settings(max_examples=100, deadline=None)
@given(build.filters, build.users, build.users, st.lists(build.messages, max_size=40), st.integers(0, 20))
def test_too_many_interests_are_never_too_much(wanted, before, now, sent, most):
    """Past the limit what was collected stays, as far as it may."""
    held, _ = filters.collected(filters.extent(build.state(wanted, before)), 10_000, set())
    interests, whole = filters.collected(filters.extent(build.state(wanted, now)), most, held)
    index = matching(interests)
    for message in sent:
        allowed = build.may_have(message, wanted, now)
        assert not index.match(*message) or allowed
        if whole:
            assert bool(index.match(*message)) == allowed


def test_ids_that_do_not_exist_are_not_collected():
    state = build.state(Filter(networks=[1, 2]), ADMIN, networks=[2])
    assert filters.extent(state).interests() == {(k, 2, None, None, None) for k in build.KINDS}


@pytest.mark.parametrize(
    ("wanted", "owner", "text"),
    [
        (Filter(), ADMIN, "*/*/*/*/*"),
        (Filter(), CLIENT, "*/*/*/*/*"),
        (Filter(kinds=[NOTIFICATION, COMMAND]), ADMIN, "command,notification/*/*/*/*"),
        (Filter(kinds=[UPDATE]), ADMIN, "command_update/*/*/*/*"),
        (Filter(networks=[3, 1], device_types=[11]), ADMIN, "*/3,1/11/*/*"),
        (Filter(networks=[3, 1]), CLIENT, "*/1/*/*/*"),
        (Filter(networks=[3]), CLIENT, "*//*/*/*"),
        (Filter(device_id="d1", names=["a/b", "heat"]), CLIENT, "*/*/*/d1/a/b,heat"),
    ],
)
def test_the_text_of_a_filter(wanted, owner, text):
    assert filters.text(wanted, filters.extent(build.state(wanted, owner))) == text


def test_packing():
    interests = {(0, 1, None, None, "x"), (2, None, 3, "d", None)}
    assert filters.unpack(filters.pack(interests)) == interests
    assert filters.pack(set()) == b"\x90"
