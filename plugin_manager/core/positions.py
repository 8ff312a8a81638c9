"""How far the readers of plugins are on their streams."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from plugin_manager.core.ports import Bus
from skep import errors
from skep.metadata.rows import Plugin
from skep.wire import proxy
from skep.wire.plugin_api import GroupPosition, PartitionPosition
from skep.wire.plugins import stream

AT_A_TIME = 50
PATIENCE = 2.0
"""Seconds for a list's positions; what the bus has not told by then is left out."""


class Position(Struct):
    """lag: of the group that is furthest behind, all that the stream has where nobody has read yet."""

    lag: int
    groups: list[GroupPosition]


class Positions:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._places = asyncio.Semaphore(AT_A_TIME)

    async def of(self, plugins: list[Plugin]) -> dict[int, Position]:
        """By plugin id, those that can be told now."""
        asked = {plugin.id: asyncio.ensure_future(self._ask(plugin)) for plugin in plugins}
        if asked:
            _, late = await asyncio.wait(asked.values(), timeout=PATIENCE)
            for task in late:
                task.cancel()
        done = {id: task.result() for id, task in asked.items() if task.done() and not task.cancelled()}
        return {id: position for id, position in done.items() if position is not None}

    async def _ask(self, plugin: Plugin) -> Position | None:
        async with self._places:
            try:
                described = await self._bus.describe(stream(plugin.topic_name, plugin.stream), groups=True)
            except errors.SkepError:
                return None
        return position(plugin.topic_name, described)


def position(topic_name: str, described: proxy.Described) -> Position:
    prefix = f"plugin-{topic_name}."
    groups = [
        _group(name.removeprefix(prefix), committed, described.partitions)
        for name, committed in sorted(described.groups.items())
        if name.startswith(prefix)
    ]
    waiting = sum(end - first for first, end in described.partitions)
    return Position(max((group.lag for group in groups), default=waiting), groups)


def _group(name: str, committed: dict[int, int], partitions: list[tuple[int, int]]) -> GroupPosition:
    found = [
        PartitionPosition(number, first, min(max(committed.get(number, first), first), end), end)
        for number, (first, end) in enumerate(partitions)
    ]
    return GroupPosition(name, sum(p.end - p.position for p in found), found)
