"""A plugin as its author runs it: a process made of a template, with settings in its environment and a state file.

`Builds` makes what the three templates need: the Python template's own environment, npm's packages, Maven's jar.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy import process
from tests.system import packages
from tests.system.suite import ROOT
from tests.system.traffic import call

TEMPLATES = ROOT / "plugin_templates"
COLLECTORS = ROOT / "tests" / "system" / "clients" / "collectors"
INHERITED = ("PATH", "HOME", "LANG", "JAVA_HOME")
WITHIN = 30.0
"""Longest wait for something to come, seconds."""


@dataclass(frozen=True)
class Template:
    """useful: the command of the template itself. collector: of one that writes each callback to stdout."""

    name: str
    useful: list[str]
    collector: list[str]
    environment: dict[str, str]


class Builds:
    """All begun at once, since each mostly waits for a registry. `made` waits for one by its name, and raises what
    became of it."""

    def __init__(self) -> None:
        pool = ThreadPoolExecutor(3)
        self._begun = {make.__name__: pool.submit(make) for make in (python, node, java)}
        pool.shutdown(wait=False)

    def made(self, name: str) -> Template:
        return self._begun[name].result()


def python() -> Template:
    folder = TEMPLATES / "python"
    interpreter = str(packages.environment(folder / "requirements-test.txt"))
    useful, collector = [interpreter, str(folder / "main.py")], [interpreter, str(COLLECTORS / "collect.py")]
    return Template("python", useful, collector, {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"})


def node() -> Template:
    folder = TEMPLATES / "node"
    program = packages.npm_ci(folder)
    useful, collector = [program, str(folder / "main.js")], [program, str(COLLECTORS / "collect.mjs"), str(folder)]
    return Template("node", useful, collector, {})


def java() -> Template:
    archive, classes = TEMPLATES / "java" / "target" / "threshold-plugin.jar", packages.CACHE / "plugin-template-java"
    packages.maven(TEMPLATES / "java", archive)
    source, made = COLLECTORS / "Collect.java", classes / "Collect.class"
    if not made.exists() or made.stat().st_mtime < max(source.stat().st_mtime, archive.stat().st_mtime):
        packages.build(["javac", "-cp", str(archive), "-d", str(classes), str(source)], COLLECTORS)
    # These live for seconds: no time for the second compiler to pay.
    machine = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    return Template("java", [*machine, "-jar", str(archive)], [*machine, "-cp", f"{archive}:{classes}", "Collect"], {})


class Copy:
    """One process of a plugin. It keeps its state in `folder`, so that the next one there is the same plugin.

    lines: what it wrote to stdout, decoded, in order. log: what it wrote to stderr.
    """

    def __init__(self, suite: Any, template: Template, folder: Path, **settings: str) -> None:
        self.name, self.folder = template.name, folder
        self.state = Path(settings.get("PLUGIN_STATE", folder / f"{template.name}-state.json"))
        self.environment = {key: os.environ[key] for key in INHERITED if key in os.environ}
        self.environment |= {
            "SKEP_URL": suite.rest, "SKEP_LOGIN": suite.login, "SKEP_PASSWORD": suite.password,
            "PLUGIN_STATE": str(self.state), "RULE_STATE": str(folder / "crossed.json"),
            **template.environment, **settings,
        }  # fmt: skip
        self.lines: list[list[Any]] = []
        self.log = ""
        self._change = asyncio.Condition()
        self._readers: list[asyncio.Task[None]] = []
        self._streams = 0

    async def start(self, command: list[str]) -> Copy:
        """Returns when it is connected."""
        await self.begin(command)
        await self.logged("connected to")
        return self

    async def begin(self, command: list[str]) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=process.die_with(os.getpid(), signal.SIGKILL),
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._streams = 2
        self._readers = [
            asyncio.create_task(self._read(self.process.stdout, lambda line: self.lines.append(json.loads(line)))),
            asyncio.create_task(self._read(self.process.stderr, self._logged)),
        ]

    async def logged(self, text: str) -> None:
        """Until the text is in its log."""
        await self.until(lambda: text in self.log, text)

    async def received(self, count: int) -> list[list[Any]]:
        """All lines, as soon as there are so many."""
        await self.until(lambda: len(self.lines) >= count, f"{count} lines")
        return self.lines

    async def until(self, true: Any, what: str) -> None:
        try:
            async with asyncio.timeout(WITHIN), self._change:
                await self._change.wait_for(lambda: true() or not self._streams)
        except TimeoutError:
            pass
        assert true(), f"{self.name}: not {what}\n{self.lines}\n{self.log}"

    async def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        """The exit code."""
        if self.process.returncode is None:
            self.process.send_signal(sent)
        return await self.ended()

    async def ended(self) -> int:
        """The exit code, when it has ended by itself."""
        async with asyncio.timeout(WITHIN):
            await asyncio.gather(self.process.wait(), *self._readers)
        assert self.process.returncode is not None
        return self.process.returncode

    @property
    def topic(self) -> str:
        return json.loads(self.state.read_text())["topic"]

    async def confirmed(self, suite: Any) -> dict[str, Any]:
        """The plugin as its owner sees it, as soon as nothing of its stream is unconfirmed."""
        deadline = time.monotonic() + WITHIN
        while True:
            url = f"{suite.rest}/plugin?topicName={self.topic}"
            (found,) = await asyncio.to_thread(call, "GET", url, None, suite.token())
            if found["lag"] == 0:
                return found
            assert time.monotonic() < deadline, f"{self.name}: {found}\n{self.log}"
            await asyncio.sleep(0.05)

    async def _read(self, stream: asyncio.StreamReader, each: Any) -> None:
        async for line in stream:
            async with self._change:
                each(line.decode())
                self._change.notify_all()
        async with self._change:
            self._streams -= 1
            self._change.notify_all()

    def _logged(self, line: str) -> None:
        self.log += line
