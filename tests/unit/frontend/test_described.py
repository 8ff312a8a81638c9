"""docs/protocols/websocket.md is true: examples are read, and every success answers what its action declares."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import jsonschema_rs
import pytest

from deploy import websocket_page
from frontend.core.actions import table
from skep.web import schemas
from skep.wire.messages import COMMAND
from tests.cases import entities, websocket
from tests.unit.frontend.fakes import Frontend, command, notification, settled

ENVELOPE = {"action", "requestId", "status"}
MORE = [
    ("authenticate", {"token": "admin"}),
    ("command/get", {"deviceId": "mine", "commandId": 7}),
    ("command/list", {"deviceId": "mine"}),
    ("command/subscribe", {"deviceId": "mine"}),
    ("command/unsubscribe", {}),
    ("command/update", {"deviceId": "mine", "commandId": 7, "command": {"status": "done"}}),
    ("device/count", {}),
    ("device/delete", {"deviceId": "mine"}),
    ("device/list", {}),
    ("device/save", {"deviceId": "mine", "device": {"name": "Mine"}}),
    ("notification/get", {"deviceId": "mine", "notificationId": 5}),
    ("notification/list", {"deviceId": "mine"}),
    ("notification/subscribe", {"names": ["n"], "networkIds": [1], "timestamp": 1}),
    ("notification/unsubscribe", {}),
    ("server/cacheInfo", {}),
    ("token", {"login": "admin", "password": "right"}),
    ("token/create", {"payload": {"userId": 1}}),
    ("token/refresh", {"refreshToken": "good"}),
]
"""Successes that no wire case has."""
CASES = (
    *(case for case in (*entities.CASES, *websocket.CASES) if case.reply.get("status") == "success"),
    *(
        websocket.Case(name, "admin", json.dumps({"action": name, "requestId": 1, **fields}), websocket.done(name))
        for name, fields in MORE
    ),
)
ELSEWHERE = {"plugin/count", "plugin/list", "plugin/get", "plugin/insert", "plugin/update", "plugin/delete"}
"""Their answers are plugin_manager's: tests/system."""


@pytest.fixture
async def frontend() -> AsyncIterator[Frontend]:
    async with Frontend() as made:
        yield made


def validator(kind: Any) -> jsonschema_rs.Validator:
    (schema,), components = schemas.answers([kind])
    return jsonschema_rs.validator_for(schema | {"components": {"schemas": components}})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_success_answers_what_its_action_declares(frontend: Frontend, case: websocket.Case) -> None:
    frontend.bus.stored = [notification(0, 5), command(1, 7, COMMAND)]
    session, outlet = frontend.session()
    if case.who is not None:
        await session.authenticate(case.who)
    session.receive(case.sent.encode())
    await settled()
    reply = outlet.take()[0]
    assert reply["status"] == "success", reply
    entry = table.find(reply["action"])
    assert entry is not None
    assert set(reply) - ENVELOPE == set(entry.answers)
    for name, kind in entry.answers.items():
        assert [str(error) for error in validator(kind).iter_errors(reply[name])] == []


async def test_subscriptions_and_pushes(frontend: Frontend) -> None:
    frontend.bus.stored = [notification(0, 5)]
    session, outlet = await frontend.client("admin")
    for action in ("notification/subscribe", "command/subscribe"):
        session.receive(json.dumps({"action": action, "timestamp": 1, "names": ["n", "c"]}).encode())
    session.receive(b'{"action":"subscription/list"}')
    await settled()
    frontend.live(command(1, 7, COMMAND))
    await settled()
    said = {message["action"]: message for message in outlet.take()}
    view = websocket_page.table.find("subscription/list").answers["subscriptions"]  # type: ignore[union-attr]
    assert [str(error) for error in validator(view).iter_errors(said["subscription/list"]["subscriptions"])] == []
    for action in ("notification/insert", "command/insert"):
        key, kind, _ = websocket_page.OPERATIONS[action]
        assert set(said[action]) == {"action", "subscriptionId", key}
        assert [str(error) for error in validator(kind).iter_errors(said[action][key])] == []


def test_every_action_is_among_them() -> None:
    assert {case.reply["action"] for case in CASES} == set(table.names()) - ELSEWHERE


@pytest.mark.parametrize("entry", table.entries(), ids=lambda entry: entry.name)
def test_examples_are_read(entry: table.Entry) -> None:
    example = json.dumps(websocket_page.example_request(entry)).encode()
    assert isinstance(table.decode(example), entry.kind)
    assert isinstance(entry.lenient.decode(example), entry.kind)
