"""One HTTP request and its answer: method override, CORS, authentication, permission, inputs, handler, errors.

The order of the checks is the API's (reference §1.2, 2.6): token, path, method, permission, parameters.
"""

from __future__ import annotations

import asyncio
import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tornado import httputil, iostream

from skep import logs
from skep.access import Action
from skep.errors import (
    BadRequest,
    Internal,
    MalformedJson,
    NotFound,
    SkepError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from skep.web import json
from skep.web.authentication import bearer
from skep.web.context import JSON, Context, Response
from skep.web.own import ROOT_PATHS
from skep.web.routes import Route

if TYPE_CHECKING:
    from skep.web.server import Server

ALLOW_HEADERS = (
    "Origin, Authorization, Accept, Content-Type, Auth-DeviceID, Auth-DeviceKey,"
    " Idempotency-Key, X-HTTP-Method-Override, X-Request-Id"
)
ALLOW_METHODS = "OPTIONS, GET, POST, PUT, DELETE, HEAD"
EXPOSE_HEADERS = "Retry-After, X-Request-Id"
EMPTY_BODY = "Error! Validation failed: \nObject is null"
OVERRIDES = frozenset({"PUT", "DELETE", "HEAD", "OPTIONS"})

LINGER_BYTES, LINGER_SECONDS = 16 << 20, 2.0
"""How much of a body is still read, and for how long, after its answer: a connection that is closed while the client
sends is reset, and the answer lost with it."""

MAX_LOGGED = 200
"""Characters of an error's text that are logged: it may name what a client sent."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

log = logs.get("web")


class Exchange(httputil.HTTPMessageDelegate):
    """Takes Tornado's events of one request and writes one answer. What comes after the answer is ignored."""

    def __init__(self, server: Server, server_conn: object, connection: httputil.HTTPConnection) -> None:
        self._server, self._server_conn, self._connection = server, server_conn, connection
        self._chunks: list[bytes] = []
        self._size = 0
        self._answered = self._has_all = False
        self._lingering: asyncio.TimerHandle | None = None
        self._extra: httputil.HTTPMessageDelegate | None = None
        self._ctx: Context | None = None
        self._method, self._is_head = "GET", False
        self._path = self._query = ""
        self._route_name = "-"
        self._began = time.monotonic()

    # -- Tornado's events ---------------------------------------------------------------------------------------

    def headers_received(
        self, start_line: httputil.RequestStartLine | httputil.ResponseStartLine, headers: httputil.HTTPHeaders
    ) -> None:
        assert isinstance(start_line, httputil.RequestStartLine)
        self._path, _, self._query = start_line.path.partition("?")
        ctx = self._context(headers)
        logs.request_id.set(ctx.request_id)
        self._extra = self._server.delegate(self._path, self._server_conn, self._connection)
        if self._extra is not None:
            waited = self._extra.headers_received(start_line, headers)
            assert waited is None
            return
        self._method, self._is_head = _method(start_line.method, headers), start_line.method == "HEAD"
        self._ctx = ctx
        length = headers.get("Content-Length", "0")
        if not self._path.startswith("/"):  # an absolute URI: this is no forward proxy
            self._fail(BadRequest())
        elif length.isdigit() and int(length) > self._server.max_body:
            self._fail(TooLarge())

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._lingering is not None:
            if self._size > self._server.max_body + LINGER_BYTES:
                self._end()
        elif self._size > self._server.max_body:
            self._too_large()
        elif self._extra is not None:
            self._extra.data_received(chunk)
        elif not self._answered:
            self._chunks.append(chunk)

    def finish(self) -> None:
        self._has_all = True
        if self._extra is not None:
            self._extra.finish()
        elif self._lingering is not None:
            self._end()
        elif not self._answered:
            self._begin()

    def on_connection_close(self) -> None:
        if self._extra is not None:
            self._extra.on_connection_close()
        self._gone()

    def _too_large(self) -> None:
        self._chunks.clear()
        if self._extra is not None:
            self._connection.close()  # type: ignore[attr-defined]
        else:
            self._fail(TooLarge())

    # -- answering ----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if len(self._server.tasks) >= self._server.max_in_flight:
            self._fail(Unavailable())
            return
        self._connection.set_close_callback(self._gone)  # type: ignore[attr-defined]
        task = asyncio.get_running_loop().create_task(self._serve())
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    async def _serve(self) -> None:
        assert self._ctx is not None
        try:
            answer = await self._answer(self._ctx)
        except SkepError as error:
            if error.status == Internal.status:
                log.error("%s failed: %s", self._route_name, error, exc_info=error.__cause__)
            self._fail(error)
        except TimeoutError:
            self._fail(Unavailable())
        except asyncio.CancelledError:
            self._fail(Unavailable())
            raise
        except Exception:
            log.exception("%s failed", self._route_name)
            self._fail(Internal())
        else:
            self._write(answer.status, answer.body, answer.content_type)

    async def _answer(self, ctx: Context) -> Response:
        token = bearer(ctx.headers.get("Authorization")) if self._method != "OPTIONS" else None
        if token is not None:
            ctx.token = token
            ctx.principal = await self._server.authenticate(token)
        path = self._below_prefix()
        if path is None:
            raise NotFound
        if self._method == "OPTIONS":
            self._server.table.allowed(path)
            return Response(b"", 204)
        route, values = self._server.table.find(self._method, path)
        self._route_name = route.name
        if ctx.principal is not None and ctx.principal.topic is not None and route.action != Action.MANAGE_PLUGIN:
            raise Unauthorized  # a plugin's token is good for plugins' endpoints
        return await self._call(route, ctx, values)

    async def _call(self, route: Route, ctx: Context, values: list[Any]) -> Response:
        if route.action is not None:
            if ctx.principal is None:
                raise Unauthorized
            ctx.principal.require(route.action)
        if route.guard is not None:
            await route.guard(ctx, *values)
        if route.query is not None:
            values.append(route.query.decode(self._query))
        if route.headers is not None:
            values.append(route.headers.read(ctx.headers.items()))
        if route.body is not None:
            values.append(self._body(route.body))
        value = await route.handler(ctx, *values)
        if isinstance(value, Response):
            return value
        body = b"" if route.status == HTTPStatus.NO_CONTENT else json.encode(value)
        return Response(body, route.status, route.content_type)

    def _body(self, decoder: json.Decoder[Any]) -> Any:
        data = b"".join(self._chunks)
        if not data.strip():
            raise BadRequest(EMPTY_BODY)
        try:
            return decoder.decode(data)
        except MalformedJson:
            raise BadRequest from None

    def _below_prefix(self) -> str | None:
        prefix = self._server.prefix
        if self._path in ROOT_PATHS:
            return self._path
        if self._path == prefix:
            return "/"
        return self._path[len(prefix) :] if self._path.startswith(prefix + "/") else None

    def _fail(self, error: SkepError) -> None:
        if not self._answered and error.status != Internal.status:  # a failure of our own is logged where its cause is
            log.info("%s: %d %s", self._route_name, error.status, error.text[:MAX_LOGGED])
        body = json.encode({"error": error.status, "message": error.text}) if error.text else b""
        extra = {}
        if error.retry_after is not None:
            extra["Retry-After"] = str(error.retry_after)
        if error.status == HTTPStatus.UNAUTHORIZED:
            extra["WWW-Authenticate"] = "Bearer"
        elif error.status == HTTPStatus.METHOD_NOT_ALLOWED:
            extra["Allow"] = ", ".join(self._server.table.allowed(self._below_prefix() or ""))
        self._write(error.status, body, JSON, extra)

    def _write(self, status: int, body: bytes, content_type: str, extra: dict[str, str] | None = None) -> None:
        if self._answered:
            return
        self._answered = True
        self._server.requests.add(self._route_name, str(status))
        self._server.seconds.add(self._route_name, by=time.monotonic() - self._began)
        if self._method == "HEAD" and not self._is_head:
            body = b""  # overridden: on the wire it is a POST, whose Content-Length counts
        headers = self._headers(status, body, content_type)
        for name, value in (extra or {}).items():
            headers[name] = value
        start = httputil.ResponseStartLine("HTTP/1.1", status, HTTPStatus(status).phrase)
        try:
            self._connection.write_headers(start, headers, b"" if self._is_head else body)
        except iostream.StreamClosedError:
            self._gone()
            return
        assert self._ctx is not None
        if self._has_all or "Expect" in self._ctx.headers:
            self._end()
        else:
            self._lingering = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._end)

    def _end(self) -> None:
        """The answer is out: keep the connection for the next request, or close it where the body has no end."""
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        try:
            self._connection.finish()
        except iostream.StreamClosedError:
            self._gone()

    def _headers(self, status: int, body: bytes, content_type: str) -> httputil.HTTPHeaders:
        assert self._ctx is not None
        headers = httputil.HTTPHeaders()
        headers["Access-Control-Allow-Origin"] = self._origin()
        if "*" not in self._server.config.cors_origins:
            headers["Vary"] = "Origin"
        headers["Access-Control-Allow-Methods"] = ALLOW_METHODS
        headers["Access-Control-Allow-Headers"] = ALLOW_HEADERS
        headers["Access-Control-Expose-Headers"] = EXPOSE_HEADERS
        headers["Access-Control-Max-Age"] = "0"
        headers["X-Content-Type-Options"] = "nosniff"
        headers["X-Request-Id"] = self._ctx.request_id
        headers["Date"] = httputil.format_timestamp(time.time())
        if status != HTTPStatus.NO_CONTENT:
            if body:
                headers["Content-Type"] = content_type
            headers["Content-Length"] = str(len(body))
        return headers

    def _origin(self) -> str:
        assert self._ctx is not None
        allowed = self._server.config.cors_origins
        origin = self._ctx.headers.get("Origin", "")
        if "*" in allowed:
            return "*"
        return origin if origin in allowed else allowed[0] if allowed else "null"

    def _gone(self) -> None:
        self._answered = True
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self._ctx is not None:
            self._ctx.closed.set()

    def _context(self, headers: httputil.HTTPHeaders) -> Context:
        given = headers.get("X-Request-Id", "")
        peer = getattr(getattr(self._connection, "context", None), "remote_ip", None) or ""
        return Context(
            app=self._server.app,
            headers=headers,
            request_id=given if _REQUEST_ID.fullmatch(given) else self._server.request_id(),
            address=self._server.client_address(headers, peer),
            host=headers.get("Host", ""),
            secure=headers.get("X-Forwarded-Proto", "") == "https",  # only shown back to who sent it
        )


def _method(method: str, headers: httputil.HTTPHeaders) -> str:
    override = headers.get("X-HTTP-Method-Override", "").upper()
    return override if method == "POST" and override in OVERRIDES else method
