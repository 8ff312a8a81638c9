"""Fixtures of the system tests.

suite          (session, once for each engine set)  a running Suite that tests share; they leave it as they found it
private_suite  (test, once for each engine set)     one of its own, for tests that spoil it
npm            (session)  the path of `node`, with the packages of clients/npm installed from their lock
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import missing
from tests.system.suite import Suite

NPM = Path(__file__).parent / "clients" / "npm"
ENGINE_SETS = ["light", "full"]


def running(engines: str, request: pytest.FixtureRequest) -> Iterator[Suite]:
    if engines == "full":
        request.getfixturevalue("java_engines")
    suite = Suite(engines)
    suite.start()
    try:
        yield suite
    finally:
        suite.stop()


@pytest.fixture(scope="session", params=ENGINE_SETS)
def suite(request: pytest.FixtureRequest) -> Iterator[Suite]:
    yield from running(request.param, request)


@pytest.fixture(params=ENGINE_SETS)
def private_suite(request: pytest.FixtureRequest) -> Iterator[Suite]:
    yield from running(request.param, request)


@pytest.fixture(scope="session")
def npm() -> str:
    node, installer = shutil.which("node"), shutil.which("npm")
    if node is None or installer is None:
        missing("Node.js", "there is no node or no npm")
    # `npm ci` empties the folder first: only where the lock is newer than what it put there.
    done, lock = NPM / "node_modules" / ".package-lock.json", NPM / "package-lock.json"
    if not done.exists() or done.stat().st_mtime < lock.stat().st_mtime:
        command = [installer, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        outcome = subprocess.run(command, cwd=NPM, capture_output=True, text=True, timeout=300)
        if outcome.returncode != 0:
            missing("the npm client", outcome.stderr.strip().splitlines()[-1])
    return node
