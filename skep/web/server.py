"""The HTTP listener: Tornado's HTTP/1.1 connection below, `exchange.Exchange` for each request above.

Tornado's request handlers are only used for what is added with `extra_handlers` (WebSockets): they cost a third of
the requests per second, and can't answer a body that is too large with a 413.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from tornado import httputil, netutil
from tornado.httpserver import HTTPServer
from tornado.web import Application

from skep import logs, settings
from skep.access import Principal
from skep.web import metrics
from skep.web.exchange import Exchange
from skep.web.own import own_routes
from skep.web.routes import Route, Table

MAX_BODY = 1 << 20
MAX_HEADER = 32 << 10
HEADER_SECONDS = 10.0
"""From the end of one request to the end of the next one's headers on a connection."""
BODY_SECONDS = 30.0
MAX_IN_FLIGHT = 5_000
"""Requests being answered at a time, long polls included; more get 503."""

log = logs.get("web")

Health = Callable[[], Awaitable[Mapping[str, bool]]]


async def no_parts() -> Mapping[str, bool]:
    return {}


class Server(httputil.HTTPServerConnectionDelegate):
    """Serves `routes` below `prefix`, e.g. "/api/rest", with their /openapi.json; and /health and /metrics there and at
    the root.

    authenticate: token -> principal, raises `Unauthorized`. context: handed to handlers as `ctx.app`.
    extra_handlers: Tornado URL specs with whole paths, e.g. ("/api/websocket", Handler, {...}); their settings have
    `client_address`, and `logs.request_id` is set for them. health: parts of the service and whether they work; one
    that does not makes /health 503.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        prefix: str,
        config: settings.Edge,
        authenticate: Callable[[str], Awaitable[Principal]],
        context: Any = None,
        *,
        extra_handlers: Iterable[tuple[Any, ...]] = (),
        application_settings: Mapping[str, Any] | None = None,
        health: Health = no_parts,
        max_body: int = MAX_BODY,
        header_seconds: float = HEADER_SECONDS,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self.prefix, self.authenticate, self.app = prefix, authenticate, context
        self.config, self.health, self.max_body = config, health, max_body
        routes = list(routes)
        self.table = Table([*routes, *own_routes(self, routes)])
        self.metrics = metrics.Registry()
        self.requests = self.metrics.counter("skep_http_requests_total", "Requests answered", "route", "status")
        self.seconds = self.metrics.counter("skep_http_seconds_total", "Time to answer, summed up", "route")
        self.metrics.gauge("skep_http_in_flight", "Requests being answered", lambda: len(self.tasks))
        self.tasks: set[asyncio.Task[None]] = set()
        self.max_in_flight = MAX_IN_FLIGHT
        self._trusted = [ipaddress.ip_network(text) for text in config.trusted_proxies]
        handlers = [*extra_handlers]
        self._application = Application(handlers, client_address=self.client_address, **(application_settings or {}))
        self._extra_paths = [re.compile(handler[0]) for handler in handlers]
        self._run, self._count = secrets.token_hex(3), 0
        self._http = HTTPServer(
            self,
            max_header_size=MAX_HEADER,
            idle_connection_timeout=header_seconds,
            body_timeout=body_seconds,
            # The real limit is the exchange's, which can answer; Tornado's would close without a word.
            max_body_size=1 << 62,
        )
        self._sockets: list[socket.socket] = []

    def listen(self, port: int) -> int:
        """Listens on `port` of the configured host (0: any free one) and returns it. Raises OSError: in use."""
        if port and self._is_served(port):
            raise OSError(98, f"port {port} is in use")
        self._sockets = netutil.bind_sockets(port, self.config.host)
        self._http.add_sockets(self._sockets)
        return int(self._sockets[0].getsockname()[1])

    async def close(self, grace: float = 2.0) -> None:
        """Stops listening, lets what is being answered finish for `grace` seconds, then ends it and the connections."""
        self._http.stop()
        if self.tasks:
            await asyncio.wait(list(self.tasks), timeout=grace)
        for task in list(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(list(self.tasks), timeout=1)
        await self._http.close_all_connections()

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> httputil.HTTPMessageDelegate:
        return Exchange(self, server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        pass

    def delegate(
        self, path: str, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate | None:
        """Tornado's own delegate, for the paths of extra handlers."""
        if not any(pattern.fullmatch(path) for pattern in self._extra_paths):
            return None
        return self._application.start_request(server_conn, request_conn)

    def request_id(self) -> str:
        self._count += 1
        return f"{self._run}-{self._count:x}"

    def client_address(self, headers: httputil.HTTPHeaders, peer: str) -> str:
        """Of the client, where a trusted gateway says so; else of the peer."""
        if self.is_trusted(peer):
            # From the right: what trusted gateways appended. What stands left of the first other address is hearsay.
            for address in reversed(headers.get("X-Forwarded-For", "").split(",")):
                address = address.strip()
                if address and not self.is_trusted(address):
                    return address
        return peer

    def is_trusted(self, address: str) -> bool:
        """Whether `X-Forwarded-*` of this peer is believed."""
        if not self._trusted:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted)

    def _is_served(self, port: int) -> bool:
        # SO_REUSEADDR lets a second process bind beside a stale one on some systems, so ask first.
        with socket.socket(socket.AF_INET6 if ":" in self.config.host else socket.AF_INET) as probe:
            probe.settimeout(0.2)
            return probe.connect_ex((self.config.host, port)) == 0
