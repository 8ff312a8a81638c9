"""This process's topic of events, into the registry of subscribers."""

from __future__ import annotations

import asyncio
import logging

from msgspec import MsgspecError

from frontend.core.subscriptions import Registry
from skep import bus
from skep.wire import topics
from skep.wire.messages import decode_events

log = logging.getLogger("frontend.events")


class EventStream:
    def __init__(self, link: bus.Bus, registry: Registry) -> None:
        self._bus, self._registry = link, registry
        self._topic = topics.events(link.run)
        self._subscription: bus.Subscription | None = None

    async def start(self) -> None:
        """Subscribe; in effect when it returns."""
        self._bus.on_gap = self._gap
        self._subscription = await self._bus.subscribe(self._topic)

    async def follow(self) -> None:
        """Dispatch what comes; until cancelled. Raises bus.Closed."""
        assert self._subscription is not None
        while True:
            for event in await self._subscription.next():
                if isinstance(event, bus.Records):
                    for record in event.records:
                        self._take(record.payload or b"")
                        await asyncio.sleep(0)  # sockets are written to, and others have their turn
                elif isinstance(event, bus.Gap):
                    self._lose()

    def _take(self, payload: bytes) -> None:
        try:
            events = decode_events(payload)
        except MsgspecError:
            log.exception("a record of %s is malformed", self._topic)
            self._lose()
        else:
            self._registry.dispatch(events)

    def _gap(self, topic: str) -> None:
        if topic == self._topic:
            self._lose()

    def _lose(self) -> None:
        log.warning("events are missing: subscribers have to resume")
        self._registry.lose()
