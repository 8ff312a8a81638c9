from __future__ import annotations

import json

import pytest

from frontend.core.rights import Rights
from skep import access
from skep.access import CLIENT_ACTIONS, User
from skep.metadata.rows import Device
from skep.tokens import Claims
from tests.unit.frontend.fakes import FAR, FakeCaches, Frontend, settled

BLOCKED = Device("mine", "Mine", None, 1, 1, True)
MESSAGES = [
    {"action": "notification/insert", "notification": {"notification": "n"}},
    {"action": "command/insert", "command": {"command": "c"}},
    {"action": "command/update", "commandId": 1, "command": {"status": "done"}},
    {"action": "notification/subscribe"},
    {"action": "command/subscribe"},
]
READS = [{"action": "device/get"}, {"action": "notification/list"}, {"action": "command/list"}]


@pytest.mark.parametrize(("compat", "actions"), [(True, CLIENT_ACTIONS), (False, frozenset())])
async def test_rights_read_again_are_of_the_same_profile(compat: bool, actions: frozenset[int]) -> None:
    caches = FakeCaches()
    caller = access.principal(Claims(2, [], ["*"], ["*"], FAR), caches.users[2], 0, compat)
    assert caller.actions == actions
    caches.users[2] = User(2, "client", 1, 0, frozenset({1, 2}))
    fresh = await Rights(caches, compat).fresh(caller)
    assert (fresh.actions, fresh.networks) == (actions, {1, 2})


async def ask(frontend: Frontend, token: str, request: dict[str, object]) -> tuple[int, str]:
    session, outlet = await frontend.client(token)
    session.receive(json.dumps({**request, "deviceId": "mine"}).encode())
    await settled()
    (reply,) = outlet.take()
    session.closed()
    return reply.get("code", 200), reply.get("error", "")


async def test_a_blocked_device_takes_no_part_in_messages() -> None:
    async with Frontend() as frontend:
        frontend.caches.devices["mine"] = BLOCKED
        for token in ("admin", "client"):
            for request in MESSAGES:
                assert await ask(frontend, token, request) == (403, "Device is blocked"), request
            for request in READS:
                assert (await ask(frontend, token, request))[0] == 200, request
        assert await ask(frontend, "client", {"action": "device/delete"}) == (403, "Device is blocked")
        assert (await ask(frontend, "admin", {"action": "device/delete"}))[0] == 200


async def test_a_device_known_as_blocked_is_looked_up_before_it_is_refused() -> None:
    async with Frontend() as frontend:
        frontend.caches.devices["mine"] = BLOCKED
        await ask(frontend, "admin", {"action": "device/get"})
        frontend.caches.asked.clear()
        await ask(frontend, "client", MESSAGES[0])
        assert ("mine", True) in frontend.caches.asked
