"""All that the unchanged PyPI and npm clients can do, over HTTP and WebSocket, on light and full engines.

The programs of `clients/` compare what comes back themselves and find by introspection what of a client they did not
use. What they may leave out, and what the clients do wrong by themselves, stands here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.system.suite import Suite
from tests.system.traffic import call

CLIENTS = Path(__file__).parent / "clients"
SECONDS = 180
TRANSPORTS = ["http", "websocket"]
pytestmark = pytest.mark.system

# What the library does over the other transport only.
PYPI_OTHER = {
    "http": ("transports.websocket_transport.",),
    "websocket": ("transports.http_transport.",),
}
NPM_OTHER = {
    "http": (),
    "websocket": (
        "transports/HTTP.",
        "controllers/transportResolvers/HttpApiResolver.",
        "utils/Utils.getLatestTimestamp",
    ),
}
# What has its place elsewhere, or none.
PYPI_UNUSED = {
    "api_request.AuthSubscriptionApiRequest.response_error_handler": "of polls whose token expires: test_client_faults",
}
NPM_UNUSED = {
    "models/Configuration(entityVersion)": "the model does not keep it",
    "models/Plugin(": "the client sends name, description and parameters by itself",
}
# Mistakes of the clients, which the programs show.
PYPI_FAULTS = {
    "device_type.DeviceType.list_devices": "asks for the network that has the device type's id and name",
}
NPM_FAULTS = {
    "http": {
        "models/Configuration(entityVersion)": "the model does not keep it",
        "subscriptions of updated commands over HTTP": "it polls on by `timestamp`, so an answer comes again and again",
    },
    "websocket": {
        "models/Configuration(entityVersion)": "the model does not keep it",
    },
}


class Programs:
    """All programs of both clients at the same time, each with a prefix of its own."""

    def __init__(self, suite: Suite, node: str, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        # One login for all: the programs shall not wait for each other's.
        pair = call("POST", f"{suite.auth}/token", {"login": suite.login, "password": suite.password})
        token = pair["refreshToken"]
        for transport, url in (("http", suite.rest), ("websocket", suite.ws)):
            prefix = f"{transport}-{suite.engines}"
            account = suite.login, suite.password, token
            self._start(f"pypi-{transport}", sys.executable, str(CLIENTS / "pypi"), url, *account, f"pypi-{prefix}")
            every = str(CLIENTS / "npm" / "every.js")
            self._start(
                f"npm-{transport}", node, every, url, suite.auth, suite.plugin_manager, *account, f"npm-{prefix}"
            )

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("wb") as out, (self.folder / f"{name}.err").open("wb") as err:
            self.running[name] = subprocess.Popen(command, cwd=CLIENTS, stdout=out, stderr=err)

    def seen(self, name: str) -> dict[str, list[str]]:
        code = self.running[name].wait(SECONDS)
        out, err = ((self.folder / f"{name}.{end}").read_text() for end in ("out", "err"))
        assert code == 0, out + err
        return json.loads(out.splitlines()[-1])

    def stop(self) -> None:
        for program in self.running.values():
            program.kill()
            program.wait()


@pytest.fixture(scope="module")
def programs(suite: Suite, npm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    started = Programs(suite, npm, tmp_path_factory.mktemp("programs"))
    yield started
    started.stop()


def check(seen: dict[str, list[str]], left_out: tuple[str, ...], faults: Iterable[str]) -> None:
    """left_out: beginnings of the names that may be unused, and must be, or the table is out of date."""
    assert seen["differences"] == []
    assert [name for name in seen["unused"] if not name.startswith(left_out)] == []
    assert [start for start in left_out if not any(name.startswith(start) for name in seen["unused"])] == []
    assert set(seen["faults"]) == set(faults)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_pypi_client(programs, transport):
    check(programs.seen(f"pypi-{transport}"), (*PYPI_OTHER[transport], *PYPI_UNUSED), PYPI_FAULTS)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_npm_client(programs, transport):
    check(programs.seen(f"npm-{transport}"), (*NPM_OTHER[transport], *NPM_UNUSED), NPM_FAULTS[transport])
