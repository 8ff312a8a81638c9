"""The OpenAPI documents are true: schemathesis with all checks on a suite of its own, as an administrator and a client.

SKEP_FUZZ_CASES (default 2000): at least so many test cases for an administrator, over all documents. The seeds are
fixed: 1, 2, 3, ...
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.system.conftest import running
from tests.system.suite import Suite
from tests.system.traffic import call

pytestmark = pytest.mark.system

CASES = int(os.environ.get("SKEP_FUZZ_CASES", "2000"))
FUZZING = Path(__file__).parent / "fuzzing"
PASSWORD = "of-the-fuzzing-1"
FIRST, FURTHER = 3, 60
"""Examples an operation in the first pass and in those for more cases."""
RANDOM = ("--phases", "fuzzing,stateful")


@dataclass
class World:
    """A suite with the accounts that schemathesis uses, and what it must leave alone."""

    suite: Suite
    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)
    callers: dict[str, dict[str, int]] = field(default_factory=dict)
    spared: dict[str, list[int]] = field(default_factory=lambda: {"user": [1], "network": [1], "devicetype": [1]})

    def account(self, name: str, role: int) -> None:
        """A user in a network of its own, and its token under that name."""
        ask = lambda method, path, body=None: call(method, f"{self.suite.rest}/{path}", body, self.suite.token())  # noqa: E731
        id = ask("POST", "user", {"login": f"fuzz-{name}", "password": PASSWORD, "role": role})["id"]
        network = ask("POST", "network", {"name": f"fuzz {name}"})["id"]
        ask("PUT", f"user/{id}/network/{network}")
        credentials = {"login": f"fuzz-{name}", "password": PASSWORD}
        self.tokens[name] = call("POST", f"{self.suite.auth}/token", credentials)["accessToken"]
        ask("PUT", f"device/fuzz-{name}", {"name": name, "networkId": network})
        self.spared["network"].append(network)
        self.spared["user"].append(id)
        self.callers[name] = {"id": id, "role": role}

    def run(self, document: str, who: str, seed: int, *options: str) -> int:
        """The number of cases. Fails with the report where there was a failure."""
        report = self.folder / f"{len(list(self.folder.glob('*.json')))}.json"
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", document),
            *("-H", f"Authorization: Bearer {self.tokens[who]}", "--seed", str(seed), "--no-color"),
            *("--report", "json", "--report-json-path", str(report), *options),
        ]
        environment = os.environ | {"SKEP_FUZZ": json.dumps(self.settings(who))}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
        outcome = json.loads(report.read_text())
        assert outcome["complete"], outcome
        assert not outcome["failures"], outcome["failures"]
        assert not outcome["errors"], outcome["errors"]
        return int(outcome["test_cases"]["generated"])

    def settings(self, who: str) -> dict[str, object]:
        return {
            "rest": self.suite.rest,
            "keeper": self.suite.token(),
            "caller": self.callers[who],
            "spared": self.spared,
        }


@pytest.fixture(scope="module", params=["light", "full"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    for suite in running(request.param, request):
        folder = tmp_path_factory.mktemp("fuzzing")  # for what schemathesis leaves behind, too
        for name in ("schemathesis.toml", "hooks.py"):
            shutil.copy(FUZZING / name, folder)
        made = World(suite, folder)
        for name, role in (("admin", 0), ("client", 1)):
            made.account(name, role)
        yield made


def documents(suite: Suite) -> list[str]:
    """Of the services that run."""
    roots = [suite.rest, suite.auth, f"http://127.0.0.1:{suite.settings['PLUGIN_MANAGER_PORT']}/plugin/rest"]
    return [f"{root}/openapi.json" for root in roots if "plugin" not in root or "plugin-manager" in suite.pids()]


def test_an_administrator(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    light, (api, *others) = world.suite.engines == "light", documents(world.suite)
    # The coverage phase tries every bound of every field once; what the others have, the frontend's document has too.
    cases = world.run(api, "admin", 1, "-n", str(FIRST), *(() if light else RANDOM))
    cases += sum(world.run(document, "admin", 1, "-n", str(FIRST), *RANDOM) for document in others)
    seed = 1
    while light and cases < CASES:
        seed += 1
        cases += sum(world.run(document, "admin", seed, "-n", str(FURTHER), *RANDOM) for document in (api, *others))
    with capsys.disabled():
        print(f" {cases} cases", end="")


def test_a_client(world: World) -> None:
    """Most is refused to it: the statuses and bodies of refusals."""
    world.run(documents(world.suite)[0], "client", 1, "-n", "2", "--phases", "fuzzing,stateful")


def test_nothing_was_logged_as_an_error(world: World) -> None:
    """After the others of this module: what failed inside would be hidden by a 4xx otherwise."""
    assert [line for line in world.suite.logs().splitlines() if "level=error" in line or "level=critical" in line] == []


def test_documents_are_public(world: World) -> None:
    for document in documents(world.suite):
        with urllib.request.urlopen(document, timeout=10) as answer:
            assert json.load(answer)["openapi"] == "3.1.0"
        with pytest.raises(urllib.error.HTTPError) as refused:
            call("GET", document, token="nonsense")
        assert refused.value.code == 401
        refused.value.close()
