"""REST routes: one module a topic; `routes` lists them all."""

from skep import web
from skep.web import plugins as plugin_routes

from . import (
    commands,
    configuration,
    containers,
    devices,
    info,
    memberships,
    notifications,
    plugins,
    polls,
    tokens,
    users,
)

routes = web.collect(
    info,
    tokens,
    plugin_routes,
    plugins,
    devices,
    polls,
    notifications,
    commands,
    *containers.routes,
    users,
    memberships,
    configuration,
)

__all__ = ["routes"]
