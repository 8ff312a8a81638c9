"""Changes a plugin, with all that follows for its interests and its stream."""

from __future__ import annotations

from collections.abc import Callable

from plugin_manager.core.plans import plan, restored
from plugin_manager.core.streams import Streams
from skep import errors
from skep.metadata.plugins import Decide, PluginChange, Plugins, PluginState
from skep.metadata.rows import Plugin, PluginChanges

TRIES = 10
"""Looks at a plugin that others change meanwhile."""

Edit = Callable[[PluginState], PluginChanges]
"""What is to be changed as things are; asked several times, and raises `SkepError`."""


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
            fresh, retention = 0, planned.plugin.retention
            if not planned.plugin.stream:
                fresh = await self._streams.reserve(topic_name, retention)
            try:
                changed = await self._plugins.change(topic_name, self._decide(edit, fresh, retention))
            except errors.Conflict:  # another stream is needed than the one that was made, if any
                await self._streams.give_up(topic_name, fresh)
                continue
            if fresh and changed is not None and changed.stream == fresh:
                self._streams.kick()
            elif fresh:
                await self._streams.give_up(topic_name, fresh)
            return changed
        raise errors.Conflict

    async def restore(self, topic_name: str) -> None:
        """After the bus was set up anew: stream and interests as they were. What waited is gone with the old bus."""
        plugin = await self._plugins.by_topic(topic_name)
        if plugin is not None:
            await self._streams.renew(topic_name, plugin.stream, plugin.retention)
            await self._plugins.change(topic_name, restored)

    def _decide(self, edit: Edit, fresh: int, retention: int) -> Decide:
        """fresh: the stream that was made, with which retention; 0: none."""

        def decide(state: PluginState | None) -> PluginChange | None:
            planned = plan(state, edit(state), self._most, fresh) if state is not None else None
            if state is None or planned is None or planned.plugin.stream == state.plugin.stream:
                return planned
            if planned.plugin.stream < state.plugin.stream or planned.plugin.retention != retention:
                raise errors.Conflict
            return planned

        return decide
