"""Start a suite, load it, write the figures with machine and commit to benchmarks/results/.

    python -m benchmarks.run [--engines light|full] [--load PATH] [--seconds 20] [--only NAME ...]

`--load` is a load client with the interface of `load.py` (`ws`, `rest`, `mem`; needs picows, uvloop, orjson), by
default the one beside this project. It runs on the same machine and takes its share of it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.system.suite import ROOT, Suite

RESULTS = Path(__file__).parent / "results"
LOAD = ROOT.parent / "shared" / "tools" / "load.py"

RUNS: dict[str, list[str]] = {
    "saturated": ["ws", "--p", "8", "--s", "8", "--w", "64"],
    "one-in-flight": ["ws", "--p", "8", "--s", "8", "--w", "1"],
    "50-a-second": ["ws", "--p", "8", "--s", "8", "--rate", "50"],
    "fan-out-8": ["ws", "--p", "8", "--s", "8", "--w", "16", "--fan", "all"],
    "commands": ["ws", "--p", "8", "--s", "8", "--w", "64", "--kind", "command"],
    "rest-notifications": ["rest", "--op", "notif"],
    "rest-device-reads": ["rest", "--op", "get"],
}


def machine() -> dict[str, object]:
    processor = Path("/proc/cpuinfo").read_text().splitlines()
    memory = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": next((line.split(":")[1].strip() for line in processor if line.startswith("model name")), "?"),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**20, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short", "HEAD") + ("+changes" if changed else "")


def measure(suite: Suite, load: Path, name: str, seconds: float) -> dict[str, object]:
    with tempfile.NamedTemporaryFile() as figures:
        own = ["--pids", str(suite.data / "pids"), "--json", figures.name]
        where = ["--api", suite.rest, "--auth", suite.auth, "--ws", suite.ws, "--password", suite.password]
        how = [*RUNS[name], "--seconds", str(seconds)] if name != "memory" else ["mem"]
        subprocess.run([sys.executable, str(load), *how, *where, *own], check=True, timeout=seconds + 120)
        return json.loads(Path(figures.name).read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default=os.environ.get("ENGINES", "light"), choices=["light", "full"])
    parser.add_argument("--load", type=Path, default=LOAD)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", nargs="*", choices=list(RUNS), default=list(RUNS))
    options = parser.parse_args()
    if not options.load.exists():
        parser.error(f"no load client at {options.load}; name one with --load")
    suite = Suite(options.engines)
    suite.start()
    try:
        rows = [{"name": name, **measure(suite, options.load, name, options.seconds)} for name in options.only]
        rows.append({"name": "memory", **measure(suite, options.load, "memory", 0)})
    finally:
        suite.stop()
    now = datetime.datetime.now(datetime.UTC)
    report = {"at": now.isoformat(timespec="seconds"), "engines": options.engines, "commit": commit()}
    path = RESULTS / f"{now:%Y-%m-%d-%H%M}-{options.engines}.json"
    path.write_text(json.dumps({**report, "machine": machine(), "runs": rows}, indent=1) + "\n")
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
