"""Certificates for tests, made by openssl: each signs itself, so it is also what a client has to trust."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from deploy import tools
from tests.engines import missing


class Certificate(NamedTuple):
    """Files."""

    cert: str
    key: str


def make(folder: Path) -> Certificate:
    """For 127.0.0.1 and localhost; good for a day."""
    program = tools.find("openssl")
    if program is None:
        missing("openssl", "it is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(str(folder / "broker.pem"), str(folder / "broker.key"))
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "1"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    command = [program, "req", "-x509", *kind, *names, "-out", made.cert, "-keyout", made.key]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return made
