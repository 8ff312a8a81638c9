"""docs/mqtt.md does what it says: its programs and configurations are taken out of it and run, with ports, accounts and
paths of this machine. RabbitMQ's configuration is what all tests of RabbitMQ run with (`mqtt.py`). What EMQX would
send is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy import mosquitto, ports, process
from tests.engines import missing
from tests.system.conftest import NPM
from tests.system.mqtt import AMQTT, BRIDGE_PASSWORD, LOCAL, MOSQUITTO, World, documented, program, replaced
from tests.system.mqtt_client import WAIT, until

pytestmark = pytest.mark.system

SAMPLE = "e50d6085-2aba-48e9-b1c3-73c673e414be"
ADDRESS = '"127.0.0.1", 1883, "tcp"'


@pytest.fixture
def name() -> str:
    return f"p-{uuid.uuid4().hex[:8]}"


class Program:
    """A device's, as it prints. Ends with its `with`."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._child = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | NODE
        )
        self._seen: list[str] = []

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate(timeout=WAIT)

    def line(self, start: str) -> str:
        """The next one that begins so, without that."""
        assert self._child.stdout is not None
        too_late = threading.Timer(WAIT, self._child.kill)
        too_late.start()
        try:
            for text in self._child.stdout:
                self._seen.append(text)
                if text.startswith(start):
                    return text.removeprefix(start).strip()
        finally:
            too_late.cancel()
        raise AssertionError(f"nothing begins with {start}: {self._seen}")


NODE = {"NODE_PATH": str(NPM / "node_modules")}


def lamp(world: World, folder: Path, name: str, address: str, ca: str = "") -> Program:
    login, password = world.account(name)
    values = {ADDRESS: address, '"dhadmin", "PASSWORD"': f'"{login}", "{password}"', "my-lamp": name}
    values |= {SAMPLE: world.mine.device} | ({"CA = None": f'CA = "{ca}"'} if ca else {})
    file = folder / "lamp.py"
    file.write_text(replaced(documented("# lamp.py"), values))
    return Program([sys.executable, str(file)], folder)


def works(world: World, shown: Program, name: str) -> None:
    """It notifies, asks, and answers a command."""
    assert shown.line("connected:") == "Success"
    assert shown.line("subscribed:") == " ".join(["Granted QoS 1"] * 4)
    assert json.loads(shown.line(f"dh/response/device/get@{name} "))["device"]["id"] == world.mine.device
    status, made = world.admin("POST", f"device/{world.mine.device}/command", {"command": "shine"})
    assert status == 201
    shown.line(f"dh/command/{world.mine.network}/1/{world.mine.device}/shine ")
    assert json.loads(shown.line(f"dh/response/command/update@{name} "))["status"] == "success"
    path = f"device/{world.mine.device}/command/{made['id']}"  # type: ignore[index]
    found = world.admin("GET", path)[1]
    assert (found["status"], found["result"]) == ("done", {"on": True})  # type: ignore[call-overload, index]


@pytest.mark.parametrize("way", ["tcp", "ws", "tls", "wss"])
def test_the_program_with_paho(mqtt: World, name: str, tmp_path: Path, way: str) -> None:
    broker, settings = mqtt.site.broker, mqtt.suite.settings
    if way in ("tcp", "ws") and broker.name != AMQTT:
        return  # behind the others devices come by TLS
    port = {
        "tcp": broker.port,
        "ws": settings["MQTT_WEBSOCKET_PORT"],
        "tls": broker.tls_port,
        "wss": broker.websocket_tls_port,
    }[way]
    address = f'"{LOCAL}", {port}, "{"websockets" if way.startswith("w") else "tcp"}"'
    reader = f"{name}-r"
    with mqtt.client(reader) as other:
        assert other.subscribe(f"dh/notification/{mqtt.mine.network}/1/{mqtt.mine.device}/temperature") == 1
        with lamp(mqtt, tmp_path, name, address, broker.certificate.cert if way in ("tls", "wss") else "") as shown:
            works(mqtt, shown, name)
        assert other.message()[1]["notification"]["parameters"] == {"celsius": 21.5}
    # What comes meanwhile waits for its session.
    path = f"device/{mqtt.mine.device}/command"
    assert mqtt.admin("POST", path, {"command": "later"})[0] == 201
    with lamp(mqtt, tmp_path, name, address, broker.certificate.cert if way in ("tls", "wss") else "") as shown:
        shown.line(f"dh/command/{mqtt.mine.network}/1/{mqtt.mine.device}/later ")


def test_the_page_over_websocket(mqtt: World, npm: str, name: str, tmp_path: Path) -> None:
    if mqtt.site.broker.name != AMQTT:
        return  # they were found by the program with paho
    file = tmp_path / "page.js"
    values = {"127.0.0.1:8083": f"{LOCAL}:{mqtt.suite.settings['MQTT_WEBSOCKET_PORT']}", "my-page": name}
    # As a page should: with a token.
    values |= {'"dhadmin"': '"any"', '"PASSWORD"': f'"{mqtt.token()}"', SAMPLE: mqtt.mine.device}
    file.write_text(replaced(documented("// page.js"), values))
    with Program([npm, str(file)], tmp_path) as shown:
        shown.line(f"dh/notification/{mqtt.mine.network}/1/{mqtt.mine.device}/hello ")


# -- Mosquitto -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def by_hand(world: World, folder: Path) -> Iterator[tuple[int, int]]:
    """A Mosquitto as the page has it made by hand; its ports with TLS, and with TLS over WebSocket."""
    plugin = mosquitto.find_plugin()
    if plugin is None:
        missing("mosquitto", "it is not installed with its dynamic-security plugin")
    certificate = world.site.broker.certificate
    plain, tls, websocket = ports.free(3)
    values = {
        "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so": str(plugin),
        "/var/lib/mosquitto/": f"{folder}/",
        "listener 1883": f"listener {plain}",
        "listener 8883": f"listener {tls} {LOCAL}",
        "listener 8084": f"listener {websocket} {LOCAL}",
        "/etc/mosquitto/certs/broker.pem": certificate.cert,
        "/etc/mosquitto/certs/broker.key": certificate.key,
    }
    text = replaced(documented("# mosquitto.conf"), values)
    file = folder / "mosquitto.conf"
    file.write_text(f"user root\n{text}" if os.geteuid() == 0 else text)
    init = re.findall(
        r"^mosquitto_ctrl (dynsec init) (\S+) (\S+)$",
        documented("# once, before the broker's first start; asks for the password"),
        re.MULTILINE,
    )
    [(command, path, username)] = init
    path = replaced(path, {"/var/lib/mosquitto/": f"{folder}/"})
    subprocess.run(
        [program("mosquitto_ctrl"), *command.split(), path, username, BRIDGE_PASSWORD],
        check=True,
        timeout=WAIT,
        capture_output=True,
    )
    environment = {"PATH": os.environ["PATH"]}
    own = mosquitto.Mosquitto(folder, LOCAL, plain, username, BRIDGE_PASSWORD)
    spec = process.Spec("mosquitto", [program("mosquitto"), "-c", str(file)], lambda: environment, own.ready)
    with (folder / "mosquitto.log").open("wb") as output:
        child = process.spawn(spec, output.fileno())
    try:
        process.wait(spec, child)
        yield tls, websocket
    finally:
        process.end(child, spec.stop, 5)


@contextlib.asynccontextmanager
async def bridged(world: World, tls: int) -> AsyncIterator[None]:
    """The bridge serves that broker instead of its own, as from another machine."""
    suite, ready = world.suite, "inbound: the broker hands on"
    settings = {"MQTT_PORT": str(tls), "MQTT_TLS": "true", "MQTT_TLS_CA": world.site.broker.certificate.cert}
    async with suite.changed("mqtt-bridge", **settings):
        yield
        times = suite.logs("mqtt-bridge").count(ready)
    await asyncio.to_thread(until, lambda: suite.logs("mqtt-bridge").count(ready) > times, "it does not go back", 60)


async def test_mosquitto_by_hand(mqtt: World, name: str, tmp_path: Path) -> None:
    if mqtt.site.broker.name != MOSQUITTO:
        return
    mqtt.account(name)
    with by_hand(mqtt, tmp_path) as (tls, websocket):
        async with bridged(mqtt, tls):
            address = f'"{LOCAL}", {websocket}, "websockets"'
            certificate = mqtt.site.broker.certificate.cert
            gets_in = lambda: mqtt.gets_in(name, mqtt.account(name), tls, certificate)  # noqa: E731
            await asyncio.to_thread(until, gets_in, "the broker does not know the MQTT password")
            with lamp(mqtt, tmp_path, name, address, certificate) as shown:
                await asyncio.to_thread(works, mqtt, shown, name)


# -- EMQX ------------------------------------------------------------------------------------------------------------


def bodies() -> dict[str, dict[str, str]]:
    """What EMQX is told to send, by path of the hook; values with its placeholders."""
    text = documented("# emqx.conf")
    assert text.count("{") == text.count("}")
    assert text.count("[") == text.count("]")
    found = re.findall(r'url = "http://127.0.0.1:8120(\S+)"\n.*\n\s+body \{ (.*) \}\n', text)
    return {path: dict(re.findall(r'(\w+) = "([^"]*)"', body)) for path, body in found}


def asked(world: World, path: str, **values: str) -> str:
    """The hook's result for that body with these values."""
    body = {key: re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], value) for key, value in bodies()[path].items()}
    url = f"http://{LOCAL}:{world.site.broker.hooks_port}{path}"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=WAIT) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        return str(json.load(answer)["result"])


def test_what_emqx_is_told_to_ask(mqtt: World, name: str) -> None:
    if mqtt.site.broker.name == MOSQUITTO:
        return  # its accounts are of its own
    login, password = mqtt.account(name)
    who = {"clientid": name, "username": login, "peerhost": LOCAL}
    assert asked(mqtt, "/emqx/authentication", **who, password=password) == "allow"
    assert asked(mqtt, "/emqx/authentication", **who, password="wrong") == "deny"
    answers = {
        ("publish", f"dh/request/{name}"): "allow",
        ("publish", f"dh/insert/notification/{mqtt.mine.device}/x"): "allow",
        ("publish", f"dh/insert/notification/{mqtt.foreign.device}/x"): "deny",
        ("publish", f"dh/notification/{mqtt.mine.network}/1/{mqtt.mine.device}/x"): "deny",
        ("subscribe", f"dh/notification/{mqtt.mine.network}/#"): "allow",
        ("subscribe", f"dh/notification/{mqtt.foreign.network}/#"): "deny",
        ("subscribe", "dh/#"): "deny",
    }
    for (action, topic), expected in answers.items():
        assert asked(mqtt, "/emqx/authorization", **who, action=action, topic=topic) == expected, topic
