"""/info, /info/cache, /info/config/cluster and the welcome text."""

from __future__ import annotations

from frontend.core import services
from skep import web
from skep.wire import timestamps, views

TEXT = "text/plain; charset=utf-8"


@web.route("GET", "/info", action=None)
async def get_info(ctx: web.Context) -> views.Info:
    """Version, time and the WebSocket's URL."""
    scheme = "wss" if ctx.secure else "ws"
    url = f"{scheme}://{ctx.host}{ctx.app.websocket_path}"
    return views.Info(services.API_VERSION, timestamps.format(services.now()), url)


@web.route("GET", "/info/cache", action=None)
async def get_cache_info(ctx: web.Context) -> views.CacheInfo:
    """What the caches hold."""
    return services.cache_info(ctx.app)


@web.route("GET", "/info/config/cluster", action=None)
async def get_cluster_info(ctx: web.Context) -> views.ClusterInfo:
    """The engine of the bus."""
    return await services.cluster_info(ctx.app)


@web.route("GET", "/", action=None, content_type=TEXT)
async def get_welcome(ctx: web.Context) -> web.Response:
    """A sentence for people."""
    return web.Response(b"Skep: the DeviceHive API is here.", content_type=TEXT)
