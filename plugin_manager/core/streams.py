"""The topics of the bus behind plugins: made before they are used, deleted when nothing is sent to them any more."""

from __future__ import annotations

import asyncio
import contextlib

from plugin_manager.core.ports import Bus, Outbox
from skep import errors, logs
from skep.bus.markers import Markers
from skep.metadata.plugin_streams import PluginStreams
from skep.wire import topics
from skep.wire.plugins import stream

SWEEP = 5.0
"""Seconds between looks for streams that are in nobody's use."""
UNTAKEN = 60_000
"""ms after which a stream that was made for a plugin and never taken into use is deleted."""

log = logs.get("plugin_manager")


class Streams:
    def __init__(self, bus: Bus, known: PluginStreams, outbox: Outbox, partitions: int) -> None:
        self._bus, self._known, self._outbox, self._partitions = bus, known, outbox, partitions
        self._markers = Markers(bus)
        self._kicked = asyncio.Event()

    async def reserve(self, topic_name: str, retention: int) -> int:
        """Make a plugin's next stream; its number. What is not taken into use goes again. retention in ms. Raises
        `SkepError`."""
        number = await self._known.reserve(topic_name)
        await self._bus.create_topic(stream(topic_name, number), self._partitions, retention)
        return number

    async def give_up(self, topic_name: str, number: int) -> None:
        """It was reserved and is not needed. Raises `SkepError`."""
        await self._known.give_up(topic_name, number)
        self._kicked.set()

    async def renew(self, topic_name: str, number: int, retention: int) -> None:
        """A stream in use gets this retention, or is made again for a bus that has forgotten it. Raises `SkepError`."""
        await self._bus.create_topic(stream(topic_name, number), self._partitions, retention)
        # Behind it: where the plugin went on meanwhile, and the stream was deleted, the sweep finds it again.
        await self._known.add(topic_name, number)

    async def in_effect(self, timeout: float = 5.0) -> None:
        """Returns when the interests of all plugins are in effect as they are committed by now. Raises Unavailable."""
        try:
            async with asyncio.timeout(timeout):
                await self._outbox.flushed()
                await self._markers.pass_end(timeout)
        except TimeoutError:
            raise errors.Unavailable from None

    async def new_log(self) -> str:
        """The incarnation of the log of interests, where it is another one than the plugins' interests are in; else
        "". Raises `SkepError`."""
        incarnation = (await self._bus.describe(topics.SUBSCRIPTIONS)).incarnation
        return incarnation if incarnation != await self._known.incarnation() else ""

    async def begin(self, incarnation: str) -> None:
        await self._known.begin(incarnation)

    def kick(self) -> None:
        """A plugin went on to another stream, or is gone."""
        self._kicked.set()

    async def keep(self) -> None:
        """Delete what is left behind; until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP):
                    await self._kicked.wait()
            self._kicked.clear()
            try:
                await self._delete(await self._known.doom(UNTAKEN))
            except errors.SkepError as error:
                log.warning("streams that are not used any more stay for now: %s", error)

    async def _delete(self, streams: list[tuple[str, int]]) -> None:
        """Once nothing is sent there any more."""
        if not streams:
            return
        await self.in_effect()
        for topic_name, number in streams:
            await self._bus.delete_topic(stream(topic_name, number))
            await self._known.forget(topic_name, number)
            log.info("deleted stream %s", stream(topic_name, number))
