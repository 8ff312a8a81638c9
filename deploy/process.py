"""A child process that never outlives the one that started it."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Failed(Exception):
    """Something on this machine stands in the way; the text is the one line the person sees."""


@dataclass(frozen=True)
class Account:
    """A system user whose rights a child takes on; only root can give it."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Spec:
    """What it takes to run one process.

    environment: asked at each start. ready: asked now and then. stop: the signal for an orderly end.
    """

    name: str
    command: list[str]
    environment: Callable[[], Mapping[str, str]]
    ready: Callable[[], bool]
    folder: str = "/"
    account: Account | None = None
    stop: signal.Signals = signal.SIGTERM
    # What the kernel sends when the starter dies, however it dies.
    orphaned: signal.Signals = signal.SIGKILL
    prepare: Callable[[], None] = field(default=lambda: None)
    start_seconds: float = 30.0


def spawn(spec: Spec, output: int | None = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start it in a session of its own, so that Ctrl-C reaches only us and we stop things in order.

    Call from a thread that lives as long as the process: the kernel watches the thread that forked.
    """
    spec.prepare()
    account = spec.account
    try:
        return subprocess.Popen(
            spec.command,
            env=dict(spec.environment()),
            cwd=spec.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            preexec_fn=die_with(os.getpid(), spec.orphaned),
        )
    except OSError as error:
        raise Failed(f"{spec.name} can't be started: {error}") from error


def run(
    command: list[str], environment: Mapping[str, str], account: Account | None = None, folder: str = "/"
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end as that user; output and exit code are the caller's to judge."""
    return subprocess.run(
        command,
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def die_with(parent: int, sent: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn`: it runs in the child after it changed its user, which would have undone the request."""

    def ask() -> None:
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, int(sent), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask


def end(child: "subprocess.Popen[bytes]", sent: signal.Signals, seconds: float) -> int:
    """Ask it to stop, insist after `seconds`; its exit code."""
    if child.poll() is None:
        child.send_signal(signal.SIGCONT)
        child.send_signal(sent)
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait(5)


def alive(pid: int) -> bool:
    """Whether a process of that id runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        if sys.platform == "linux":
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    return state != "Z"


def wait(spec: Spec, child: "subprocess.Popen[bytes]") -> None:
    """Until it is ready; `Failed` if it ends before or takes too long."""
    deadline = time.monotonic() + spec.start_seconds
    while not spec.ready():
        if child.poll() is not None:
            raise Failed(f"{spec.name} ended with code {child.returncode} before it was ready")
        if time.monotonic() > deadline:
            raise Failed(f"{spec.name} was not ready after {spec.start_seconds:.0f} s")
        time.sleep(0.02)
