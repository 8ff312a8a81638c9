"""The bus's side: requests to the frontends, inserts to the backends."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

import msgspec

from mqtt_bridge.core import requests
from mqtt_bridge.core.clients import Clients
from mqtt_bridge.core.topics import Insert
from skep import bus, errors
from skep.metadata.rows import Device
from skep.wire import topics
from skep.wire.messages import ApiCall, InsertNotification, Login, Notification, Tokens

ASK_SECONDS = 8.0
"""For a request of the API: a frontend answers within 5 s."""
INSERT_SECONDS = 60.0
"""An insert keeps its place among those of its device for so long while the bus is away."""
LOGIN_SECONDS = 5.0
OTHERS = "This client id belongs to another user"

_reply = msgspec.msgpack.Decoder(bytes)
_tokens = msgspec.msgpack.Decoder(Tokens)
_object = msgspec.json.Decoder(dict[str, Any] | None)


class Devices(Protocol):
    """`skep.metadata.Caches`, as it is used here."""

    async def device(self, id: str, fresh: bool = False) -> Device | None: ...


class BusPlatform:
    """`mqtt_bridge.core.inbound.Platform`."""

    def __init__(self, client: bus.Bus, clients: Clients, devices: Devices) -> None:
        self._bus, self._clients, self._devices = client, clients, devices

    async def ask(self, client_id: str, request: requests.Request) -> bytes:
        call = ApiCall(await self._clients.token(client_id), "", request.text)
        reply = _reply.decode(await self._bus.request(topics.API_REQUESTS, call, timeout=ASK_SECONDS))
        let_in = request.action == requests.AUTHENTICATE and requests.status(reply)[0]
        if let_in and not await self._clients.authenticated(client_id, request.token):
            return requests.refusal(request, errors.Forbidden.status, OTHERS)
        return reply

    async def insert(self, insert: Insert, parameters: bytes, id: int, is_repeated: bool) -> Awaitable[object] | None:
        """Raises BadRequest for parameters that are no JSON object."""
        device = await self._devices.device(insert.device_id)
        if device is None or device.is_blocked:
            device = await self._devices.device(insert.device_id, fresh=True)
        if device is None or device.is_blocked:
            return None
        place = device.id, device.network_id, device.device_type_id
        notification = Notification(id, insert.name, *place, 0, _checked(parameters))
        return self._bus.call(
            topics.REQUESTS, InsertNotification(notification, is_repeated), device.id.encode(), timeout=INSERT_SECONDS
        )


class BusLogins:
    """`mqtt_bridge.core.clients.Logins`."""

    def __init__(self, client: bus.Bus) -> None:
        self._bus = client

    async def login(self, login: str, password: str, address: str) -> str:
        try:
            answer = await self._bus.request(
                topics.AUTH_REQUESTS, Login(login, password, address), timeout=LOGIN_SECONDS
            )
        except bus.Failed as error:
            if error.code == errors.Unauthorized.status:
                raise errors.Unauthorized from error
            raise
        return _tokens.decode(answer).access_token


def _checked(parameters: bytes) -> bytes | None:
    """JSON text of an object; None for nothing."""
    if not parameters.strip():
        return None
    try:
        found = _object.decode(parameters)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise errors.BadRequest("The payload must be a JSON object") from None
    return None if found is None else bytes(parameters)
