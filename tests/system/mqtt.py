"""A suite behind an MQTT broker, for tests: the broker is a parameter.

amqtt runs as a process of the suite. The others are the distribution's, started here with folders and ports of their
own inside the suite's data folder, and stopped by their pids.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from deploy import ports, process, tools
from tests.engines import missing
from tests.system import certificates
from tests.system.mqtt_client import Client, NotConnected, until
from tests.system.rights.world import database_url
from tests.system.suite import ROOT, Suite
from tests.system.test_entities import Api

AMQTT, MOSQUITTO, RABBITMQ = "amqtt", "mosquitto", "rabbitmq"
LOCAL = "127.0.0.1"
START_SECONDS = 60
DOCS = ROOT / "docs" / "mqtt.md"
PASSWORD = "of-the-test"
BRIDGE_PASSWORD = "of-the-bridge-in-tests"


def program(name: str) -> str:
    """A program of the distribution's packages. Skips the test where it is not there; with CI=true fails it."""
    found = tools.find(name)
    if found is None:
        missing(name, f"it is not installed; the package is {tools.PACKAGES.get(name, name)}")
    return found


class Broker:
    """One that runs beside a suite, listening at its MQTT_PORT, and with TLS. `settings` are the suite's."""

    name: ClassVar[str]
    settings: ClassVar[dict[str, str]] = {"MQTT_HOST": LOCAL}

    def __init__(self, suite: Suite) -> None:
        self.suite, self.folder = suite, suite.data / "broker"
        self.port, self.hooks_port = int(suite.settings["MQTT_PORT"]), int(suite.settings["MQTT_HOOKS_PORT"])
        self.tls_port = int(suite.settings["MQTT_TLS_PORT"])
        self.websocket_tls_port = int(suite.settings["MQTT_WEBSOCKET_TLS_PORT"])
        self.certificate = certificates.make(suite.data / "certificate")
        suite.settings |= {"MQTT_TLS_CERT": self.certificate.cert, "MQTT_TLS_KEY": self.certificate.key}
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Returns when it listens."""
        self._spawn()
        self._listening()

    def _spawn(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "output.log").open("ab") as output:
            self._children.append(process.spawn(self._spec(), output.fileno()))

    def _listening(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            gone = self._children[-1].poll() is not None
            if gone or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"{self.name} did not start:\n{self.log()}")
            time.sleep(0.05)

    def stop(self) -> None:
        while self._children:
            process.end(self._children.pop(), self._spec().stop, 10)

    async def kill(self) -> None:
        """kill -9; returns when it is back, with what it had written down."""
        await self._killed()
        await self._back()

    async def _killed(self) -> None:
        child = self._children.pop()
        child.kill()
        await asyncio.to_thread(child.wait, 10)

    async def _back(self) -> None:
        self._spawn()  # in this thread: the child lives as long as the one that made it
        await asyncio.to_thread(self._listening)

    def saved(self) -> None:
        """Returns when what a killed broker comes back with is not older than this call."""

    def log(self) -> str:
        return (self.folder / "output.log").read_text(errors="replace")[-4000:]

    def _spec(self) -> process.Spec:
        raise NotImplementedError

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((LOCAL, self.port), timeout=1):
            return True
        return False


class Amqtt(Broker):
    """A process of the suite."""

    name = AMQTT
    settings: ClassVar[dict[str, str]] = {}

    def start(self) -> None: ...

    def stop(self) -> None: ...

    async def kill(self) -> None:
        await self.suite.kill("mqtt-broker")

    def log(self) -> str:
        return self.suite.logs("mqtt-broker")[-4000:]


class Mosquitto(Amqtt):
    """The machine's, as the launcher starts it: a process of the suite, too."""

    name = MOSQUITTO
    settings: ClassVar[dict[str, str]] = {"MQTT_BROKER": MOSQUITTO, "MQTT_OTHER_TOPICS": "mine,own,kept,will,ordinary"}

    def start(self) -> None:
        program("mosquitto")

    async def kill(self) -> None:
        old = self.suite.pid("mqtt-broker")
        os.kill(old, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: self._is_another(old), "Mosquitto does not listen again")

    def _is_another(self, old: int) -> bool:
        """It says nothing itself when it is ready, as services do."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return self.suite.pid("mqtt-broker") != old and self._listens()
        return False

    def saved(self) -> None:
        now, file = time.time(), self.suite.data / "mosquitto" / "mosquitto.db"
        until(lambda: file.exists() and file.stat().st_mtime > now, "Mosquitto does not save")


class RabbitMq(Broker):
    """3.10, with MQTT and the question of every right to the bridge. Needs an epmd of its own, too."""

    name = RABBITMQ
    settings: ClassVar[dict[str, str]] = {
        "MQTT_HOST": LOCAL,
        "MQTT_ESCAPE": ".*",
        "MQTT_RENUMBERS": "true",
        "MQTT_VERSION": "3.1.1",
    }

    def __init__(self, suite: Suite) -> None:
        super().__init__(suite)
        self._epmd_port, self._dist_port = ports.free(2)

    def start(self) -> None:
        if not self._children:
            epmd = [program("epmd"), "-port", str(self._epmd_port), "-address", LOCAL]
            self._children.append(process.spawn(process.Spec("epmd", epmd, self._environment, lambda: True)))
        super().start()

    async def replace(self) -> None:
        """By one that knows nothing."""
        await self._killed()
        shutil.rmtree(self.folder / "mnesia")
        await self._back()

    def _spec(self) -> process.Spec:
        # The one in PATH changes to a user of its own.
        server = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        command = [str(server) if server.exists() else program("rabbitmq-server")]
        return process.Spec(self.name, command, self._environment, self._listens, prepare=self._prepare)

    def _environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            "PATH": os.environ["PATH"],
            "HOME": folder,  # of the Erlang cookie
            "RUNNING_UNDER_SYSTEMD": "true",  # the shell becomes the server, with the pid we know
            "RABBITMQ_NODENAME": f"skep-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": LOCAL,
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
        }

    def _prepare(self) -> None:
        _write(self.folder / "rabbitmq.conf", self.config())
        _write(self.folder / "enabled_plugins", "[rabbitmq_mqtt,rabbitmq_web_mqtt,rabbitmq_auth_backend_http].\n")

    def config(self) -> str:
        """What docs/mqtt.md tells to copy."""
        text = documented("# rabbitmq.conf")
        if self.suite.settings.get("MQTT_BRIDGES", "1") != "1":
            several = documented("# rabbitmq.conf: with several bridges")
            text = replaced(text, {"auth_backends.1 = http\n": replaced(several, {"BRIDGE_PASSWORD": BRIDGE_PASSWORD})})
        return replaced(
            text,
            {
                "127.0.0.1:1883": f"{LOCAL}:{self.port}",
                " = 8883": f" = {LOCAL}:{self.tls_port}",
                "0.0.0.0:8084": f"{LOCAL}:{self.websocket_tls_port}",
                "127.0.0.1:8120": f"{LOCAL}:{self.hooks_port}",
                "/etc/rabbitmq/certs/broker.pem": self.certificate.cert,
                "/etc/rabbitmq/certs/broker.key": self.certificate.key,
            },
        )


def documented(first: str) -> str:
    """The block of docs/mqtt.md that begins with that line."""
    [block] = re.findall(rf"^```\w*\n({re.escape(first)}\n.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    return str(block)


def replaced(text: str, values: dict[str, str]) -> str:
    """With what is of this machine in place of what the page says, all of which has to be there."""
    for old, new in values.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


BROKERS: dict[str, type[Broker]] = {kind.name: kind for kind in (Amqtt, Mosquitto, RabbitMq)}


class Site:
    """A suite and its broker, which starts first: it asks the bridge, and waits for it.

    settings: of the suite, on top of the broker's.
    """

    def __init__(self, broker: str, engines: str = "light", **settings: str) -> None:
        kind = BROKERS[broker]
        own = {"MQTT": "true", "MQTT_BRIDGE_PASSWORD": BRIDGE_PASSWORD, **kind.settings}
        self.suite = Suite(engines, **{**own, **settings})
        self.broker = kind(self.suite)

    def start(self) -> None:
        try:
            self.broker.start()
            self.suite.start()
            # What is published before is acknowledged by the broker, and for nobody.
            until(self.subscribed, "the bridge is not there", 60)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self.broker.stop()
        self.suite.stop()

    def subscribed(self) -> int:
        """How often bridges have."""
        return self.suite.logs("mqtt-bridge*").count("inbound: the broker hands on")

    @property
    def port(self) -> int:
        return self.broker.port


class User:
    """A client of the platform with a network and a device of its own."""

    def __init__(self, admin: Api) -> None:
        self.login = self.device = name = uuid.uuid4().hex[:10]
        self.network = admin.new("network", name=name, description="")
        self.id = admin.new("user", login=name, password=PASSWORD, role=1, status=0)
        assert admin("PUT", f"user/{self.id}/network/{self.network}", {})[0] in (200, 204)
        body = {"name": name, "networkId": self.network, "deviceTypeId": 1}
        assert admin("PUT", f"device/{name}", body)[0] == 204


class World:
    """Two users of a site, `mine` and `foreign`, and an administrator."""

    def __init__(self, site: Site) -> None:
        self.site, self.suite, self.port = site, site.suite, site.port
        self.admin = Api(self.suite.rest, self.suite.token())
        self.mine, self.foreign = User(self.admin), User(self.admin)
        self._accounts: dict[str, tuple[str, str]] = {}
        self._bosses: dict[str, tuple[str, str]] = {}

    def client(self, client_id: str, user: User | None = None, **more: Any) -> Client:
        return Client(self.port, client_id, *self.account(client_id, user), **more)

    def account(self, client_id: str, user: User | None = None) -> tuple[str, str]:
        """Login and password of a client of that user. Mosquitto knows one client of a user, which has its login as
        client id: every other one has a user of its own with the same rights."""
        user = user or self.mine
        if self.site.broker.name != MOSQUITTO:
            return user.login, PASSWORD
        if client_id not in self._accounts:
            self._accounts[client_id] = self._mqtt_account(client_id, user)
        return self._accounts[client_id]

    def _mqtt_account(self, client_id: str, user: User) -> tuple[str, str]:
        id = user.id
        if client_id != user.login:
            id = self.admin.new("user", login=client_id, password=PASSWORD, role=1, status=0)
            assert self.admin("PUT", f"user/{id}/network/{user.network}", {})[0] == 204
        return self._made(id, client_id)

    def _made(self, user_id: int, client_id: str) -> tuple[str, str]:
        """An MQTT password that the broker knows."""
        status, made = self.admin("POST", f"user/{user_id}/mqtt")
        assert status == 201
        assert made["clientId"] == client_id  # type: ignore[index]
        account = made["login"], made["password"]  # type: ignore[index]
        until(lambda: self.gets_in(client_id, account, self.port), "the broker does not know the MQTT password")
        return account

    @staticmethod
    def gets_in(client_id: str, account: tuple[str, str], port: int, ca: str = "") -> bool:
        try:
            Client(port, client_id, *account, ca=ca).close()
        except NotConnected:
            return False
        return True

    def sees_device(self, client_id: str, device: str) -> None:
        """Returns when the broker knows of the device, which Mosquitto is told a moment later than the others ask."""
        if self.site.broker.name == MOSQUITTO:
            with self.client(client_id) as client:
                until(lambda: client.subscribe(f"dh/command/+/+/{device}/#") == 1, "the role has no such device")

    def boss(self, client_id: str, **more: Any) -> Client:
        return Client(self.port, client_id, *self.boss_account(client_id), **more)

    def boss_account(self, client_id: str) -> tuple[str, str]:
        """As `account`, of an administrator."""
        if self.site.broker.name != MOSQUITTO:
            return self.suite.login, self.suite.password
        if client_id not in self._bosses:
            id = self.admin.new("user", login=client_id, password=PASSWORD, role=0, status=0)
            self._bosses[client_id] = self._made(id, client_id)
        return self._bosses[client_id]

    def token(self, **claims: object) -> str:
        """Of `mine`, for everything, unless the claims say otherwise."""
        soon = int(time.time() * 1000) + 600_000
        return self.suite.sign({"u": self.mine.id, "a": [0], "n": ["*"], "dt": ["*"], "t": 1, "e": soon, **claims})

    def leader(self, session: str = "skep-bridge") -> str:
        """The run of the bridge that has, or had last, a session which takes what devices publish; "": none ever."""
        with psycopg.connect(database_url(self.suite)) as connection:
            row = connection.execute("SELECT holder FROM leases WHERE name = %s", [session]).fetchone()
        return str(row[0]) if row is not None else ""

    @staticmethod
    def process(run: str) -> str:
        """The launcher's name for it."""
        return run.partition(".")[0].removesuffix("-1")

    def packets(self) -> int:
        """How many QoS 1 packets bridges have taken so far."""
        with psycopg.connect(database_url(self.suite)) as connection:
            of_each = "SELECT max(number) AS last FROM mqtt_packets GROUP BY session"
            row = connection.execute(f"SELECT coalesce(sum(last), 0) FROM ({of_each}) AS sessions").fetchone()
        assert row is not None
        return int(row[0])

    def notify(self, device: str, name: str) -> None:
        body = {"notification": name, "parameters": {"secret": True}}
        assert self.admin("POST", f"device/{device}/notification", body)[0] == 201


def _write(path: Path, text: str) -> None:
    path.write_text(text)
