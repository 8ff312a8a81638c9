"""`GET /info`, the same in every service (reference §1.3)."""

from __future__ import annotations

import time

from msgspec import Struct

from skep import API_VERSION
from skep.web.context import Context
from skep.web.routes import Route, route
from skep.wire import timestamps
from skep.wire.fields import Timestamp


class Info(Struct, rename="camel"):
    api_version: str
    server_timestamp: Timestamp
    web_socket_server_url: str


def info_route(websocket_path: str) -> Route:
    """The public route. websocket_path: of the WebSocket API, shown with the host the client used."""

    @route("GET", "/info", action=None)
    async def info(ctx: Context) -> Info:
        """API version, server time, address of the WebSocket API."""
        scheme = "wss" if ctx.secure else "ws"
        now = timestamps.format(int(time.time() * 1000))
        return Info(API_VERSION, now, f"{scheme}://{ctx.host}{websocket_path}")

    found: Route = info.routes[0]  # type: ignore[attr-defined]
    return found
