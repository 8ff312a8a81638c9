"""Changes a plugin, with all that follows for its interests and its stream."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from plugin_manager.core.plans import edited, plan, restored
from plugin_manager.core.streams import Streams
from skep import errors
from skep.metadata.plugins import Decide, PluginChange, Plugins, PluginState
from skep.metadata.rows import Plugin, PluginChanges

TRIES = 10
"""Looks at a plugin that others change meanwhile."""

Edit = Callable[[PluginState], PluginChanges]
"""What is to be changed as things are; asked several times, and raises `SkepError`."""


class _Overtaken(Exception):
    """Another stream is needed than the one that was made."""


class Changes:
    """most: interests of one plugin."""

    def __init__(self, plugins: Plugins, streams: Streams, most: int) -> None:
        self._plugins, self._streams, self._most = plugins, streams, most

    async def make(self, topic_name: str, edit: Edit) -> Plugin | None:
        """Gives the plugin as it is then, None where there is none. What was collected may go on being collected until
        `Streams.in_effect`. Raises `SkepError`."""
        for _ in range(TRIES):
            state = await self._plugins.state(topic_name)
            if state is None:
                return None
            changes = edit(state)
            planned = plan(state, changes, self._most)
            if planned is None:
                return state.plugin
            number = planned.plugin.stream
            if number != state.plugin.stream:
                await self._streams.make(topic_name, number, edited(state.plugin, changes).retention)
            with contextlib.suppress(_Overtaken):
                changed = await self._plugins.change(topic_name, self._decide(edit, number))
                if number != state.plugin.stream:
                    self._streams.kick()
                return changed
        raise errors.Conflict

    async def restore(self, topic_name: str) -> None:
        """After the bus was set up anew: stream and interests as they were. What waited is gone with the old bus."""
        plugin = await self._plugins.by_topic(topic_name)
        if plugin is not None:
            await self._streams.make(topic_name, plugin.stream, plugin.retention)
            await self._plugins.change(topic_name, restored)

    def _decide(self, edit: Edit, number: int) -> Decide:
        def decide(state: PluginState | None) -> PluginChange | None:
            planned = plan(state, edit(state), self._most) if state is not None else None
            if planned is not None and planned.plugin.stream != number:
                raise _Overtaken
            return planned

        return decide
