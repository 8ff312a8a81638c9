from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from frontend.api.calls import Calls
from skep import errors
from skep.wire import messages
from skep.wire.messages import ApiCall
from tests.unit.frontend.fakes import Frontend


@pytest.fixture
async def frontend() -> AsyncIterator[Frontend]:
    async with Frontend() as made:
        yield made


async def asked(frontend: Frontend, token: str, **request: object) -> dict[str, Any]:
    calls = Calls(frontend.services, "http://here/api/rest")
    call = ApiCall(token, "127.0.0.1", json.dumps(request).encode())
    reply: dict[str, Any] = json.loads(await calls.answer(messages.encode(call)))
    return reply


async def test_an_action_with_the_callers_rights(frontend: Frontend) -> None:
    body = {"deviceId": "mine", "notification": {"notification": "n"}}
    reply = await asked(frontend, "client", action="notification/insert", requestId=7, **body)
    assert reply["status"] == "success"
    assert (reply["action"], reply["requestId"]) == ("notification/insert", 7)
    foreign = await asked(frontend, "narrow", action="device/get", deviceId="other")
    assert (foreign["status"], foreign["code"]) == ("error", 403)


@pytest.mark.parametrize("token", ["", "unknown"])
async def test_nobody_may_only_what_is_public(frontend: Frontend, token: str) -> None:
    assert (await asked(frontend, token, action="server/info"))["info"]["restServerUrl"] == "http://here/api/rest"
    refused = await asked(frontend, token, action="device/get", deviceId="mine")
    assert refused == {
        "action": "device/get",
        "requestId": None,
        "code": 401,
        "status": "error",
        "error": "Unauthorized",
    }


async def test_no_json(frontend: Frontend) -> None:
    calls = Calls(frontend.services, "")
    reply = json.loads(await calls.answer(messages.encode(ApiCall("", "", b"{"))))
    assert reply == {"code": 400, "status": "error", "error": "Malformed Json received."}


async def test_nothing_of_a_session_is_left(frontend: Frontend) -> None:
    reply = await asked(frontend, "client", action="notification/subscribe", deviceId="mine")
    assert reply["status"] == "success"
    assert not len(frontend.services.registry)
    assert not len(frontend.identities)


async def test_rights_that_cannot_be_read(frontend: Frontend) -> None:
    async def away(token: str) -> Any:
        raise errors.Unavailable

    frontend.identities._authenticate = away
    with pytest.raises(errors.Unavailable):
        await asked(frontend, "client", action="device/get", deviceId="mine")
