"""What a handler gets to know about its request, and what it may answer besides a value."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Struct
from tornado.httputil import HTTPHeaders

from skep.access import Principal
from skep.errors import Unauthorized

JSON = "application/json"


class Context:
    """One request. `app` is the service's composition root. `address`: the client's, as text. `token`: its bearer
    token. `closed` is set when the client has gone; answering is pointless then."""

    __slots__ = ("address", "app", "closed", "headers", "host", "principal", "request_id", "secure", "token")

    def __init__(self, app: Any, headers: HTTPHeaders, request_id: str, address: str, host: str, secure: bool) -> None:
        self.app = app
        self.headers = headers
        self.request_id = request_id
        self.address = address
        self.host = host
        self.secure = secure
        self.principal: Principal | None = None
        self.token = ""
        self.closed = asyncio.Event()

    @property
    def caller(self) -> Principal:
        """The principal of a route with a permission."""
        if self.principal is None:
            raise Unauthorized
        return self.principal


class Response(Struct):
    """An answer that is not just a value with the route's status. `body` goes out as it is."""

    body: bytes
    status: int = 200
    content_type: str = JSON
