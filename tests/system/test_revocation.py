"""Rights reach what is open within 5 s: pushes stop, polls end, requests are refused. And they grow as well."""

from __future__ import annotations

import asyncio
import itertools
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from deploy import postgres
from skep.metadata import Metadata
from tests.system.traffic import Refused, Session, call

pytestmark = pytest.mark.system
WITHIN = 5.0
DISABLED = 2
_numbers = itertools.count(1)


class Client:
    """A user who is a member of one network with one device, subscribed to all that he sees."""

    def __init__(self, suite) -> None:
        self.suite, name = suite, f"revoked-{suite.engines}-{next(_numbers)}"
        self.network = self.admin("POST", "network", {"name": name})["id"]
        body = {"login": name, "password": "a password", "role": 1, "status": 0}
        self.id = self.admin("POST", "user", body)["id"]
        self.admin("PUT", f"user/{self.id}/network/{self.network}", {})
        self.device = self.make_device(name, self.network)
        self.token = ""
        self.pushed: list[str] = []
        self.poll: asyncio.Future[Any]
        self.session: Session

    def admin(self, method: str, path: str, body: object = None) -> Any:
        return call(method, f"{self.suite.rest}/{path}", body, self.suite.token())

    def make_device(self, name: str, network: int) -> str:
        self.admin("PUT", f"device/{name}", {"name": name, "networkId": network})
        return name

    async def open(self, lifetime: float = 600) -> None:
        """Subscriber and poll are in effect when it returns. lifetime: seconds of the token."""
        expires = int((time.time() + lifetime) * 1000)
        self.token = self.suite.sign({"u": self.id, "a": [0], "n": ["*"], "dt": ["*"], "t": 1, "e": expires})
        self.session = await Session.open(
            self.suite.ws, self.token, lambda m: self.pushed.append(m["notification"]["notification"])
        )
        await self.session.ask({"action": "notification/subscribe"})
        path = f"{self.suite.rest}/device/{self.device}/notification/poll?waitTimeout=60&names=never"
        self.poll = asyncio.ensure_future(asyncio.to_thread(call, "GET", path, None, self.token, 70))
        await self.until(lambda: self.metric("skep_polls") > 0)
        await self.send("first")
        await self.until(lambda: self.pushed == ["first"])

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(self.suite.rest.removesuffix("/api/rest") + "/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))

    async def send(self, name: str, device: str | None = None) -> None:
        path = f"device/{device or self.device}/notification"
        await asyncio.to_thread(self.admin, "POST", path, {"notification": name})

    async def refusal(self) -> tuple[int, str]:
        """What the client is told when it reads the device."""
        try:
            await asyncio.to_thread(call, "GET", f"{self.suite.rest}/device/{self.device}", None, self.token)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        return 200, ""

    @staticmethod
    async def until(true: Callable[[], bool], seconds: float = WITHIN) -> None:
        async with asyncio.timeout(seconds):
            while not true():  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.02)

    async def silent(self, since: float) -> None:
        """Something that is sent is not pushed, at the latest `WITHIN` after `since`; an admin gets it all along."""
        seen: list[str] = []
        witness = await Session.open(
            self.suite.ws, self.suite.token(), lambda m: seen.append(m["notification"]["notification"])
        )
        try:
            await witness.ask({"action": "notification/subscribe", "deviceId": self.device})
            for number in itertools.count():
                began = time.monotonic()
                await self.send(f"later-{number}")
                await self.until(lambda number=number: f"later-{number}" in seen)  # type: ignore[misc]
                await self.session.ask({"action": "server/info"})  # behind what was pushed
                if f"later-{number}" not in self.pushed:
                    break
                assert began - since < WITHIN
        finally:
            await witness.close()

    async def close(self) -> None:
        await self.session.close()
        await asyncio.wait([self.poll])


@pytest.fixture
async def client(suite) -> AsyncIterator[Client]:
    made = await asyncio.to_thread(Client, suite)
    await made.open()
    yield made
    await made.close()


async def through_rest(client: Client, method: str, path: str, body: object = None) -> None:
    await asyncio.to_thread(client.admin, method, path, body)


async def through_the_database(client: Client) -> None:
    """As another service does that dies before it tells anybody: the outbox row is all there is."""
    server = postgres.server(client.suite.data, client.suite.secret("postgres_password"))
    metadata = Metadata(server.url("skep"))
    await metadata.start()
    try:
        await metadata.users.unassign_network(client.id, client.network)
    finally:
        await metadata.stop()


@pytest.mark.parametrize("how", ["disabled", "deleted"])
async def test_a_user_is_gone(client, how):
    began = time.monotonic()
    if how == "disabled":
        await through_rest(client, "PUT", f"user/{client.id}", {"status": DISABLED})
    else:
        await through_rest(client, "DELETE", f"user/{client.id}")
    status, text = await client.refusal()
    assert status == 401, text  # at once
    await client.silent(began)
    with pytest.raises(urllib.error.HTTPError) as caught:
        await asyncio.wait_for(client.poll, WITHIN)
    with caught.value:
        assert caught.value.code == 401
    with pytest.raises(Refused, match=" 401 "):
        await client.session.ask({"action": "device/get", "deviceId": client.device})
    assert time.monotonic() - began < 2 * WITHIN


@pytest.mark.parametrize("how", ["rest", "database"])
async def test_a_network_is_taken_away(client, how):
    began = time.monotonic()
    if how == "rest":
        await through_rest(client, "DELETE", f"user/{client.id}/network/{client.network}")
    else:
        await through_the_database(client)
    await client.silent(began)
    assert await asyncio.wait_for(client.poll, WITHIN) == []
    status, text = await client.refusal()
    assert status == 403, text
    with pytest.raises(Refused, match=" 403 "):
        await client.session.ask({"action": "device/get", "deviceId": client.device})


async def test_a_token_expires(suite):
    lifetime = 4.0
    client = await asyncio.to_thread(Client, suite)
    began = time.monotonic()
    await client.open(lifetime)
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            await asyncio.wait_for(client.poll, lifetime + WITHIN)
        with caught.value:
            assert caught.value.code == 401
            assert b"Token expired" in caught.value.read()
        await client.silent(began + lifetime)
        assert (await client.refusal())[0] == 401
        with pytest.raises(Refused, match="Token expired"):
            await client.session.ask({"action": "device/get", "deviceId": client.device})
    finally:
        await client.close()


async def test_a_network_is_given(client):
    """A subscription to all that one sees grows with it."""
    network = (await asyncio.to_thread(client.admin, "POST", "network", {"name": f"{client.device}-2"}))["id"]
    other = await asyncio.to_thread(client.make_device, f"{client.device}-2", network)
    await client.send("not yet", other)
    await through_rest(client, "PUT", f"user/{client.id}/network/{network}", {})
    began = time.monotonic()
    for number in itertools.count():
        await client.send(f"other-{number}", other)
        if any(name.startswith("other-") for name in client.pushed):
            break
        assert time.monotonic() - began < WITHIN
    assert "not yet" not in client.pushed
