"""REST routes: one module a topic; `routes` lists them all."""

from skep import web

from . import commands, devices, info, notifications, polls, tokens

routes = web.collect(info, tokens, devices, polls, notifications, commands)

__all__ = ["routes"]
