"""REST routes: one module a topic; `routes` lists them all."""

from skep import web

from . import commands, configuration, containers, devices, info, memberships, notifications, polls, tokens, users

routes = web.collect(
    info,
    tokens,
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
