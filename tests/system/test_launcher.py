"""The launcher as a person uses it: it answers, it repairs, it leaves nothing behind, it says what is wrong."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy import ports, process
from tests.system.suite import ROOT, Suite

pytestmark = pytest.mark.system


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that outlives a suite."""
    made = Suite("light")
    yield made.data
    made.erase()


def until(happened: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def refused(**environ: str) -> str:
    """What a launcher that does not start says: one line, exit code 1."""
    with tempfile.TemporaryDirectory() as data:
        free = dict(zip(("FRONTEND_PORT", "AUTH_PORT", "PROXY_PORT"), map(str, ports.free(3)), strict=True))
        done = subprocess.run(
            [sys.executable, "-m", "deploy.local"], cwd=ROOT, capture_output=True, text=True, timeout=60,
            env={"PATH": os.environ["PATH"], "SKEP_DATA": data, "MQTT": "false"} | free | environ,
        )  # fmt: skip
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def answers(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/info", timeout=5) as answer:
        return answer.status == 200


async def test_it_runs_repairs_and_stops(folder: Path) -> None:
    suite = Suite("light", data=folder)
    suite.start()
    try:
        assert answers(suite.rest)
        assert answers(suite.auth)
        for url in (suite.rest, suite.ws, suite.auth):
            assert url in suite.output
        await suite.kill("frontend")
        assert "frontend (process" in suite.output
        assert "was ended by SIGKILL; starting it again" in suite.output
        assert answers(suite.rest)
        call(suite, "PUT", "device/kept", b'{"name":"kept"}')
        pids = suite.pids()
        # Ctrl-C while one stands still.
        suite.pause("backend")
        assert suite.stop() < 5
        assert [name for name, pid in pids.items() if process.alive(pid)] == []
        assert list((folder / "pids").iterdir()) == []
        suite.start()
        assert b'"kept"' in call(suite, "GET", "device/kept")
        assert "made just now" not in suite.output
    finally:
        suite.stop()


def test_the_two_commands_it_prints_work(suite: Suite) -> None:
    shown = re.findall(r"^  ((?:TOKEN=|curl ).*)$", suite.output, re.MULTILINE)
    assert len(shown) == 2
    done = subprocess.run(["sh", "-ec", "\n".join(shown)], capture_output=True, text=True, timeout=20)
    assert '"id"' in done.stdout, done.stdout + done.stderr


def test_nothing_outlives_a_launcher_that_was_killed(folder: Path) -> None:
    suite = Suite("light", data=folder)
    suite.start()
    pids = suite.pids()
    assert {"postgres", "proxy", "backend", "auth", "frontend"} <= set(pids)
    suite.stop(signal.SIGKILL)
    until(lambda: not any(process.alive(pid) for pid in pids.values()))
    suite.start()
    try:
        assert answers(suite.rest)
    finally:
        suite.stop()


def test_a_second_one_on_the_same_data_is_refused(suite: Suite) -> None:
    assert "Skep runs already" in refused(SKEP_DATA=str(suite.data))


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert refused(AUTH_PORT=port) == f"skep: port {port} is in use; AUTH_PORT changes it"
        assert refused(MQTT="true", MQTT_PORT=port) == f"skep: port {port} is in use; MQTT_PORT changes it"


async def test_mqtt_is_on_unless_somebody_says_otherwise(folder: Path) -> None:
    """Its password is told to those who need it."""
    suite = Suite("light", data=folder)
    del suite.settings["MQTT"]
    suite.start()
    try:
        assert f"mqtt://127.0.0.1:{suite.settings['MQTT_PORT']}" in suite.output
        password = suite.secret("mqtt_bridge_password").encode()
        told = {name for name, pid in suite.pids().items() if password in Path(f"/proc/{pid}/environ").read_bytes()}
        assert told == {"mqtt-broker", "mqtt-bridge"}
        assert password.decode() not in suite.output
    finally:
        suite.stop()


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refused(SKEP_DATA=str(tmp_path / "file" / "data"))
    assert "can't be written: Not a directory; SKEP_DATA changes it" in line


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://skep:not-shown@127.0.0.1:1/skep", "Connection refused"),
        ("nonsense", "missing"),
    ],
)
def test_a_wrong_database_url(url: str, reason: str) -> None:
    line = refused(DATABASE_URL=url)
    assert line.startswith("skep: DATABASE_URL can't be used: ")
    assert reason in line
    assert "not-shown" not in line


def test_a_wrong_password_for_the_database(postgres_url: str) -> None:
    line = refused(DATABASE_URL=re.sub(r"//skep:[^@]*@", "//skep:not-shown@", postgres_url))
    assert "password authentication failed" in line
    assert "not-shown" not in line


def test_the_known_password_stays_at_home() -> None:
    assert "HOST=0.0.0.0 is refused" in refused(HOST="0.0.0.0")


def test_the_known_password_of_an_earlier_run_stays_at_home(postgres_url: str) -> None:
    """The admin was made with the published password: another SKEP_ADMIN_PASSWORD now changes nothing about it."""
    environ = {**os.environ, "DATABASE_URL": postgres_url, "SKEP_PROFILE": "development"}
    for command in ("migrate", "admin"):
        subprocess.run([sys.executable, "-m", "skep.metadata", command], cwd=ROOT, env=environ, check=True)
    line = refused(DATABASE_URL=postgres_url, HOST="0.0.0.0", SKEP_ADMIN_PASSWORD="another one")
    assert "the admin still has the published password" in line


def call(suite: Suite, method: str, path: str, body: bytes | None = None) -> bytes:
    headers = {"Authorization": f"Bearer {suite.token()}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{suite.rest}/{path}", body, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


@pytest.mark.skipif(os.geteuid() != 0, reason="the database lies inside the data folder")
def test_a_data_folder_that_was_deleted(folder: Path) -> None:
    """As root the database lies elsewhere and outlives the folder: one line says what to delete."""
    suite = Suite("light", folder)
    suite.start()
    suite.stop()
    shutil.rmtree(folder)
    line = refused(SKEP_DATA=str(folder))
    assert re.search(r"belongs to a data folder that was deleted, .*to begin anew: rm -r /var/lib/skep/\w+$", line)
