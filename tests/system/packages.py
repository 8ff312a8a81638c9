"""What tests run in other languages' tools: npm's packages, an environment of pip's, a jar of Maven's. Made where it is
missing or older than its sources. Without the tool or the network the tests are skipped, with CI=true they fail."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines import missing
from tests.system.suite import ROOT

CACHE = ROOT / ".cache"
SECONDS = 300


def npm_ci(folder: Path) -> str:
    """The path of `node`, with the folder's packages installed from its lock."""
    node, installer = shutil.which("node"), shutil.which("npm")
    if node is None or installer is None:
        missing("Node.js", "there is no node or no npm")
    # `npm ci` empties the folder first: only where the lock is newer than what it put there.
    done, lock = folder / "node_modules" / ".package-lock.json", folder / "package-lock.json"
    if not done.exists() or done.stat().st_mtime < lock.stat().st_mtime:
        fetch([installer, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
    return node


def environment(lock: Path) -> Path:
    """The interpreter of an environment of its own, made of the lock."""
    place = CACHE / f"environment-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    interpreter, done = place / "bin" / "python", place / "done"
    if not done.exists():
        build([sys.executable, "-m", "venv", "--clear", "--without-pip", str(place)], lock.parent)
        pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--python", str(interpreter)]
        fetch([*pip, "install", "--no-deps", "--require-hashes", "-r", str(lock)], lock.parent)
        done.touch()
    return interpreter


def maven(folder: Path, jar: Path) -> None:
    """`mvn package`, which runs the folder's tests as well."""
    installer = shutil.which("mvn")
    if installer is None or shutil.which("javac") is None:
        missing("Maven's builds", "there is no mvn or no javac")
    sources = [folder / "pom.xml", *(path for path in (folder / "src").rglob("*") if path.is_file())]
    if not jar.exists() or jar.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        build([installer, "-q", "-B", "package"], folder)


def fetch(command: list[str], folder: Path) -> None:
    if failure := _failure(command, folder):
        missing(f"{command[0]} in {folder}", failure)


def build(command: list[str], folder: Path) -> None:
    """What fails here is the code, unless Maven says that something can't be had."""
    failure = _failure(command, folder)
    if re.search("could not be resolved|Could not (resolve|transfer)", failure):
        missing(f"{command[0]} in {folder}", failure)
    if failure:
        pytest.fail(f"{' '.join(command)} in {folder}: {failure}", pytrace=False)


def _failure(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    return "" if done.returncode == 0 else (done.stdout + done.stderr)[-2000:] or f"exit code {done.returncode}"
