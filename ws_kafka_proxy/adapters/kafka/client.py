"""aiokafka's client, safe to cancel: a connection that is being made when its user is cancelled is kept, not leaked."""

# mypy: allow-subclassing-any
from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaError

from skep import logs

log = logs.get("bus.kafka")

REQUEST_TIMEOUT = 10.0
"""Of one request to a broker, seconds. Above the longest wait of a JoinGroup."""
RETRY = 0.1
SETTLE = 2.0
"""Longest wait for connections that are being made when the client is closed, seconds."""

Connect = Callable[[], "Client"]


class Client(AIOKafkaClient):
    """Connections go by (node, name): requests on one of them wait for each other, so long ones get their own."""

    def __init__(self, bootstrap: str, security: dict[str, Any]) -> None:
        super().__init__(
            bootstrap_servers=bootstrap,
            client_id="skep",
            request_timeout_ms=int(REQUEST_TIMEOUT * 1000),
            **security,
        )
        self._connecting: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def bootstrap(self) -> None:
        await self._kept(super().bootstrap())

    async def _get_conn(self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
        if self._closed:
            return None
        conn = self._conns.get((node_id, group))
        if conn is not None and conn.connected():
            return conn
        return await self._kept(super()._get_conn(node_id, group=group, no_hint=no_hint))

    async def _kept(self, work: Any) -> Any:
        task = asyncio.create_task(work)
        self._connecting.add(task)
        task.add_done_callback(self._settled)
        return await asyncio.shield(task)

    def _settled(self, task: asyncio.Task[Any]) -> None:
        self._connecting.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it may have gone
        if self._closed:
            for conn in list(self._conns.values()):
                conn.close(reason=CloseReason.SHUTDOWN)

    async def close(self) -> None:
        self._closed = True
        await super().close()
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=SETTLE)
        await super().close()  # what was made meanwhile, and what bootstrap began in the end


async def started(connect: Connect) -> Client:
    """A client with its first metadata. Tries until the cluster answers."""
    wait = RETRY
    while True:
        client = connect()
        try:
            await client.bootstrap()
        except KafkaError as error:
            await client.close()
            log.warning("Kafka does not answer, trying again: %s", error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, 1.0)
        except BaseException:
            await client.close()
            raise
        else:
            return client
