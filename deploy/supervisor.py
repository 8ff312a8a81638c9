"""Keeps processes running: starts them, notices their end, starts them again with back-off, stops them in order.

One thread, no callbacks: `tick()` does what is due. Processes write into their log files themselves, so that a
launcher that stands still stops nobody.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from deploy import process
from deploy.folder import LOG_BYTES, Folder
from deploy.process import Failed, Spec

TICK = 0.05
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
STEADY = 20.0
"""Seconds after which a process counts as well again."""
SHOWN = 10
"""Lines of one process shown at a time; the log has the rest."""


def pause(failures: int) -> float:
    """Seconds before the next start, after so many ends in a row."""
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 10)))


def described(code: int) -> str:
    """What an exit code says."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


@dataclass
class Kept:
    """A process that is kept running; `due` is when to start it again, 0 while it runs."""

    spec: Spec
    shown: Callable[[str], bool]
    child: subprocess.Popen[bytes]
    started: float
    read: int
    ready: bool = False
    failures: int = 0
    due: float = 0.0


class Supervisor:
    """`say` gets a line for the person at the terminal."""

    def __init__(self, folder: Folder, say: Callable[[str], None], verbose: bool = False) -> None:
        self.folder = folder
        self.say = say
        self.verbose = verbose
        self.kept: dict[str, Kept] = {}

    def start(self, spec: Spec, shown: Callable[[str], bool]) -> None:
        """shown: which lines of its log the person should see as they come."""
        child, read = self._spawn(spec)
        self.kept[spec.name] = Kept(spec, shown, child, time.monotonic(), read)

    def wait(self, names: Iterable[str], rest: Callable[[float], None] = time.sleep) -> None:
        """Until all these are ready. One that ends before is a `Failed`: starting it again would not help."""
        missing = list(names)
        while missing := [name for name in missing if not self._is_ready(self.kept[name])]:
            for name in missing:
                kept = self.kept[name]
                if kept.child.poll() is not None:
                    raise Failed(f"{name} {described(kept.child.returncode)}: {self._last_line(name)}")
                if time.monotonic() > kept.started + kept.spec.start_seconds:
                    log = self.folder.log(name)
                    raise Failed(f"{name} is not ready after {kept.spec.start_seconds:.0f} s; its log is {log}")
            rest(TICK)

    def tick(self) -> None:
        for name, kept in self.kept.items():
            self._show(name, kept)
            if kept.due:
                self._restart(name, kept)
            elif kept.child.poll() is not None:
                self._ended(name, kept)
            elif not kept.ready and self._is_ready(kept):
                self.say(f"{name} is back")

    def stop(self, groups: list[list[str]], seconds: float) -> None:
        """Stop the groups one after the other, all within `seconds`; a group gets an equal share of what is left."""
        deadline = time.monotonic() + seconds
        for position, names in enumerate(groups):
            here = [(name, self.kept[name]) for name in names if name in self.kept]
            for _, kept in here:
                if kept.child.poll() is None:
                    # One that was paused would never see the signal.
                    kept.child.send_signal(signal.SIGCONT)
                    kept.child.send_signal(kept.spec.stop)
            share = time.monotonic() + (deadline - time.monotonic()) / (len(groups) - position)
            for name, kept in here:
                try:
                    kept.child.wait(max(0.0, share - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self.say(f"{name} did not stop in time and is killed")
                    kept.child.kill()
                    kept.child.wait(5)
                self.folder.pid(name).unlink(missing_ok=True)
                self.folder.ready(name).unlink(missing_ok=True)
        self.kept.clear()

    def _ended(self, name: str, kept: Kept) -> None:
        now = time.monotonic()
        kept.failures = 1 if kept.ready and now - kept.started > STEADY else kept.failures + 1
        wait = pause(kept.failures)
        kept.due = now + wait
        kept.ready = False
        self.say(
            f"{name} (process {kept.child.pid}) {described(kept.child.returncode)}; starting it again in {wait:g} s"
        )

    def _restart(self, name: str, kept: Kept) -> None:
        if time.monotonic() < kept.due:
            return
        kept.due = 0.0
        kept.started = time.monotonic()
        try:
            kept.child, kept.read = self._spawn(kept.spec)
        except Failed as error:
            kept.failures += 1
            kept.due = kept.started + pause(kept.failures)
            self.say(str(error))

    def _spawn(self, spec: Spec) -> tuple[subprocess.Popen[bytes], int]:
        self.folder.ready(spec.name).unlink(missing_ok=True)
        path = self.folder.log(spec.name)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            read = os.fstat(log).st_size
            child = process.spawn(spec, log)
        finally:
            os.close(log)
        self.folder.pid(spec.name).write_text(str(child.pid))
        return child, read

    def _is_ready(self, kept: Kept) -> bool:
        kept.ready = kept.ready or kept.spec.ready()
        return kept.ready

    def _show(self, name: str, kept: Kept) -> None:
        """Print what came into its log since the last look, and keep the log from growing for ever."""
        path = self.folder.log(name)
        with contextlib.suppress(OSError):
            size = path.stat().st_size
            if size > kept.read:
                with path.open("rb") as log:
                    log.seek(kept.read)
                    # Only whole lines; the rest is read next time.
                    text = log.read(1 << 20).rpartition(b"\n")
                kept.read += len(text[0]) + len(text[1])
                self._print(name, kept, text[0].decode(errors="replace").splitlines())
            if size > LOG_BYTES:
                # Copy and cut: the process goes on writing at the end of the same file.
                path.with_suffix(".log.1").write_bytes(path.read_bytes())
                os.truncate(path, 0)
                kept.read = 0

    def _print(self, name: str, kept: Kept, lines: list[str]) -> None:
        wanted = [line for line in lines if line and (self.verbose or kept.shown(line))]
        for line in wanted if self.verbose else wanted[:SHOWN]:
            self.say(f"[{name}] {line}")
        if len(wanted) > SHOWN and not self.verbose:
            self.say(f"[{name}] … {len(wanted) - SHOWN} more such lines in {self.folder.log(name)}")

    def _last_line(self, name: str) -> str:
        kept = self.kept[name]
        with self.folder.log(name).open("rb") as log:
            log.seek(kept.read)
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"see {self.folder.log(name)}"
