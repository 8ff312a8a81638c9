"""What every service with an HTTP API needs: routes as data, inputs, authentication, errors, limits, health, metrics.

@web.route("GET", "/network/{id}", action=Action.GET_NETWORK)
async def get_network(ctx: web.Context, network_id: int) -> NetworkView: ...

server = web.Server(web.collect(networks), "/api/rest", settings, web.Authenticator(keys, caches.user), app)
port = server.listen(8080)
"""

from skep.web.authentication import Authenticator, bearer
from skep.web.context import Context, Response
from skep.web.info import info_route
from skep.web.json import NULL, Decoder, json_object
from skep.web.routes import Route, collect, route
from skep.web.server import Server

__all__ = [
    "NULL",
    "Authenticator",
    "Context",
    "Decoder",
    "Response",
    "Route",
    "Server",
    "bearer",
    "collect",
    "info_route",
    "json_object",
    "route",
]
