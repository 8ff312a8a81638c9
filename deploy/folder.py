"""The data folder: secrets, logs, pid files, and the lock that keeps a second launcher out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path

from deploy import process
from deploy.process import Failed

LOG_BYTES = 8 << 20
"""A log that grew beyond moves to NAME.log.1."""


class Folder:
    """`open()` makes and locks it. What is in a folder that was there before keeps its permissions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.secrets_made: dict[str, str] = {}
        self._lock = -1

    def open(self) -> None:
        """Raises `Failed` where it can't be written or another launcher has it."""
        try:
            if not self.path.exists():
                self.path.mkdir(mode=0o700, parents=True)
            for name in ("secrets", "logs", "pids", "ready", "env"):
                if not (self.path / name).exists():
                    (self.path / name).mkdir(mode=0o700)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.utime(self.path)
        except OSError as error:
            raise Failed(
                f"the data folder {self.path} can't be written: {error.strerror}; SKEP_DATA changes it"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(self._lock, 20).decode() or "?"
            raise Failed(
                f"Skep runs already (process {owner}) on {self.path}; SKEP_DATA gives another folder"
            ) from error
        os.ftruncate(self._lock, 0)
        os.write(self._lock, str(os.getpid()).encode())
        shutil.rmtree(self.path / "ready")
        (self.path / "ready").mkdir(mode=0o700)

    def close(self) -> None:
        if self._lock >= 0:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = -1

    def survivors(self) -> list[int]:
        """Processes that a killed run left, on their way out; forgets those that are gone."""
        found = []
        for path in self.path.glob("pids/*.pid"):
            with contextlib.suppress(OSError, ValueError):
                pid = int(path.read_text())
                if process.alive(pid) and os.fsencode(self.path) in _described(pid):
                    found.append(pid)
                    continue
            path.unlink(missing_ok=True)
        return found

    def has_secret(self, name: str) -> bool:
        return (self.path / "secrets" / name).exists()

    def secret(self, name: str) -> str:
        """The secret of that name, made at the first call."""
        path = self.path / "secrets" / name
        with contextlib.suppress(FileNotFoundError):
            return path.read_text().strip()
        made = secrets.token_urlsafe(36)
        # Whole or not at all: a secret cut short by a crash would be used ever after.
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        self.secrets_made[name] = made
        return made

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def pid(self, name: str) -> Path:
        return self.path / "pids" / f"{name}.pid"

    def ready(self, name: str) -> Path:
        return self.path / "ready" / name

    def settings(self, name: str) -> dict[str, str]:
        """Settings for one process alone: lines NAME=VALUE of `env/<name>.env`, read at each of its starts."""
        try:
            lines = (self.path / "env" / f"{name}.env").read_text().splitlines()
        except FileNotFoundError:
            return {}
        pairs = (line.partition("=") for line in lines if line.strip() and not line.startswith("#"))
        return {key.strip(): value for key, _, value in pairs}


def _described(pid: int) -> bytes:
    """Command and environment: one of them names the data folder if the process is ours."""
    place = Path(f"/proc/{pid}")
    return (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
