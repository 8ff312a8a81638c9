"""`make run`: the whole suite on this machine, without Docker. Ctrl-C stops it.

python -m deploy.local [-v]      -v: show all that the processes log
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from deploy import database, hazelcast, java, kafka, mosquitto, ports, postgres, process, services, welcome
from deploy.folder import Folder
from deploy.options import ROOT, Options
from deploy.process import Failed
from deploy.services import Engines
from deploy.supervisor import TICK, Supervisor
from skep import settings

STOP_SECONDS = 4.5
"""The services have all stopped by then; what is left is killed."""
EDGE = ["frontend", "auth", "plugin-manager", "proxy-plugins", "mqtt-broker"]
ENGINES = ["postgres", "kafka"]
PASSWORD = "postgres_password"  # noqa: S105 - the name of the file


class Stopped(BaseException):
    """A signal asked for the end."""


class Launcher:
    """`run()` returns when a signal asked for the end; `stop()` always has to follow."""

    def __init__(self, options: Options, verbose: bool = False) -> None:
        self.options = options
        self.folder = Folder(options.folder)
        self.supervisor = Supervisor(self.folder, say, verbose)
        self.environ = dict(os.environ)
        self.is_stopping = False
        self._may_raise = False

    def run(self) -> None:
        self.folder.open()
        self._leave_time_to_survivors()
        for host, port, setting in self.options.listeners():
            ports.check(host, port, setting)
        engines = self._start_engines()
        environment = self._environment(engines)
        self._prepare_database(engines.database_url, services.seen_by("skep", environment))
        self._start_services(environment)
        for line in welcome.lines(self.options, self.folder, self._password_shown(engines.database_url)):
            print(line, flush=True)
        if ready := os.environ.get("READY_FILE"):
            Path(ready).touch()
        while not self.is_stopping:
            self.supervisor.tick()
            self._rest(TICK)

    def stop(self) -> None:
        """From the edge inwards, so that what is on its way is still answered."""
        running = list(self.supervisor.kept)
        backends = [name for name in running if name.startswith("backend")]
        bridges = [name for name in running if name.startswith(services.BRIDGE)]
        members = [name for name in running if name.startswith("hazelcast")]
        if running:
            say("stopping ...")
        self.supervisor.stop([[*EDGE, *bridges], backends, ["proxy"], [*ENGINES, *members]], STOP_SECONDS)
        self.folder.close()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_stopping = True
        if self._may_raise:
            self._may_raise = False
            raise Stopped

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Only here does a signal raise: nothing that was started may be forgotten."""
        self._check()
        self._may_raise = True
        try:
            yield
        finally:
            self._may_raise = False

    def _check(self) -> None:
        if self.is_stopping:
            raise Stopped

    def _rest(self, seconds: float) -> None:
        with self._interruptible():
            time.sleep(seconds)

    def _leave_time_to_survivors(self) -> None:
        deadline = time.monotonic() + 3
        if self.folder.survivors():
            say("waiting for what an earlier run left")
        while self.folder.survivors() and time.monotonic() < deadline:
            self._rest(TICK)

    def _start_engines(self) -> Engines:
        """Kafka and Hazelcast take seconds: they come up beside PostgreSQL, and nobody waits for them here."""
        bootstrap, members = self.options.kafka_bootstrap, self.options.hazelcast_members
        if self.options.is_full and not (bootstrap and members):
            say("looking for Kafka and Hazelcast; the first time Maven fetches them (60 MB)")
            with self._interruptible():
                java.jars()
        if self.options.is_full and not bootstrap:
            bootstrap = self._start_kafka()
        if self.options.is_full and not members:
            members = self._start_hazelcast()
        if self.options.runs_mosquitto:
            self._start_mosquitto()
        return Engines(self._start_postgres(), bootstrap, members)

    def _start_kafka(self) -> str:
        say("starting Kafka")
        broker = kafka.Broker(self.folder.path / "kafka", self.options.kafka_port, self.options.kafka_controller_port)
        self.supervisor.start(broker.spec(), lambda line: " FATAL " in line)
        return broker.bootstrap

    def _start_hazelcast(self) -> str:
        say("starting Hazelcast")
        options = self.options
        members = hazelcast.members(
            options.hazelcast_cluster, options.hazelcast_ports, options.message_ttl, options.hazelcast_heap
        )
        for member in members:
            self.supervisor.start(member.spec(), lambda line: " FATAL " in line or " ERROR " in line)
        return ",".join(member.address for member in members)

    def _start_mosquitto(self) -> None:
        say("starting Mosquitto")
        options, password = self.options, self._secret("MQTT_BRIDGE_PASSWORD")
        username = self.environ.get("MQTT_BRIDGE_USER") or mosquitto.BRIDGE
        broker = mosquitto.Mosquitto(
            self.folder.path / "mosquitto",
            options.mqtt_plain_host,
            options.mqtt_port,
            username,
            password,
            options.mqtt_websocket_port,
            self._mosquitto_tls(),
        )
        self.supervisor.start(broker.spec(), lambda line: ": Error" in line)

    def _mosquitto_tls(self) -> mosquitto.Tls | None:
        options = self.options
        if not options.mqtt_tls_cert:
            return None
        # From the repository, as the services find them.
        cert, key = (
            ROOT / Path(path) for path in (options.mqtt_tls_cert, options.mqtt_tls_key or options.mqtt_tls_cert)
        )
        return mosquitto.Tls(options.host, options.mqtt_tls_port, options.mqtt_websocket_tls_port, cert, key)

    def _start_postgres(self) -> str:
        if url := self.options.database_url:
            with self._interruptible():
                database.check(url)
            return url
        say("starting PostgreSQL")
        known = self.folder.has_secret(PASSWORD)
        server = postgres.server(self.folder.path, self.folder.secret(PASSWORD) if known else "")
        if not known and server.exists:
            # As root the data lie outside of the data folder; whoever deleted that deleted the password only.
            raise Failed(
                f"{server.data} belongs to a data folder that was deleted, and its password with it;"
                f" to begin anew: rm -r {server.data.parent}"
            )
        server = dataclasses.replace(server, password=self.folder.secret(PASSWORD))
        self.supervisor.start(server.spec(), lambda line: "FATAL" in line or "PANIC" in line)
        self.supervisor.wait(["postgres"], self._rest)
        database.make(server.url("postgres"), "skep")
        return server.url("skep")

    def _environment(self, engines: Engines) -> dict[str, str]:
        wanted = ["JWT_SECRET", "BUS_SECRET", *(["MQTT_BRIDGE_PASSWORD"] if self.options.mqtt else [])]
        secrets = {name: self._secret(name) for name in wanted}
        own = services.environment(self.options, engines, secrets)
        # NAME and NAME_FILE at once is an error to a service; what is meant for the launcher stays here.
        hidden = {f"{name}_FILE" for name in own} | {"READY_FILE", "INSTANCE"}
        return {name: value for name, value in self.environ.items() if name not in hidden} | own

    def _secret(self, name: str) -> str:
        if path := self.environ.get(f"{name}_FILE"):
            try:
                return Path(path).read_text().strip()
            except OSError as error:
                raise Failed(f"{name}_FILE: can't read {path}: {error.strerror}") from error
        return self.environ.get(name) or self.folder.secret(name.lower())

    def _prepare_database(self, url: str, environment: dict[str, str]) -> None:
        say("preparing the database")
        for command in ("migrate", "admin"):
            with self._interruptible():
                done = process.run([sys.executable, "-m", "skep.metadata", command], environment, folder=str(ROOT))
            if done.returncode != 0:
                output = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
                raise Failed(f"the database can't be prepared: {output[-1]}")
        if not settings.is_loopback(self.options.host) and database.accepts(url, settings.KNOWN_PASSWORD):
            raise Failed(
                f"HOST={self.options.host} is refused: the admin still has the published password;"
                " change it while HOST is 127.0.0.1, or start with another SKEP_DATA"
            )

    def _password_shown(self, url: str) -> str:
        """The admin's password, unless somebody changed it since."""
        return self.options.password if database.accepts(url, self.options.password) else ""

    def _start_services(self, environment: dict[str, str]) -> None:
        self.supervisor.wait(list(self.supervisor.kept), self._rest)
        specs = services.specs(self.options, self.folder, environment)
        for spec in specs:
            self._check()
            say(f"starting {spec.name}")
            self.supervisor.start(spec, warns)
            if spec.name == "proxy":
                self.supervisor.wait([spec.name], self._rest)
        self.supervisor.wait([spec.name for spec in specs], self._rest)


def warns(line: str) -> bool:
    """Whether a service's line is a warning, or no log line at all: a traceback, a complaint at the start."""
    level = line.partition(" level=")[2].partition(" ")[0]
    return level not in ("debug", "info")


def say(line: str) -> None:
    print(f"skep: {line}", flush=True)


def main(arguments: list[str]) -> int:
    if arguments in (["--help"], ["-h"]):
        print(f"{(__doc__ or '').strip()}\n\n{settings.table(Options)}")
        return 0
    if arguments not in ([], ["-v"]):
        print("Usage: python -m deploy.local [-v | --help]", file=sys.stderr)
        return 2
    try:
        launcher = Launcher(settings.load(Options, os.environ), verbose=bool(arguments))
    except settings.Invalid as error:
        for line in error.lines:
            print(f"skep: {line}", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, launcher.on_signal)
    try:
        launcher.run()
    except Failed as error:
        print(f"skep: {error}", file=sys.stderr, flush=True)
        return 1
    except Stopped:
        pass
    finally:
        launcher.stop()
    say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
