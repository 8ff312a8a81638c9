"""Connecting to PostgreSQL, so that giving up leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

PATIENCE = 1.0
"""Seconds for a connection to get ready that nobody wants any more."""


async def connect(url: str, name: str, deadline: float) -> Connection:
    """A connection in autocommit; name: application_name. Raises psycopg.OperationalError.

    A cancelled libpq handshake stays open until it is collected as garbage, and until then, or authentication_timeout
    (60 s), the server can drop no database. So it is finished and closed.
    """
    connecting = asyncio.ensure_future(
        psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=max(2, round(deadline)), application_name=name
        )
    )
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        await asyncio.wait([connecting], timeout=PATIENCE)
        if not connecting.done():
            connecting.cancel()
        elif connecting.exception() is None:
            await connecting.result().close()
        raise
