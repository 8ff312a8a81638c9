"""What core decides about networks, device types, users and configuration, over the WebSocket session."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from frontend.core.actions import table
from tests.cases import entities, websocket
from tests.unit.frontend.fakes import Frontend, settled


@pytest.fixture
async def frontend() -> AsyncIterator[Frontend]:
    async with Frontend() as made:
        yield made


async def ask(frontend: Frontend, who: str | None, text: str) -> object:
    session, outlet = frontend.session()
    if who is not None:
        await session.authenticate(who)
    session.receive(text.encode())
    await settled()
    (reply,) = outlet.take()
    return reply


@pytest.mark.parametrize("case", entities.CASES, ids=lambda case: case.name)
async def test_case(frontend: Frontend, case: websocket.Case) -> None:
    reply = await ask(frontend, case.who, case.sent)
    assert websocket.matches(case.reply, reply), reply


@pytest.mark.parametrize("name", [n for n in table.names() if n.split("/")[0] in ("network", "devicetype", "user")])
async def test_the_permission_comes_before_the_parameters(frontend: Frontend, name: str) -> None:
    entry = table.find(name)
    assert entry is not None
    assert len(entry.permissions) == 1
    wrong = entities.sent(name, userId="x", networkId="x", user=7)
    for who, reply in ((None, (401, "Unauthorized")), ("nothing", (403, "Access is denied"))):
        assert await ask(frontend, who, wrong) == websocket.failed(name, *reply)


@pytest.mark.parametrize("prefix", ["network", "devicetype", "user"])
async def test_lists_take_20(frontend: Frontend, prefix: str) -> None:
    repository = {
        "network": frontend.networks,
        "devicetype": frontend.device_types,
        "user": frontend.users,
    }[prefix]
    await ask(frontend, "admin", entities.sent(f"{prefix}/list"))
    await ask(frontend, "admin", entities.sent(f"{prefix}/list", take=0, skip=3, sortField="id", sortOrder="desc"))
    assert [page[-4:] for page in repository.pages] == [(None, False, 20, 0), ("id", True, 0, 3)]


async def test_no_mass_assignment(frontend: Frontend) -> None:
    """Of himself a client changes nothing but password, data and introReviewed, whatever else is sent."""
    before = frontend.users.rows[2]
    body = {"id": 1, "allDeviceTypesAvailable": False, "loginAttempts": 9, "lastLogin": 5, "passwordHash": "x"}
    update = entities.sent("user/updateCurrent", user=body | {"introReviewed": True, "password": "changed"})
    reply = await ask(frontend, "client", update)
    assert reply == websocket.done("user/updateCurrent")
    after = frontend.users.rows[2]
    assert after.intro_reviewed
    assert after.password_hash == "hash of changed"
    assert (after.id, after.all_device_types, after.login_attempts, after.data) == (
        before.id,
        before.all_device_types,
        before.login_attempts,
        before.data,
    )
    await ask(frontend, "client", entities.sent("user/updateCurrent", user={"data": None, "password": ""}))
    assert (frontend.users.rows[2].data, frontend.users.rows[2].password_hash) == (None, "hash of changed")


async def test_a_client_of_some_types_makes_no_user_of_all_types(frontend: Frontend) -> None:
    new = entities.NEW | {"allDeviceTypesAvailable": True}
    assert (await ask(frontend, "typed", entities.sent("user/insert", user=new)))["code"] == 403  # type: ignore[index]
    new |= {"allDeviceTypesAvailable": False}
    assert (await ask(frontend, "typed", entities.sent("user/insert", user=new)))["status"] == "success"  # type: ignore[index]
    assert not frontend.users.rows[4].all_device_types


async def test_a_refusal_is_checked_against_rights_as_of_now(frontend: Frontend) -> None:
    session, outlet = await frontend.client("client")
    frontend.caches.users[2] = entities.member(1, 2)
    session.receive(entities.sent("network/get", networkId=2).encode())
    await settled()
    assert outlet.take()[0]["network"]["id"] == 2
