"""A whole suite for tests, started as a person starts it: `python -m deploy.local`, with a data folder of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

from deploy import ports, postgres, process

ROOT = Path(__file__).parents[2]
PORTS = (
    "FRONTEND_PORT", "AUTH_PORT", "PROXY_PORT", "PROXY_PLUGIN_PORT", "PLUGIN_MANAGER_PORT",
    "KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "HAZELCAST_PORT", "MQTT_PORT", "MQTT_WEBSOCKET_PORT", "MQTT_HOOKS_PORT",
    "MQTT_TLS_PORT", "MQTT_WEBSOCKET_TLS_PORT",
)  # fmt: skip
START_SECONDS = 120
BACK_SECONDS = 30


class Suite:
    """`start()` returns when all is ready, `stop()` when nothing of it is left.

    Processes go by the launcher's names: frontend, auth, backend, proxy, proxy-plugins, postgres, kafka, hazelcast-1.
    MQTT is not among them unless asked for (MQTT="true"), though it is for a person: most tests do without.
    settings: environment on top of the defaults. data: a folder to start on again; else a new one, deleted at the end.
    """

    login = "dhadmin"

    def __init__(self, engines: str = "light", data: Path | None = None, **settings: str) -> None:
        self.engines = engines
        self.data = data or Path(tempfile.mkdtemp(prefix=f"skep-test-{os.getpid()}-"))
        self._keeps_data = data is not None
        self.settings = {"MQTT": "false"} | dict(zip(PORTS, map(str, ports.free(len(PORTS))), strict=True)) | settings
        # Not the published one, or it would be found in every log that names it for good reason.
        self.password = settings.get("SKEP_ADMIN_PASSWORD", "of-this-test-1")
        at = "127.0.0.1"
        self.rest = f"http://{at}:{self.settings['FRONTEND_PORT']}/api/rest"
        self.ws = f"ws://{at}:{self.settings['FRONTEND_PORT']}/api/websocket"
        self.auth = f"http://{at}:{self.settings['AUTH_PORT']}/auth/rest"
        self.plugin_manager = f"http://{at}:{self.settings['PLUGIN_MANAGER_PORT']}/plugin/rest"
        self.bus = f"ws://{at}:{self.settings['PROXY_PORT']}"
        self.plugins = f"ws://{at}:{self.settings['PROXY_PLUGIN_PORT']}"
        self._launcher: subprocess.Popen[bytes] | None = None
        self._token = ""

    @property
    def output(self) -> str:
        """What the launcher printed so far."""
        return (self.data / "launcher.out").read_text()

    def environment(self) -> dict[str, str]:
        own = {
            "ENGINES": self.engines,
            "SKEP_DATA": str(self.data),
            "SKEP_ADMIN_PASSWORD": self.password,
            "READY_FILE": str(self.data / "launcher.ready"),
        }
        # What the person who runs the tests has set is not meant for this.
        return {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "JAVA_HOME")} | own | self.settings

    def start(self) -> None:
        ready = self.data / "launcher.ready"
        ready.unlink(missing_ok=True)
        # Through `process.spawn`: a test run that is killed takes its suites with it.
        spec = process.Spec(
            "launcher", [sys.executable, "-m", "deploy.local"], self.environment, ready.exists, folder=str(ROOT)
        )
        with (self.data / "launcher.out").open("wb") as output:
            self._launcher = process.spawn(spec, output.fileno())
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if self._launcher.poll() is not None or time.monotonic() > deadline:
                text = self.output
                self.stop()
                raise AssertionError(f"the suite did not start:\n{text}")
            time.sleep(0.05)

    def stop(self, sent: signal.Signals = signal.SIGINT) -> float:
        """Seconds it took. The launcher's exit code is checked where it was asked politely."""
        began = time.monotonic()
        if self._launcher is not None:
            launcher, self._launcher = self._launcher, None
            launcher.send_signal(sent)
            launcher.wait(30)
        took = time.monotonic() - began
        if not self._keeps_data:
            self.erase()
        return took

    def erase(self) -> None:
        postgres.remove(self.data)
        shutil.rmtree(self.data, ignore_errors=True)

    def pid(self, name: str) -> int:
        """Raises FileNotFoundError while it is not running."""
        return int((self.data / "pids" / f"{name}.pid").read_text())

    def pids(self) -> dict[str, int]:
        return {path.stem: int(path.read_text()) for path in (self.data / "pids").glob("*.pid")}

    async def kill(self, name: str, sent: signal.Signals = signal.SIGKILL) -> None:
        """Returns when the launcher has started it again and it is ready."""
        old = self.pid(name)
        os.kill(old, sent)
        await self.back(name, old)

    async def restart(self, name: str, **settings: str) -> None:
        """Stop it in order; it comes back with these settings on top of its own."""
        lines = "".join(f"{key}={value}\n" for key, value in settings.items())
        (self.data / "env" / f"{name}.env").write_text(lines)
        await self.kill(name, signal.SIGTERM)

    @contextlib.asynccontextmanager
    async def changed(self, name: str, **settings: str) -> AsyncIterator[None]:
        """It runs with these settings meanwhile."""
        await self.restart(name, **settings)
        try:
            yield
        finally:
            await self.restart(name)

    async def back(self, name: str, old: int) -> None:
        """Until it runs as another process than `old` and is ready."""
        deadline = time.monotonic() + BACK_SECONDS
        ready = self.data / "ready" / name
        while True:
            with contextlib.suppress(FileNotFoundError, ValueError):
                if self.pid(name) != old and (ready.exists() or not self._is_service(name)):
                    return
            assert time.monotonic() < deadline, f"{name} did not come back:\n{self.output}"
            await asyncio.sleep(0.02)

    def pause(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGCONT)

    @contextlib.asynccontextmanager
    async def paused(self, name: str) -> AsyncIterator[None]:
        self.pause(name)
        try:
            yield
        finally:
            self.resume(name)

    def token(self) -> str:
        """An access token of the admin, asked for once."""
        if not self._token:
            body = json.dumps({"login": self.login, "password": self.password}).encode()
            request = urllib.request.Request(f"{self.auth}/token", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=10) as answer:
                self._token = json.load(answer)["accessToken"]
        return self._token

    def secret(self, name: str) -> str:
        """jwt_secret, bus_secret or postgres_password."""
        return (self.data / "secrets" / name).read_text()

    def sign(self, payload: dict[str, object]) -> str:
        """A token with that payload, signed as auth signs."""

        def part(value: object) -> bytes:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

        signed = part({"alg": "HS256"}) + b"." + part({"payload": payload})
        mac = hmac.new(self.secret("jwt_secret").encode(), signed, hashlib.sha256).digest()
        return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()

    def logs(self, name: str = "*") -> str:
        """What the processes logged, or one of them."""
        return "".join(path.read_text(errors="replace") for path in sorted((self.data / "logs").glob(f"{name}.log*")))

    @staticmethod
    def _is_service(name: str) -> bool:
        return not name.startswith(("postgres", "kafka", "hazelcast"))
