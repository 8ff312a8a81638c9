"""What every server answers by itself: /health, /metrics and /openapi.json."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from skep.web import json, metrics, openapi
from skep.web.context import Context, Response
from skep.web.routes import Route, collect, route

if TYPE_CHECKING:
    from skep.web.server import Server

ROOT_PATHS = ("/health", "/metrics")
"""Served at the root, too."""


class Health(Struct):
    """`parts`: whether each part of the service works."""

    status: Literal["ok", "failing"]
    parts: dict[str, bool]


def own_routes(server: Server, others: Iterable[Route]) -> list[Route]:
    """others: what the document describes besides."""

    @route("GET", "/health", action=None, also={503: Health})
    async def get_health(ctx: Context) -> Health | Response:
        """Whether the service works, and which of its parts do."""
        parts = dict(await server.health())
        if all(parts.values()):
            return Health("ok", parts)
        return Response(json.encode(Health("failing", parts)), 503)

    @route("GET", "/metrics", action=None, content_type=metrics.CONTENT_TYPE)
    async def get_metrics(ctx: Context) -> Response:
        """Counters and gauges in the Prometheus text format."""
        return Response(server.metrics.render().encode(), content_type=metrics.CONTENT_TYPE)

    @route("GET", "/openapi.json", action=None)
    async def get_openapi(ctx: Context) -> dict[str, Any] | Response:
        """This document."""
        return Response(document)

    own = collect(get_health, get_metrics, get_openapi)
    document = json.encode(openapi.document([*others, *own], server.prefix))
    return own
