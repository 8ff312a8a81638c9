"""The machine's Mosquitto 2 with its dynamic-security plugin, for ENGINES=full on one machine and for tests."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import socket
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy import process, tools
from deploy.process import Failed

PLUGIN = "mosquitto_dynamic_security.so"
FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")
ITERATIONS = 1_000
"""Of PBKDF2: the password has 288 bits."""
ADMIN = "admin"
LOCAL = "127.0.0.1"
BRIDGE = "skep-bridge"
"""The bridge's account, unless MQTT_BRIDGE_USER says otherwise."""


@dataclass(frozen=True)
class Tls:
    """Where it listens with TLS; a port that is 0: not. cert, key: files."""

    host: str
    port: int
    websocket_port: int
    cert: Path
    key: Path

    def listeners(self) -> str:
        files = f"certfile {self.cert}\nkeyfile {self.key}\n"
        plain = f"listener {self.port} {self.host}\n{files}" if self.port else ""
        websocket = f"listener {self.websocket_port} {self.host}\nprotocol websockets\n{files}"
        return plain + (websocket if self.websocket_port else "")


@dataclass(frozen=True)
class Mosquitto:
    """`data` holds its configuration, what it keeps, and the plugin's clients. username, password: the bridge's
    account, the only one in the beginning."""

    data: Path
    host: str
    port: int
    username: str
    password: str
    websocket_port: int = 0
    tls: Tls | None = None

    def spec(self) -> process.Spec:
        """Raises Failed where it is not installed."""
        program, plugin = tools.find("mosquitto"), find_plugin()
        if program is None or plugin is None:
            raise Failed("Mosquitto with its dynamic-security plugin is not installed")
        return process.Spec(
            name="mqtt-broker",
            command=[program, "-c", str(self.data / "mosquitto.conf")],
            environment=lambda: {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            ready=self.ready,
            prepare=lambda: self._prepare(plugin),
        )

    def ready(self) -> bool:
        host = LOCAL if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - where it listens everywhere
        with contextlib.suppress(OSError), socket.create_connection((host, self.port), timeout=1):
            return True
        return False

    def _prepare(self, plugin: Path) -> None:
        try:
            self.data.mkdir(mode=0o700, exist_ok=True)
            _write(self.data / "mosquitto.conf", self.config(plugin))
            clients = self._clients
            _write(clients, security(_read(clients), self.username, self.password))
        except OSError as error:
            raise Failed(f"{self.data} can't be written: {error.strerror}") from error

    @property
    def _clients(self) -> Path:
        return self.data / "dynamic-security.json"

    def config(self, plugin: Path) -> str:
        """What docs/mqtt.md tells to copy; the reasons beside the values that are not Mosquitto's own."""
        # As root it would give its rights up, and could not read its folder.
        user = "user root\n" if os.geteuid() == 0 else ""
        websocket = f"listener {self.websocket_port} {self.host}\nprotocol websockets\n" if self.websocket_port else ""
        return f"""\
{user}allow_anonymous false
plugin {plugin}
plugin_opt_config_file {self._clients}
listener {self.port} {self.host}
{websocket}{self.tls.listeners() if self.tls else ""}\
# What is on its way survives a restart; at a crash what came in the last second is lost.
persistence true
persistence_location {self.data}/
autosave_interval 1
# The bridge takes so many at a time, and while it is away so many wait for it.
max_inflight_messages 1000
max_queued_messages 100000
# Nothing below dh/ may be kept: it would be handed out again whenever the bridge comes back.
retain_available false
# Messages are up to 1 MiB.
max_packet_size 2097152
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages false
"""


def find_plugin() -> Path | None:
    """The plugin comes with Debian's and others' package of the broker."""
    for folder in FOLDERS:
        place = Path(folder)
        for path in (place / PLUGIN, *place.glob(f"*/{PLUGIN}")):
            if path.exists():
                return path
    return None


def is_here() -> bool:
    return tools.find("mosquitto") is not None and find_plugin() is not None


def security(known: dict[str, Any] | None, username: str, password: str) -> str:
    """The plugin's file, in which that account may administer the plugin and use `dh/`; the rest stays as it is known.
    JSON."""
    state: dict[str, Any] = known or {"clients": [], "groups": [], "roles": []}
    state["defaultACLAccess"] = {
        "publishClientSend": False, "publishClientReceive": False, "subscribe": False, "unsubscribe": True,
    }  # fmt: skip
    clients = [client for client in state.get("clients", []) if client.get("username") != username]
    [own] = [client for client in state.get("clients", []) if client.get("username") == username] or [{}]
    if not _fits(own, password):
        own = {"username": username, "roles": [{"rolename": ADMIN}], **_hashed(password)}
    state["clients"] = [own, *clients]
    if ADMIN not in [role.get("rolename") for role in state.get("roles", [])]:
        topics = ("$CONTROL/dynamic-security/#", "dh/#")
        kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
        acls = [{"acltype": kind, "topic": topic, "allow": True} for kind in kinds for topic in topics]
        state["roles"] = [{"rolename": ADMIN, "acls": acls}, *state.get("roles", [])]
    return json.dumps(state)


def _hashed(password: str) -> dict[str, Any]:
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS, 64)
    return {"password": b64encode(digest).decode(), "salt": b64encode(salt).decode(), "iterations": ITERATIONS}


def _fits(client: dict[str, Any], password: str) -> bool:
    try:
        salt, iterations = b64decode(client["salt"]), int(client["iterations"])
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations, 64)
        return hmac.compare_digest(digest, b64decode(client["password"]))
    except (KeyError, TypeError, ValueError):
        return False


def _read(path: Path) -> dict[str, Any] | None:
    """None where it is not there or cut short: the bridge puts everything in again."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, text: str) -> None:
    """For us alone to read; whole or not at all."""
    fresh = path.with_suffix(".fresh")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.rename(path)
