"""Containers for amqtt 0.12.1, which it changes while it goes through them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from typing import Any

from amqtt.session import Session

log = logging.getLogger("mqtt_bridge")


class Subscriptions(dict[str, list[tuple[Session, int]]]):
    """By filter. amqtt goes through them and waits in between: when somebody subscribed then, it gave up."""

    def items(self) -> Any:
        return [(filter_, list(subscribed)) for filter_, subscribed in super().items()]

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().__iter__()))


class Tasks(deque[asyncio.Task[Any]]):
    """What is on its way to somebody. amqtt keeps what is done behind the first one that is not, messages included."""

    def append(self, task: asyncio.Task[Any]) -> None:
        super().append(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        with contextlib.suppress(ValueError):
            self.remove(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("a message did not get to a client: %s", error)
