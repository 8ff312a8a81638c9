"""Plugins, asked of plugin_manager over the bus."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from frontend.core.plugins import Plugins
from skep import errors
from skep.bus import Code, Failed, Refused, TimedOut
from skep.wire import plugins
from skep.wire.plugin_api import FilterQuery, ListQuery, Registration, Selection, UpdateQuery

CALLER: Any = None  # plugin_manager looks at the token


class Bus:
    def __init__(self, answer: object) -> None:
        self.answer, self.asked = answer, b""

    async def request(self, topic: str, body: Any, *, timeout: float) -> bytes:
        self.asked = msgspec.msgpack.encode(body)
        if isinstance(self.answer, Exception):
            raise self.answer
        return msgspec.msgpack.encode(msgspec.json.encode(self.answer))


async def test_what_is_asked_is_what_plugin_manager_reads():
    bus = Bus({"count": 3})
    assert await Plugins(bus).count(CALLER, "token", Selection(name="x", status=1)) == 3
    request = plugins.decode(bus.asked)
    assert (type(request), request.access_token) == (plugins.CountPlugins, "token")
    assert msgspec.json.decode(request.query, type=Selection) == Selection(name="x", status=1)
    made = {"accessToken": "a", "refreshToken": "r", "proxyEndpoint": "p", "topicName": "t"}
    bus = Bus(made)
    body = Registration("n", None, msgspec.Raw(b'{"b":  1}'))
    registered = await Plugins(bus).register(CALLER, "token", FilterQuery(network_ids=[1]), body)
    assert msgspec.to_builtins(registered) == made
    request = plugins.decode(bus.asked)
    assert msgspec.json.decode(request.query, type=FilterQuery) == FilterQuery(network_ids=[1])
    assert msgspec.json.decode(request.body, type=Registration) == body
    bus = Bus(None)
    await Plugins(bus).update(CALLER, "token", UpdateQuery(status="ACTIVE"))
    await Plugins(bus).delete(CALLER, "token", "t")
    assert plugins.decode(bus.asked).topic_name == "t"
    assert await Plugins(Bus([])).list(CALLER, "token", ListQuery()) == []


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (Refused(Code.NO_SUBSCRIBER, "x"), 503, "Plugins are not available: no plugin_manager is running"),
        (Refused(Code.FULL, "x"), 503, errors.Unavailable.__doc__),
        (TimedOut("x"), 503, errors.Unavailable.__doc__),
        (Failed(403, "No access to plugin"), 403, "No access to plugin"),
    ],
)
async def test_errors_are_plugin_managers_own(answer, status, text):
    with pytest.raises(errors.SkepError) as error:
        await Plugins(Bus(answer)).delete(CALLER, "token", "t")
    assert (error.value.status, error.value.text) == (status, text)
