"""`python -m deploy.tools mvn node npm`: install those that are missing, where a package manager is there and we may.

Says so where it can't, and succeeds all the same: who needs the tool complains.
"""

import os
import shutil
import subprocess
import sys

PACKAGES = {
    "mvn": "maven",
    "node": "nodejs",
    "npm": "npm",
    "mosquitto": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
    "rabbitmq-server": "rabbitmq-server",
}
SYSTEM = "/usr/sbin"
"""Where Debian has daemons, and only root looks."""
MANAGERS = {
    "apt-get": [["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends"]],
    "dnf": [["install", "-y", "-q"]],
    "apk": [["add", "-q"]],
}
"""Commands in their order; the last takes the packages."""


def find(program: str) -> str | None:
    """Its path, also where only root looks for it."""
    return shutil.which(program) or shutil.which(program, path=SYSTEM)


def install(packages: list[str]) -> str:
    """Why it did not work; empty if it did."""
    manager = next((found for name in MANAGERS if (found := shutil.which(name))), None)
    if manager is None:
        return "there is no package manager that Skep knows"
    if os.geteuid() != 0:
        return "only root may install packages"
    commands = MANAGERS[os.path.basename(manager)]
    # Run level 1: a daemon that a package brings is not to take our ports.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in [*commands[:-1], [*commands[-1], *packages]]:
        done = subprocess.run([manager, *command], env=environment, capture_output=True, text=True, check=False)
        # A list of packages that can't be renewed may still do.
        if done.returncode != 0 and command[0] != "update":
            return (done.stderr.strip().splitlines() or ["it failed"])[-1]
    return ""


def main(programs: list[str]) -> int:
    wanted = [PACKAGES[name] for name in programs if find(name) is None]
    if wanted:
        print(f"skep: installing {', '.join(wanted)}", flush=True)
        if reason := install(wanted):
            print(f"skep: {', '.join(wanted)} can't be installed: {reason}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
