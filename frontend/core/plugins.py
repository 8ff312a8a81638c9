"""Plugins, asked of plugin_manager over the bus."""

from __future__ import annotations

import builtins
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from skep import errors
from skep.access import Principal
from skep.bus import Code, Refused
from skep.wire import topics
from skep.wire.plugin_api import (
    FilterQuery,
    ListQuery,
    PluginRegistered,
    PluginView,
    Registration,
    Selection,
    UpdateQuery,
)
from skep.wire.plugins import CountPlugins, DeletePlugin, ListPlugins, RegisterPlugin, UpdatePlugin
from skep.wire.views import Count

TIMEOUT = 10.0
"""Seconds: a registration makes a topic, and waits for auth and for every backend."""
ABSENT = "Plugins are not available: no plugin_manager is running"

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_answer = msgspec.msgpack.Decoder(bytes).decode
_registered = msgspec.json.Decoder(PluginRegistered)
_views = msgspec.json.Decoder(list[PluginView])
_count = msgspec.json.Decoder(Count)
_nothing = msgspec.json.Decoder(None)


class Bus(Protocol):
    async def request(self, topic: str, body: Any, *, timeout: float) -> bytes: ...


class Plugins:
    """`skep.web.plugins.Plugins`. Errors are plugin_manager's, with its codes and texts, or Unavailable."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def list(self, caller: Principal, token: str, query: ListQuery) -> builtins.list[PluginView]:
        return await self._ask(ListPlugins(token, _encode(query)), _views)

    async def count(self, caller: Principal, token: str, query: Selection) -> int:
        return (await self._ask(CountPlugins(token, _encode(query)), _count)).count

    async def register(self, caller: Principal, token: str, query: FilterQuery, body: Registration) -> PluginRegistered:
        return await self._ask(RegisterPlugin(token, _encode(query), _encode(body)), _registered)

    async def update(self, caller: Principal, token: str, query: UpdateQuery) -> None:
        await self._ask(UpdatePlugin(token, _encode(query)), _nothing)

    async def delete(self, caller: Principal, token: str, topic_name: str | None) -> None:
        await self._ask(DeletePlugin(token, topic_name), _nothing)

    async def _ask(self, body: Struct, decoder: msgspec.json.Decoder[T]) -> T:
        try:
            answer = await self._bus.request(topics.PLUGIN_REQUESTS, body, timeout=TIMEOUT)
        except Refused as refusal:
            if refusal.code == Code.NO_SUBSCRIBER:
                raise errors.Unavailable(ABSENT) from refusal
            raise
        return decoder.decode(_answer(answer))
