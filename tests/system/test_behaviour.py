"""What the reference forgets: blocked devices, lifetimes, text no database holds, narrowed administrators, floods of
polls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deploy import postgres
from skep import access
from skep.metadata import Metadata, rows
from skep.tokens import Claims
from tests.system.suite import Suite
from tests.system.test_entities import DENIED, PASSWORD, Api, World, refusal, refused_within_5_s
from tests.system.traffic import Refused, Session

pytestmark = pytest.mark.system
BLOCKED = refusal(403, "Device is blocked")
WITHIN = 5.0
POLLS = 100
"""Of one user at a time."""


@pytest.fixture
def world(suite: Suite) -> Iterator[World]:
    made = World(suite, Api(suite.rest, suite.token()))
    yield made
    made.erase()


async def until(true: Callable[[], Any], seconds: float = WITHIN) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(true):  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.02)


# -- blocked devices -----------------------------------------------------------------------------------------------


async def block(suite: Suite, device: str) -> None:
    """As another service does."""
    server = postgres.server(suite.data, suite.secret("postgres_password"))
    metadata = Metadata(server.url("skep"))
    await metadata.start()
    try:
        claims = Claims(1, [0], ["*"], ["*"], 2**52)
        boss = access.principal(claims, await metadata.users.rights(1), 0)
        await metadata.devices.save(boss, device, rows.DeviceChanges(is_blocked=True))
    finally:
        await metadata.stop()


async def test_a_blocked_device(suite, world):
    device, client, admin = world.device("own"), world.client, world.admin
    path, body = f"device/{device}", {"notification": "n"}
    status, command = client("POST", f"{path}/command", {"command": "c"})
    assert status == 201
    session = await Session.open(suite.ws, client.token)
    insert = {"action": "notification/insert", "deviceId": device, "notification": body}
    await session.ask(insert)
    await block(suite, device)
    assert await refused_within_5_s(session, insert) == "notification/insert: 403 Device is blocked"
    for who in (client, admin):
        for method, at, sent in (
            ("POST", "notification", body),
            ("POST", "command", {"command": "c"}),
            ("PUT", f"command/{command['id']}", {"status": "done"}),
            ("GET", "notification/poll?waitTimeout=0", None),
            ("GET", "command/poll?waitTimeout=0", None),
            ("GET", f"command/{command['id']}/poll?waitTimeout=0", None),
        ):
            assert who(method, f"{path}/{at}", sent) == BLOCKED, (method, at)
        for many in ("notification", "command"):
            assert who("GET", f"device/{many}/poll?waitTimeout=0&deviceId={device}") == BLOCKED
        assert who("GET", path)[1]["isBlocked"] is True
        assert who("GET", f"{path}/command")[1][0]["id"] == command["id"]
        assert "n" in [n["notification"] for n in who("GET", f"{path}/notification")[1]]
    for action in ("notification/subscribe", "command/subscribe"):
        with pytest.raises(Refused, match=f"{action}: 403 Device is blocked"):
            await session.ask({"action": action, "deviceId": device})
    assert client("PUT", path, {"isBlocked": False}) == BLOCKED
    assert client("DELETE", path) == BLOCKED
    assert admin("PUT", path, {"isBlocked": False}) == (204, None)
    assert client("POST", f"{path}/notification", body)[0] == 201  # at once: a refusal is never from a cache
    await session.ask(insert)
    await session.close()


# -- lifetime --------------------------------------------------------------------------------------------------------


async def test_a_command_lives_as_long_as_it_says(suite, world):
    api, path = world.client, f"device/{world.device('own')}"
    since = api("GET", "info")[1]["serverTimestamp"]
    status, made = api("POST", f"{path}/command", {"command": "c", "lifetime": 1, "status": "new"})
    assert status == 201
    poll = f"{path}/command/poll?waitTimeout=0&limit=0&timestamp={since}"
    taken = api("GET", poll)[1]
    at = f"{path}/command/{made['id']}"
    await until(lambda: api("GET", at)[1]["status"] == "Expired")
    assert [c["status"] for c in taken] in (["new"], [])  # a slow machine may have read too late
    assert api("GET", poll) == (200, [])
    assert [c["id"] for c in api("GET", f"{path}/command?status=Expired")[1]] == [made["id"]]
    assert api("GET", f"{path}/command?status=new") == (200, [])
    pushed: list[Any] = []
    session = await Session.open(suite.ws, api.token, pushed.append)
    await session.ask({"action": "command/subscribe", "timestamp": since})
    await session.ask({"action": "command/subscribe", "timestamp": since, "returnUpdatedCommands": True})
    assert api("PUT", at, {"result": {"late": True}}) == (204, None)
    assert api("GET", at)[1]["status"] == "new"
    await until(lambda: pushed)
    assert [(p["action"], p["command"]["id"]) for p in pushed] == [("command/update", made["id"])]
    await session.close()


# -- text ------------------------------------------------------------------------------------------------------------


async def test_no_text_is_too_odd(suite, world):
    """400 for what PostgreSQL can't hold, on either message store; what stays JSON keeps it."""
    device, bad = world.device("own"), refusal(400, "Invalid request parameters")
    path, admin = f"device/{device}", world.admin
    for method, at, sent in (
        ("PUT", path, {"name": "a\0b"}),
        ("PUT", path, {"name": "\ud800"}),
        ("POST", f"{path}/notification", {"notification": "a\0b"}),
        ("POST", f"{path}/command", {"command": "c", "status": "\0"}),
        ("POST", f"{path}/command", {"command": "\udc00"}),
        ("GET", f"{path}/notification?notification=%00", None),
        ("GET", f"{path}/notification/poll?waitTimeout=0&timestamp=0&names=a,%00", None),
        ("GET", f"{path}/notification?notification=%ED%A0%80", None),
        ("POST", "network", {"name": "\0"}),
        ("POST", "user", {"login": "lo\0gin", "password": PASSWORD, "role": 1}),
        ("PUT", "configuration/a%00b", {"value": "x"}),
        ("PUT", "configuration/x", {"value": "\0"}),
        ("GET", "device?namePattern=%00%25", None),
    ):
        assert admin(method, at, sent) == bad, (method, at, sent)
    assert admin("GET", "configuration/a%00b") == (404, None)
    assert admin("GET", f"device/{device}%00")[0] == 404
    parameters = {"\0": "\0\u202e😀", "__proto__": {"a": "\\u0000"}}
    status, made = admin("POST", f"{path}/notification", {"notification": "\u202e😀", "parameters": parameters})
    assert status == 201
    assert admin("GET", f"{path}/notification/{made['id']}")[1]["parameters"] == parameters
    session = await Session.open(suite.ws, suite.token())
    for request in (
        {"action": "notification/list", "deviceId": device, "names": ["\0"]},
        {"action": "notification/subscribe", "deviceId": device, "names": ["\0"], "timestamp": 0},
        {"action": "command/list", "deviceId": device, "status": "\0"},
    ):
        with pytest.raises(Refused, match=" 400 Malformed Json received"):
            await session.ask(request)
    far = {"action": "notification/list", "deviceIds": [device, world.device("foreign")], "skip": 2**63 - 1}
    assert (await session.ask(far))["notifications"] == []
    await session.close()


# -- users -----------------------------------------------------------------------------------------------------------


async def test_a_websocket_login_counts(suite, world):
    user = world.admin.new("user", login=f"seen-{world.mark}", password=PASSWORD, role=1)
    assert world.admin("GET", f"user/{user}")[1]["lastLogin"] is None
    for _ in range(2):
        session = await Session.open(suite.ws, world.signed(user).token)
        await session.close()
        await until(lambda: world.admin("GET", f"user/{user}")[1]["lastLogin"])
    assert world.admin("DELETE", f"user/{user}") == (204, None)


def test_a_narrowed_administrator_becomes_no_more(world):
    boss = world.admin.new("user", login=f"boss-{world.mark}", password=PASSWORD, role=0)
    networked = world.signed(1, n=[str(world.own)])
    personnel = world.signed(1, a=[11, 12])
    admins_only = refusal(403, "Admin permissions required for this action")
    for narrow in (networked, personnel):
        assert narrow("POST", "user", {"login": f"x-{world.mark}", "password": PASSWORD, "role": 0}) == admins_only
        for change in ({"password": "taken-over"}, {"status": 2}, {"login": f"y-{world.mark}"}, {"data": {}}):
            assert narrow("PUT", f"user/{boss}", change) == DENIED
        assert narrow("PUT", "user/current", {"password": "taken-over"}) == DENIED
        assert narrow("PUT", f"user/{world.user}", {"role": 0}) == DENIED
        assert narrow("DELETE", f"user/{boss}") == DENIED
        assert narrow("PUT", "user/current", {"introReviewed": False}) == (204, None)
        assert narrow("PUT", f"user/{world.user}", {"password": PASSWORD}) == (204, None)
    assert world.admin("PUT", f"user/{world.user}/network/{world.foreign}") == (204, None)
    assert networked("PUT", f"user/{world.user}", {"password": "taken-over"}) == DENIED
    assert world.admin("DELETE", f"user/{boss}") == (204, None)


# -- polls -----------------------------------------------------------------------------------------------------------


def polls(suite: Suite) -> int:
    with urllib.request.urlopen(suite.rest.removesuffix("/api/rest") + "/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("skep_polls ")))


async def test_polls_are_bounded_and_end_with_their_client(suite, world):
    before, path = polls(suite), f"device/{world.device('own')}/notification/poll"
    port = int(suite.settings["FRONTEND_PORT"])
    request = (
        f"GET /api/rest/{path}?waitTimeout=60 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.client.token}\r\n\r\n"
    )
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(POLLS + 1)]
    try:
        for _, writer in connections[:POLLS]:
            writer.write(request.encode())
        await until(lambda: polls(suite) - before == POLLS, 15)
        reader, writer = connections[POLLS]
        writer.write(request.encode())
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WITHIN)).decode()
        assert head.startswith("HTTP/1.1 429 ")
        assert "Retry-After: 1\r\n" in head
        assert json.loads(await asyncio.wait_for(reader.readuntil(b"}"), WITHIN))["error"] == 429
        assert world.admin("GET", f"{path}?waitTimeout=0") == (200, [])  # others have their own
    finally:
        began = time.monotonic()
        for _, writer in connections:
            writer.close()
    await until(lambda: polls(suite) == before)
    assert time.monotonic() - began < 3
    for _, writer in connections:
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
