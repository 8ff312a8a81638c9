"""A client user with plugins, and the means to watch them."""

from __future__ import annotations

import asyncio
import itertools
import time
import urllib.parse
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.system.plugin_socket import Message, PluginSocket
from tests.system.suite import Suite
from tests.system.test_entities import Api

WITHIN = 5.0
"""Seconds in which rights that shrink reach an open stream."""
NOTIFICATION, COMMAND, UPDATE = 10, 21, 23
_numbers = itertools.count(1)


def path(base: str = "plugin", **query: Any) -> str:
    return f"{base}?{urllib.parse.urlencode(query)}" if query else base


class Owner:
    """A client user with networks of its own; `api` asks plugin_manager or a frontend."""

    def __init__(self, suite: Suite, api: str, networks: int = 2) -> None:
        self.suite, self.admin = suite, Api(suite.rest, suite.token())
        self.mark = uuid.uuid4().hex[:8]
        login = f"owner-{self.mark}"
        self.id = self.admin.new("user", login=login, password="of-the-test", role=1)
        self.networks = [self.network(f"{self.mark} {number}") for number in range(networks)]
        for network in self.networks:
            self.let(network)
        self.foreign = self.network(f"{self.mark} foreign")
        self.api = Api(api, self.signed())
        self.everything = Api(api, suite.token())

    def network(self, name: str) -> int:
        return self.admin.new("network", name=name)

    def signed(self, **claims: Any) -> str:
        """A token as auth would sign it: everything the user may, unless claims say otherwise."""
        payload = {"u": self.id, "a": [0], "n": ["*"], "dt": ["*"], "t": 1, "e": int(time.time() + 600) * 1000}
        return self.suite.sign(payload | claims)

    def let(self, network: int, may: bool = True) -> None:
        assert self.admin("PUT" if may else "DELETE", f"user/{self.id}/network/{network}")[0] == 204

    def device(self, network: int, type: int = 1) -> str:
        name = f"d{next(_numbers)}-{self.mark}"
        body = {"name": name, "networkId": network, "deviceTypeId": type}
        assert self.admin("PUT", f"device/{name}", body) == (204, None)
        return name

    def send(self, device: str, name: str) -> Message:
        assert self.admin("POST", f"device/{device}/notification", {"notification": name})[0] == 201
        return NOTIFICATION, device, name

    def register(self, name: str = "of-the-test", **query: Any) -> dict[str, str]:
        status, made = self.api("POST", path(**query), {"name": name})
        assert status == 201, made
        return made  # type: ignore[return-value]

    def shown(self, plugin: dict[str, str]) -> dict[str, Any]:
        status, found = self.everything("GET", path(topicName=plugin["topicName"]))
        assert status == 200
        [one] = found  # type: ignore[misc]
        return one

    async def becomes(self, plugin: dict[str, str], seconds: float = WITHIN, **fields: Any) -> dict[str, Any]:
        """The plugin's view, as soon as these fields are so."""
        deadline = time.monotonic() + seconds
        while True:
            found = await asyncio.to_thread(self.shown, plugin)
            if all(found[name] == value for name, value in fields.items()):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)

    @asynccontextmanager
    async def connected(self, plugin: dict[str, str], group: str | None = None) -> AsyncIterator[PluginSocket]:
        """A socket of the plugin, subscribed."""
        socket = await PluginSocket.open(self.suite.plugins, plugin["accessToken"], plugin["topicName"], group)
        try:
            yield socket
        finally:
            await socket.close()

    def erase(self) -> None:
        status, found = self.everything("GET", path(userId=self.id))
        assert status == 200
        for plugin in found:  # type: ignore[attr-defined]
            assert self.everything("DELETE", path(topicName=plugin["topicName"]))[0] == 204
        for network in (*self.networks, self.foreign):
            self.admin("DELETE", f"network/{network}?force=true")
        self.admin("DELETE", f"user/{self.id}")
