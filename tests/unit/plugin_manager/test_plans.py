"""Changes of plugins and of their owners' rights, step by step, as the backends' index sees them."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backend.core.interests import Interests
from plugin_manager.core import filters, plans
from skep import access
from skep.access import User
from skep.metadata.plugins import PluginState
from skep.metadata.rows import PluginChanges
from skep.wire.plugins import Filter
from tests.unit.plugin_manager import build

OWNER = User(7, "x", access.CLIENT, access.ACTIVE, frozenset({1, 2}))
MOST = 10_000


class World:
    """One plugin, the backends' index, and what waits on the plugin's streams."""

    def __init__(self) -> None:
        self.state = build.state(owner=OWNER)
        self.index, self.offset = Interests(), 0
        self.waiting: dict[str, list[build.Message]] = {}
        self.apply(PluginChanges())

    def apply(self, changes: PluginChanges, **state: Any) -> bool:
        """Whether there was anything to do."""
        changed = plans.plan(replace(self.state, **state), changes, MOST, self.state.plugin.stream + 1)
        self.state = replace(self.state, **state)
        if changed is None:
            return False
        for record in changed.records:
            self.index.apply(self.offset, record.key, record.payload, 0)
            self.offset += 1
        self.state = PluginState(
            plugin=changed.plugin,
            owner=self.state.owner,
            collecting=changed.collecting,
            interests=changed.interests,
            networks=self.state.networks,
            device_types=self.state.device_types,
        )
        return True

    @property
    def stream(self) -> str:
        return f"{build.TOPIC}.{self.state.plugin.stream}"

    @property
    def wanted(self) -> Filter:
        return msgspec.json.decode(self.state.plugin.wanted, type=Filter)

    def send(self, message: build.Message) -> set[str]:
        found = self.index.match(*message)
        for stream in found:
            self.waiting.setdefault(stream, []).append(message)
        return found


steps = st.one_of(
    st.tuples(st.just("owner"), build.users),
    st.tuples(st.just("filter"), build.filters),
    st.tuples(st.just("enabled"), st.booleans()),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(steps, st.lists(build.messages, min_size=3, max_size=12)), min_size=1, max_size=8))
def test_every_change_is_followed_at_once(history):
    world = World()
    for (what, value), sent in history:
        if what == "owner":
            world.apply(PluginChanges(), owner=value)
        elif what == "enabled":
            world.apply(PluginChanges(enabled=value))
        else:
            state = build.state(value)
            wanted = PluginChanges(wanted=msgspec.json.encode(value))
            world.apply(wanted, networks=state.networks, device_types=state.device_types)
        wanted, owner = world.wanted, world.state.owner
        for message in sent:
            allowed = build.may_have(message, wanted, owner) and world.state.plugin.enabled
            assert world.send(message) == ({world.stream} if allowed else set()), message
        # What waits on the stream that the plugin reads is all its business, whatever was before.
        for message in world.waiting.get(world.stream, []):
            assert build.may_have(message, wanted, owner), message
        assert not world.apply(PluginChanges())


def test_rights_that_grow_keep_the_stream():
    world = World()
    assert world.apply(PluginChanges(), owner=replace(OWNER, networks=frozenset({1, 2, 3})))
    assert world.state.plugin.stream == 1
    assert world.apply(PluginChanges(), owner=replace(OWNER, role=access.ADMIN))
    assert world.state.plugin.stream == 1
    assert len(world.index) == 3


def test_rights_that_shrink_make_a_fresh_stream():
    world = World()
    assert world.apply(PluginChanges(), owner=replace(OWNER, networks=frozenset({1})))
    assert world.state.plugin.stream == 2
    assert world.send((0, 1, 11, "d1", "heat")) == {f"{build.TOPIC}.2"}


def test_a_disabled_plugin_keeps_what_waits_for_it():
    world = World()
    world.apply(PluginChanges(enabled=False))
    assert (world.state.plugin.stream, len(world.index)) == (1, 0)
    world.apply(PluginChanges(enabled=True))
    assert (world.state.plugin.stream, len(world.index)) == (1, 6)


def test_but_not_beyond_rights_that_shrank_meanwhile():
    world = World()
    world.apply(PluginChanges(enabled=False))
    world.apply(PluginChanges(), owner=replace(OWNER, networks=frozenset({1})))
    world.apply(PluginChanges(), owner=OWNER)
    world.apply(PluginChanges(enabled=True))
    assert world.state.plugin.stream == 2


def test_a_plugin_that_goes_takes_its_interests_along():
    world = World()
    for record in plans.farewell(world.state):
        world.index.apply(world.offset, record.key, record.payload, 0)
    assert len(world.index) == 0
    world.apply(PluginChanges(enabled=False))
    assert plans.farewell(world.state) == []


def test_the_filters_text_follows():
    world = World()
    world.apply(PluginChanges(wanted=msgspec.json.encode(Filter(networks=[1, 2]))), networks=frozenset({1, 2}))
    assert world.state.plugin.filter == "*/1,2/*/*/*"
    world.apply(PluginChanges(), owner=replace(OWNER, networks=frozenset({2})))
    assert world.state.plugin.filter == "*/2/*/*/*"
    assert filters.unpack(world.state.interests) == {(kind, 2, None, None, None) for kind in build.KINDS}
