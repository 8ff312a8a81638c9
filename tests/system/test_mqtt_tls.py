"""MQTT over TLS, and over WebSocket with TLS, through each broker; the bridge beside it needs none."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.system import certificates
from tests.system.mqtt import World, program
from tests.system.mqtt_client import WAIT, Client, until

pytestmark = pytest.mark.system


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


def secure(world: World, client_id: str, websocket: bool = False, ca: str = "") -> Client:
    """ca: who is trusted instead of the broker's own certificate."""
    broker = world.site.broker
    port = broker.websocket_tls_port if websocket else broker.tls_port
    account = world.account(client_id)
    return Client(port, client_id, *account, ca=ca or broker.certificate.cert, websocket=websocket)


@pytest.mark.parametrize("websocket", [False, True], ids=["tls", "wss"])
def test_a_device_by_tls(mqtt: World, name: str, websocket: bool) -> None:
    """It asks, saves itself, notifies, gets a command and answers it."""
    network, device = mqtt.mine.network, f"d-{name}"
    place = f"{network}/1/{device}"
    with secure(mqtt, name, websocket) as client:
        for action in ("device/save", "command/update"):
            assert client.subscribe(f"dh/response/{action}@{name}") == 1
        body = {"name": device, "networkId": network, "deviceTypeId": 1}
        assert client.ask(name, action="device/save", deviceId=device, device=body)["status"] == "success"
        assert client.subscribe(f"dh/command/{network}/1/{device}/+") == 1
        assert client.subscribe(f"dh/notification/{place}/warm") == 1
        # Mosquitto is told of the device a moment later.
        own = f"dh/command_update/+/+/{device}/none"
        until(lambda: client.subscribe(own) == 1, "the broker does not know the device")
        # Of what fits into no record of TLS and no frame.
        parameters = {"celsius": 21.5, "text": "x" * 200_000}
        client.publish(f"dh/insert/notification/{device}/warm", parameters).wait_for_publish(WAIT)
        topic, warm = client.message()
        assert (topic, warm["notification"]["parameters"]) == (f"dh/notification/{place}/warm", parameters)
        assert mqtt.admin("POST", f"device/{device}/command", {"command": "blink"})[0] == 201
        topic, blink = client.message()
        assert topic == f"dh/command/{place}/blink"
        done = {"status": "done", "result": {"times": 3}}
        answer = client.ask(
            name, action="command/update", deviceId=device, commandId=blink["command"]["id"], command=done
        )
        assert answer["status"] == "success"
    path = f"device/{device}/command/{blink['command']['id']}"
    assert mqtt.admin("GET", path)[1]["status"] == "done"  # type: ignore[index, call-overload]


def test_mosquitto_pub_by_tls(mqtt: World, name: str) -> None:
    broker, device = mqtt.site.broker, mqtt.mine.device
    login, password = mqtt.account(f"{name}-p")
    command = [program("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(broker.tls_port), "-i", f"{name}-p", "-q", "1"]
    command += ["-u", login, "-P", password, "-m", "{}", "-t", f"dh/insert/notification/{device}/{name}"]
    with secure(mqtt, name) as client:
        assert client.subscribe(f"dh/notification/{mqtt.mine.network}/1/{device}/{name}") == 1
        subprocess.run([*command, "--cafile", broker.certificate.cert], check=True, timeout=WAIT)
        assert client.message()[1]["notification"]["notification"] == name
        refused = subprocess.run(command, timeout=WAIT, capture_output=True, check=False)
        assert refused.returncode != 0


def test_who_does_not_trust_the_certificate_does_not_connect(mqtt: World, name: str, tmp_path: Path) -> None:
    broker, another = mqtt.site.broker, certificates.make(tmp_path)
    command = [program("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(broker.tls_port), "-i", name, "-q", "1", "-n"]
    refused = subprocess.run(
        [*command, "-t", "mine/x", "--cafile", another.cert], timeout=WAIT, capture_output=True, check=False
    )
    assert refused.returncode != 0
    context = ssl.create_default_context(cafile=another.cert)
    for port in (broker.tls_port, broker.websocket_tls_port):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=WAIT) as raw,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            context.wrap_socket(raw, server_hostname="localhost")


def test_plain_text_at_a_tls_port_harms_nobody(mqtt: World, name: str) -> None:
    broker = mqtt.site.broker
    connect = b"\x10\x13\0\x04MQTT\x04\x02\0\x3c\0\x07abcdefg"
    upgrade = b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    with secure(mqtt, name) as client, secure(mqtt, f"{name}-w", websocket=True) as other:
        for port in (broker.tls_port, broker.websocket_tls_port):
            for said in (connect, upgrade, b"\x10\xff\xff\xff\x7f" + bytes(1000)):
                assert not answer(port, said).startswith((b"\x20", b"HTTP/1.1 101"))
        for each in (client, other):
            assert each.subscribe(f"dh/response/device/get@{each.id}") == 1
            assert each.ask(each.id, action="device/get", deviceId=mqtt.mine.device)["status"] == "success"


def answer(port: int, said: bytes) -> bytes:
    """All that comes until the end."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as raw, contextlib.suppress(ConnectionResetError):
        raw.sendall(said)
        while part := raw.recv(1000):
            found += part
    return found
