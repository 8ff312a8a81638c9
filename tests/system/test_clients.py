"""The main job, done by existing clients, unchanged, on light and on full engines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parent / "clients"
pytestmark = pytest.mark.system


def run(command: list[str], cwd: Path) -> dict:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check(seen: dict, device_id: str, name: str) -> None:
    """Both messages arrived as sent, the command was answered, and its sender sees the answer."""
    assert seen["device"][:2] == [device_id, f"{name} {device_id}"]
    assert seen["device"][3:] == [1, False]
    notification = seen["notifications"][0]
    assert notification[0] in seen["sent"]
    assert notification[1:] == ["temperature", {"celsius": 21.5, "place": "Küche"}]
    assert set(seen["sent"]) & set(seen["listed_notifications"])
    command = seen["commands"][0]
    assert command[1:] == ["valve/open", {"position": 7}]
    assert seen["listed_command"] == [command[0], "done", {"position": 7}]


@pytest.mark.parametrize("transport", ["http", "websocket"])
def test_pypi_client(suite, transport):
    device_id = f"pypi-{transport}-{suite.engines}"
    url = suite.rest if transport == "http" else suite.ws
    script = CLIENTS / "pypi_roundtrip.py"
    seen = run([sys.executable, str(script), url, suite.login, suite.password, device_id], CLIENTS)
    check(seen, device_id, "pypi")
    assert seen["updates"] == [[seen["commands"][0][0], "done", {"position": 7}]]


@pytest.mark.parametrize("transport", ["http", "websocket"])
def test_npm_client(suite, npm, transport):
    device_id = f"npm-{transport}-{suite.engines}"
    url = suite.rest if transport == "http" else suite.ws
    arguments = [url, suite.auth, suite.login, suite.password, device_id]
    seen = run([npm, str(CLIENTS / "npm" / "roundtrip.js"), *arguments], CLIENTS / "npm")
    check(seen, device_id, "npm")
    assert seen["waited"] == [seen["commands"][0][0], "done"]
    assert seen["errors"] == []
