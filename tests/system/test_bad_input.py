"""Bad input gets the reference's error body and code; nothing crashes, nothing leaks."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.system.traffic import Session, call

pytestmark = pytest.mark.system
BIG = "x" * (2 << 20)
NESTED = '{"notification":"deep","parameters":' + '{"a":' * 10_000 + "1" + "}" * 10_000 + "}"


def refusal(method: str, url: str, body: bytes | None = None, token: str | None = None) -> tuple[int, dict]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=15)
    text = caught.value.read()
    assert b"Traceback" not in text
    return caught.value.code, json.loads(text)


def forged(payload: dict, secret: bytes = b"not the secret, but as long as one", header: dict | None = None) -> str:
    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part(header or {"alg": "HS256"}) + b"." + part({"payload": payload})
    mac = hmac.new(secret, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


ADMIN = {"u": 1, "a": [0], "n": ["*"], "dt": ["*"], "t": 1}


@pytest.fixture
def device(suite) -> str:
    name = f"bad-input-{suite.engines}"
    call("PUT", f"{suite.rest}/device/{name}", {"name": name}, suite.token())
    return name


def test_wrong_login(suite):
    body = json.dumps({"login": suite.login, "password": "not the password"}).encode()
    for base in (suite.auth, suite.rest):
        assert refusal("POST", f"{base}/token", body) == (401, {"error": 401, "message": "Invalid credentials"})


def test_no_token(suite):
    assert refusal("GET", f"{suite.rest}/device") == (401, {"error": 401, "message": "Unauthorized"})


def test_forged_token(suite):
    token = forged(ADMIN | {"e": int(time.time() * 1000) + 60_000})
    assert refusal("GET", f"{suite.rest}/device", token=token) == (401, {"error": 401, "message": "Unauthorized"})


def test_expired_token(suite):
    token = suite.sign(ADMIN | {"e": int(time.time() * 1000) - 60_000})
    assert refusal("GET", f"{suite.rest}/device", token=token) == (401, {"error": 401, "message": "Token expired"})


def test_malformed_json(suite, device):
    answer = refusal("POST", f"{suite.rest}/device/{device}/notification", b'{"notification": ', suite.token())
    assert answer == (400, {"error": 400, "message": "Invalid request parameters"})


def test_unknown_device(suite):
    expected = "Device with such deviceId = nowhere not found"
    for method, path, body in (
        ("GET", "device/nowhere", None),
        ("DELETE", "device/nowhere", None),
        ("POST", "device/nowhere/notification", b'{"notification":"n"}'),
        ("POST", "device/nowhere/command", b'{"command":"c"}'),
    ):
        assert refusal(method, f"{suite.rest}/{path}", body, suite.token()) == (
            404,
            {"error": 404, "message": expected},
        )


def test_a_foreign_networks_device(suite, device):
    """A token narrowed to another network is told the same as for a device that is not there."""
    token = suite.sign(ADMIN | {"n": ["4711"], "e": int(time.time() * 1000) + 60_000})
    denied = (403, {"error": 403, "message": "Access is denied"})
    for name in (device, "nowhere"):
        assert refusal("GET", f"{suite.rest}/device/{name}", token=token) == denied
        assert refusal("POST", f"{suite.rest}/device/{name}/notification", b'{"notification":"n"}', token) == denied
        assert refusal("GET", f"{suite.rest}/device/{name}/notification/poll?waitTimeout=0", token=token) == denied


def test_too_large_body(suite, device):
    body = json.dumps({"notification": "big", "parameters": {"x": BIG}}).encode()
    code, answer = refusal("POST", f"{suite.rest}/device/{device}/notification", body, suite.token())
    assert (code, answer["error"]) == (413, 413)


def test_nested_brackets(suite, device):
    code, answer = refusal("POST", f"{suite.rest}/device/{device}/notification", NESTED.encode(), suite.token())
    assert (code, answer["error"]) == (400, 400)


async def test_websocket_answers_bad_input_and_goes_on(suite, device):
    async with connect(suite.ws, compression=None) as socket:

        async def ask(text: str) -> dict:
            await socket.send(text)
            return json.loads(await asyncio.wait_for(socket.recv(), 10))

        malformed = {"code": 400, "status": "error", "error": "Malformed Json received."}
        for text in ("{", "[]", "7", '"x"', "\x00", NESTED):
            assert await ask(text) == malformed, text[:40]
        unknown = await ask('{"action":"device/explode","requestId":7}')
        assert unknown == {
            "action": "device/explode",
            "requestId": 7,
            "code": 400,
            "status": "error",
            "error": "Illegal argument: device/explode",
        }
        anonymous = await ask('{"action":"device/list","requestId":"r"}')
        assert (anonymous["code"], anonymous["error"]) == (401, "Unauthorized")
        forgery = forged(ADMIN | {"e": int(time.time() * 1000) + 60_000})
        wrong = await ask(json.dumps({"action": "authenticate", "token": forgery}))
        assert (wrong["code"], wrong["error"]) == (401, "Invalid credentials")
        expired = suite.sign(ADMIN | {"e": 1})
        late = await ask(json.dumps({"action": "authenticate", "token": expired}))
        assert (late["code"], late["error"]) == (401, "Token expired")
        assert (await ask(json.dumps({"action": "authenticate", "token": suite.token()})))["status"] == "success"
        missing = await ask('{"action":"device/get","deviceId":"nowhere"}')
        assert (missing["code"], missing["error"]) == (404, "Device with such deviceId = nowhere not found")
        nameless = await ask(json.dumps({"action": "notification/insert", "deviceId": device, "notification": {}}))
        assert nameless["code"] == 400


async def test_websocket_closes_a_too_large_message(suite, device):
    async with connect(suite.ws, compression=None, max_size=None) as socket:
        body = {"notification": "big", "parameters": {"x": BIG}}
        with contextlib.suppress(ConnectionClosed):
            await socket.send(json.dumps({"action": "notification/insert", "deviceId": device, "notification": body}))
        await asyncio.wait_for(socket.wait_closed(), 10)
        assert socket.close_code == 1009


async def test_nothing_crashed_and_nothing_leaked(suite, device):
    """After all of the above the same processes still do the main job, and no log holds a token or a password."""
    pushed: asyncio.Future[dict] = asyncio.get_running_loop().create_future()
    session = await Session.open(suite.ws, suite.token(), lambda m: pushed.done() or pushed.set_result(m))
    await session.ask({"action": "notification/subscribe", "deviceId": device})
    call("POST", f"{suite.rest}/device/{device}/notification", {"notification": "alive"}, suite.token())
    assert (await asyncio.wait_for(pushed, 10))["notification"]["notification"] == "alive"
    await session.close()
    logs = suite.logs()
    assert "Traceback" not in logs
    assert suite.password not in logs
    assert suite.token() not in logs
