"""The auth service as a process, with PostgreSQL and a proxy: over REST and over the bus."""

import asyncio
import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy import ports
from skep import access, tokens
from skep.bus import Bus, Failed
from skep.metadata import Metadata, admin, passwords, rows, schema
from skep.tokens import Claims, Keys
from skep.wire import messages, topics

ROOT = Path(__file__).parents[2]
BUS_SECRET, JWT_SECRET = "bus" * 11, "jwt" * 11
KEYS = Keys.parse(JWT_SECRET)
PASSWORD = "the password of a test"
SALT = "abcdefghijklmnopqrstuvwx"

decoded = msgspec.msgpack.Decoder(messages.Tokens).decode


@contextmanager
def process(module: str, environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    ready, log = folder / f"{module}.ready", folder / f"{module}.log"
    with log.open("wb") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env={**os.environ, **environment, "READY_FILE": str(ready)},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert started.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield started
        started.send_signal(signal.SIGTERM)
        assert started.wait(10) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
        assert PASSWORD not in log.read_text()
        assert "eyJ" not in log.read_text()
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()


async def prepare(url: str) -> None:
    metadata = Metadata(url)
    await metadata.start()
    await schema.migrate(url)
    await admin.create(metadata.database, PASSWORD)
    old = base64.b64encode(hashlib.sha256((SALT + PASSWORD).encode()).digest()).decode()
    for login, stored in (("taken.over", f"sha256${SALT}${old}"), ("client", passwords.hashed(PASSWORD))):
        user = await metadata.users.insert(rows.NewUser(login, stored, rows.CLIENT))
        await metadata.users.assign_network(user.id, 1)
    await metadata.stop()


class Service(msgspec.Struct):
    url: str
    bus_url: str
    database_url: str

    async def post(self, path: str, body: Any, token: str = "", address: str = "127.0.0.1") -> tuple[int, Any]:
        headers = {"X-Forwarded-For": address, **({"Authorization": f"Bearer {token}"} if token else {})}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method="POST")
        return await asyncio.to_thread(_send, request)

    async def login(self, login: str, password: str = PASSWORD, address: str = "127.0.0.1") -> tuple[int, Any]:
        return await self.post("/token", {"login": login, "password": password}, address=address)


def _send(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            body = error.read()
            return error.code, json.loads(body)["message"] if body else ""


@pytest.fixture(scope="module")
def service(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    asyncio.run(prepare(postgres_url))
    folder = tmp_path_factory.mktemp("auth")
    proxy_port, port = ports.free(2)
    environment = {
        "SKEP_PROFILE": "development",
        "DATABASE_URL": postgres_url,
        "BUS_SECRET": BUS_SECRET,
        "JWT_SECRET": JWT_SECRET,
        "BUS_URLS": f"ws://127.0.0.1:{proxy_port}",
        "PROXY_PORT": str(proxy_port),
        "AUTH_PORT": str(port),
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    with (
        process("ws_kafka_proxy", environment, folder),
        process("auth", environment, folder),
    ):
        yield Service(f"http://127.0.0.1:{port}/auth/rest", f"ws://127.0.0.1:{proxy_port}", postgres_url)


@pytest.fixture
async def bus(service: Service) -> AsyncIterator[Bus]:
    made = Bus([service.bus_url], "frontend", "frontend-1", BUS_SECRET)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def metadata(service: Service) -> AsyncIterator[Metadata]:
    made = Metadata(service.database_url)
    await made.start()
    yield made
    await made.stop()


def claims(token: str) -> Claims:
    return tokens.verify(token, KEYS)


async def test_login_refresh_create(service: Service, metadata: Metadata) -> None:
    status, pair = await service.login("dhadmin")
    assert (status, set(pair)) == (201, {"accessToken", "refreshToken"})
    assert claims(pair["accessToken"]).actions == [0]
    user = await metadata.users.get(1)
    assert user is not None
    assert user.last_login is not None
    assert abs(user.last_login - time.time() * 1000) < 10_000

    status, fresh = await service.post("/token/refresh", {"refreshToken": pair["refreshToken"]})
    assert (status, set(fresh)) == (201, {"accessToken"})

    wanted = {"userId": 1, "actions": [0], "networkIds": ["*"], "deviceTypeIds": ["*"]}
    status, made = await service.post("/token/create", wanted, fresh["accessToken"])
    assert (status, set(made)) == (201, {"accessToken", "refreshToken"})


async def test_refusals(service: Service) -> None:
    assert (
        await service.login("dhadmin", "wrong")
        == await service.login("nobody", "wrong")
        == (401, "Invalid credentials")
    )
    assert await service.post("/token/create", {"userId": 1}) == (401, "Unauthorized")
    assert await service.post("/token/refresh", {"refreshToken": "x"}) == (401, "")
    assert await service.post("/token", b"[" * 10_000) == (400, "Invalid request parameters")
    assert await service.login("", "") == (400, "Invalid or empty authorization request parameters")


async def test_a_client_escalates_nowhere(service: Service) -> None:
    token = (await service.login("client"))[1]["accessToken"]
    own = claims(token)
    body: dict[str, Any] = {"userId": own.user_id, "actions": own.actions, "networkIds": ["*"], "deviceTypeIds": ["*"]}
    status, made = await service.post("/token/create", body, token)
    assert status == 201
    assert claims(made["accessToken"]).networks == ["1"]
    for worse in ({"userId": 1, "actions": ["*"], "networkIds": ["*"]}, {**body, "actions": ["ManageUser"]}):
        assert await service.post("/token/create", worse, token) == (403, "Access is denied")


async def test_a_hash_taken_over_is_replaced_at_the_first_login(service: Service, metadata: Metadata) -> None:
    assert (await service.login("taken.over"))[0] == 201
    user = await metadata.users.by_login("taken.over")
    assert user is not None
    assert user.password_hash.startswith("$argon2id$")
    assert (await service.login("taken.over"))[0] == 201


async def test_brute_force_locks_out_nobody_else(service: Service) -> None:
    answers = [(await service.login("dhadmin", "x", "6.6.6.6"))[0] for _ in range(12)]
    assert answers == [401] * 10 + [429] * 2
    assert (await service.login("dhadmin", address="6.6.6.6"))[0] == 429
    assert (await service.login("dhadmin", address="7.7.7.7"))[0] == 201


async def test_over_the_bus(bus: Bus) -> None:
    async def ask(request: messages.AuthRequest) -> messages.Tokens:
        return decoded(await bus.request(topics.AUTH_REQUESTS, request))

    pair = await ask(messages.Login("dhadmin", PASSWORD, "5.5.5.5"))
    fresh = await ask(messages.Refresh(pair.refresh_token))
    assert fresh.refresh_token == ""
    made = await ask(messages.CreateToken(fresh.access_token, b'{"userId": 1, "actions": ["GetDevice"]}'))
    assert claims(made.access_token).actions == [3]


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (messages.Login("dhadmin", "x", "5.5.5.5"), 401, "Invalid credentials"),
        (messages.Login("", "x", "5.5.5.5"), 400, "Invalid or empty authorization request parameters"),
        (messages.Refresh("x"), 401, ""),
        (messages.CreateToken("x", b"{}"), 401, "Unauthorized"),
        (
            messages.CreateToken(tokens.encode(Claims(1, [0], ["*"], ["*"], 2**52), KEYS), b"[" * 999),
            400,
            "Invalid request parameters",
        ),
        (
            messages.CreateToken(tokens.encode(Claims(1, [3], ["*"], ["*"], 2**52), KEYS), b"{}"),
            403,
            "Access is denied",
        ),
    ],
)
async def test_refusals_over_the_bus(bus: Bus, request_: messages.AuthRequest, code: int, text: str) -> None:
    with pytest.raises(Failed) as error:
        await bus.request(topics.AUTH_REQUESTS, request_)
    assert (error.value.code, error.value.message) == (code, text)


async def test_the_asker_is_told_when_to_try_again(bus: Bus) -> None:
    for _ in range(10):
        with pytest.raises(Failed, match="Invalid credentials"):
            await bus.request(topics.AUTH_REQUESTS, messages.Login("nobody", "x", "8.8.8.8"))
    with pytest.raises(Failed) as error:
        await bus.request(topics.AUTH_REQUESTS, messages.Login("nobody", "x", "8.8.8.8"))
    assert error.value.code == 429
    assert 30 < (error.value.retry_after or 0) <= 60


async def test_a_disabled_user_is_out_at_once(service: Service, metadata: Metadata) -> None:
    pair = (await service.login("client"))[1]
    client = await metadata.users.by_login("client")
    principal = await _principal(metadata)
    assert client is not None
    await metadata.users.update(principal, client.id, rows.UserChanges(status=rows.DISABLED))
    try:
        assert await service.login("client") == (401, "User is locked or disabled")
        assert await service.post("/token/refresh", {"refreshToken": pair["refreshToken"]}) == (401, "")
    finally:
        await metadata.users.update(principal, client.id, rows.UserChanges(status=rows.ACTIVE))


async def _principal(metadata: Metadata) -> access.Principal:
    return access.principal(Claims(1, [0], ["*"], ["*"], 2**52), await metadata.users.rights(1), 0)


@pytest.mark.parametrize(
    ("name", "value"), [("JWT_SECRET", "devicehive"), ("BUS_SECRET", "short"), ("SKEP_ADMIN_PASSWORD", "dhadmin_#911")]
)
def test_production_refuses_to_start(name: str, value: str) -> None:
    safe = {"JWT_SECRET": JWT_SECRET, "BUS_SECRET": BUS_SECRET, "SKEP_PROFILE": "production", name: value}
    done = subprocess.run(
        [sys.executable, "-m", "auth"], cwd=ROOT, env={**os.environ, **safe}, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert name in done.stderr
    assert value not in done.stderr


def test_a_port_in_use_is_one_line(service: Service) -> None:
    port = service.url.split(":")[2].split("/")[0]
    environment = {
        "SKEP_PROFILE": "development",
        "DATABASE_URL": service.database_url,
        "BUS_SECRET": BUS_SECRET,
        "JWT_SECRET": JWT_SECRET,
        "BUS_URLS": service.bus_url,
        "AUTH_PORT": port,
        "INSTANCE": "auth-2",
    }
    done = subprocess.run(
        [sys.executable, "-m", "auth"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert f"auth: can't start: [Errno 98] port {port} is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "auth", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0
    assert "AUTH_PORT" in done.stdout
