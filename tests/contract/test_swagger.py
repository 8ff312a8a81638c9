"""`/api/swagger` over a real socket, and the documents as the packaged Swagger UI is shown them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_30

from auth.api import rest as auth_rest
from frontend.api import rest, swagger
from skep import settings, web
from skep.access import Principal
from skep.errors import Unauthorized
from skep.web import openapi
from tests.engines import missing

DOCUMENTS = (
    "/api/rest/openapi.json",
    ":8090/auth/rest/openapi.json",
    "https://elsewhere.example/plugin/rest/openapi.json",
)


async def nobody(token: str) -> Principal:
    raise Unauthorized


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = web.Server([], "/api/rest", settings.Edge(), nobody, extra_handlers=swagger.handlers("/api", DOCUMENTS))
    yield server.listen(0)
    await server.close()


async def get(port: int, path: str, host: str = "here:8080", method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}, body


async def test_the_page(port: int) -> None:
    status, headers, body = await get(port, "/api/swagger")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " connect-src 'self' http://here:8090 https://elsewhere.example;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert b"//" not in body.replace(b"<!doctype html>", b"")  # nothing comes from elsewhere
    for name in [part.split(b'"')[0].decode() for part in body.split(b'"swagger/')[1:]]:
        status, headers, content = await get(port, f"/api/swagger/{name}")
        assert (status, headers["content-type"]) == (200, swagger.FILES[name][1])
        assert len(content) > 100
    status, headers, _ = await get(port, "/api/swagger/")
    assert (status, headers["location"]) == (302, "../swagger")
    status, headers, body = await get(port, "/api/swagger", method="HEAD")
    assert (status, body) == (200, b"")


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("here:8080", "http://here:8090"),
        ("here", "http://here:8090"),
        ("127.0.0.1:1", "http://127.0.0.1:8090"),
        ("[::1]:8080", "http://[::1]:8090"),
        ("*:80", "http://localhost:8090"),
        ("a;script-src:80", "http://localhost:8090"),
    ],
)
async def test_the_documents(port: int, host: str, origin: str) -> None:
    status, headers, body = await get(port, "/api/swagger/documents.json", host)
    assert status == 200
    assert json.loads(body) == [
        {"url": "/api/rest/openapi.json", "name": "/api/rest"},
        {"url": f"{origin}/auth/rest/openapi.json", "name": "/auth/rest"},
        {"url": "https://elsewhere.example/plugin/rest/openapi.json", "name": "/plugin/rest"},
    ]
    assert f"connect-src 'self' {origin} https://elsewhere.example;" in headers["content-security-policy"]


@pytest.mark.parametrize(
    "name",
    [
        "nope.js",
        "../rest.py",
        "..%2f__init__.py",
        "%2e%2e/upgrade.py",
        "__init__.py",
        "/etc/passwd",
        "swagger-ui.css/",
        "a%00b",
    ],
)
async def test_nothing_else(port: int, name: str) -> None:
    status, headers, body = await get(port, f"/api/swagger/{name}")
    assert status in (302, 404)
    assert headers["x-content-type-options"] == "nosniff"
    assert b"import" not in body


def test_the_documents_as_they_are_shown(tmp_path: Path) -> None:
    """Swagger UI 4 knows OpenAPI 3.0: what its page makes of ours is valid 3.0."""
    script = Path(swagger.__file__).parent / "initializer.js"
    for prefix, routes in (("/api/rest", rest.routes), ("/auth/rest", web.collect(auth_rest))):
        given = tmp_path / "given.json"
        given.write_bytes(web.json.encode(openapi.document(routes, prefix)))
        code = f"console.log(JSON.stringify(require({str(script)!r}).older(require({str(given)!r}))))"
        try:
            done = subprocess.run(["node", "-e", code], capture_output=True, text=True, timeout=30)
        except FileNotFoundError:
            missing("Swagger UI's documents", "there is no node")
        assert done.returncode == 0, done.stderr
        shown = json.loads(done.stdout)
        assert [str(error) for error in jsonschema_rs.validator_for(OPENAPI_30).iter_errors(shown)] == []
        assert not any(isinstance(kind, list) for kind in _types(shown))
        assert shown["paths"].keys() == openapi.document(routes, prefix)["paths"].keys()


def _types(part: object) -> list[object]:
    if isinstance(part, list):
        return [found for item in part for found in _types(item)]
    if not isinstance(part, dict):
        return []
    own = [part["type"]] if "type" in part else []
    return own + [found for item in part.values() for found in _types(item)]
