"""The unchanged clients while their tokens expire and the frontend hangs or is started anew.

What they do not do, the programs do without. PyPI never forgets the first error and ends each later connection because
of it, so it connects again by itself only where a pong is late. Over WebSocket npm waits for an error with a code,
which its WebSocket package gives no more.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from tests.system.suite import Suite
from tests.system.traffic import call

CLIENTS = Path(__file__).parent / "clients"
SECONDS = 90
pytestmark = pytest.mark.system

# Mistakes of the client, which the programs show.
NPM_FAULTS = {
    "subscriptions once a token has expired over WebSocket": "it opens another socket and leaves them on the old one",
}

EXPIRED_POLLS = "api_request.AuthSubscriptionApiRequest.response_error_handler"
"""What `test_client_coverage` leaves to this test."""


class Program:
    """Says a line when it waits for something, goes on when it is told to, ends with a JSON object."""

    def __init__(self, process: Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, *command: str) -> Program:
        return cls(await asyncio.create_subprocess_exec(*command, cwd=CLIENTS, stdin=PIPE, stdout=PIPE, stderr=PIPE))

    async def line(self) -> str:
        async with asyncio.timeout(SECONDS):
            text = await self.process.stdout.readline()
        assert text, (await self.process.stderr.read()).decode()
        return text.decode()

    def go_on(self) -> None:
        self.process.stdin.write(b"\n")

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


async def all_say(programs: list[Program]) -> list[str]:
    return list(await asyncio.gather(*(program.line() for program in programs)))


def all_go_on(programs: list[Program]) -> None:
    for program in programs:
        program.go_on()


async def test_expiry_hang_and_restart(suite: Suite, npm: str) -> None:
    pair = call("POST", f"{suite.auth}/token", {"login": suite.login, "password": suite.password})
    programs = []
    try:
        for transport, url in (("http", suite.rest), ("websocket", suite.ws)):
            token, device_id = pair["refreshToken"], f"faults-{transport}-{suite.engines}"
            script = str(CLIENTS / "pypi" / "faults.py")
            programs.append(await Program.start(sys.executable, script, url, token, f"pypi-{device_id}"))
            script = str(CLIENTS / "npm" / "faults.js")
            programs.append(await Program.start(npm, script, url, suite.auth, token, f"npm-{device_id}"))
        await all_say(programs)
        async with suite.paused("frontend"):
            all_go_on(programs)
            await all_say(programs)
        all_go_on(programs)
        await all_say(programs)
        await suite.kill("frontend", signal.SIGTERM)
        all_go_on(programs)
        pypi_http, npm_http, pypi_ws, npm_ws = map(json.loads, await all_say(programs))
        assert [seen["differences"] for seen in (pypi_http, npm_http, pypi_ws, npm_ws)] == [[]] * 4
        assert not [name for name in pypi_http["unused"] if name.startswith(EXPIRED_POLLS)]
        assert [npm_http["faults"], npm_ws["faults"]] == [[], [*NPM_FAULTS]]
    finally:
        for program in programs:
            await program.stop()
