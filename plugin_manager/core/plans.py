"""What a change means for a plugin: its row, and the records of `subscriptions` that go with it. Pure.

A stream that was fed by more than the plugin may get now is given up: its backlog holds what is no longer the plugin's
business. So interests that go make a fresh stream, and interests that only come do not.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from plugin_manager.core import filters
from plugin_manager.core.filters import Extent, Interest
from skep.metadata.outbox import Row
from skep.metadata.plugins import PluginChange, PluginState
from skep.metadata.rows import Plugin, PluginChanges, values
from skep.wire import messages, topics
from skep.wire.plugins import Filter, stream

_decode = msgspec.json.Decoder(Filter).decode


_CLEARABLE = frozenset({"description", "parameters"})


def edited(plugin: Plugin, changes: PluginChanges) -> Plugin:
    return replace(plugin, **values(changes, _CLEARABLE))


def plan(state: PluginState, changes: PluginChanges, most: int, fresh: int = 0) -> PluginChange | None:
    """`changes` and all that follows from them and from the owner's rights. None: nothing is to be done.

    most: interests of one plugin, see `filters.collected`. fresh: number of the stream to go on with, where another
    one is needed; without one `plugin.stream` of the plan says 0."""
    plugin = edited(state.plugin, changes)
    extent = filters.extent(replace(state, plugin=plugin))
    before = filters.unpack(state.interests)
    after, _ = filters.collected(extent, most, before)
    is_fresh = not filters.covers(after, before)
    number = fresh if is_fresh else plugin.stream
    text = filters.text(_decode(plugin.wanted), extent)
    plugin = replace(plugin, stream=number, filter=text)
    packed = filters.pack(after)
    if plugin == state.plugin and packed == state.interests and plugin.enabled == state.collecting:
        return None
    there = before if state.collecting else set()
    wanted = after if plugin.enabled else set()
    coming = wanted if is_fresh else wanted - there
    records = [*gone(plugin, there - wanted), *held(plugin, coming)]
    return PluginChange(plugin, plugin.enabled, packed, records)


def held(plugin: Plugin, interests: Iterable[Interest]) -> list[Row]:
    """Records that send these to the plugin's stream."""
    topic = stream(plugin.topic_name, plugin.stream)
    return [
        Row(topics.SUBSCRIPTIONS, _key(plugin, interest), messages.encode(messages.Interest(topic, "", *interest)))
        for interest in interests
    ]


def gone(plugin: Plugin, interests: Iterable[Interest]) -> list[Row]:
    """Tombstones for these."""
    return [Row(topics.SUBSCRIPTIONS, _key(plugin, interest), None) for interest in interests]


def restored(state: PluginState | None) -> PluginChange | None:
    """The same once more, for a bus that has forgotten it."""
    if state is None or not state.collecting:
        return None
    records = held(state.plugin, filters.unpack(state.interests))
    return PluginChange(state.plugin, state.collecting, state.interests, records)


def farewell(state: PluginState) -> list[Row]:
    """For a plugin that is deleted."""
    return gone(state.plugin, filters.unpack(state.interests) if state.collecting else ())


def extent_of(state: PluginState, changes: PluginChanges) -> Extent:
    return filters.extent(replace(state, plugin=edited(state.plugin, changes)))


def _key(plugin: Plugin, interest: Interest) -> bytes:
    # Without the stream's number: another stream replaces this one at once, with the same record.
    return f"{plugin.topic_name}/".encode() + messages.encode(interest)
