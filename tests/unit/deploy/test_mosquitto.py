"""The files Mosquitto is started with, and when the launcher takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy import mosquitto
from deploy.mosquitto import Mosquitto, Tls
from deploy.options import Options
from mqtt_bridge.core import dynsec
from skep import settings


def security(known: dict[str, Any] | None = None, password: str = "p") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mosquitto.security(known, "bridge", password))
    return found


def test_in_the_beginning_there_is_the_bridge_alone():
    made = security()
    assert made["defaultACLAccess"] == dynsec.DEFAULTS
    assert [client["username"] for client in made["clients"]] == ["bridge"]
    [role] = made["roles"]
    assert {acl["topic"] for acl in role["acls"]} == {"$CONTROL/dynamic-security/#", "dh/#"}
    assert "p" not in (made["clients"][0]["password"], made["clients"][0]["salt"])


def test_what_is_known_stays_and_the_same_password_is_not_hashed_anew():
    known = security()
    known["clients"].append({"username": "ann", "roles": [{"rolename": "r"}]})
    known["roles"].append({"rolename": "r", "acls": []})
    assert security(json.loads(json.dumps(known))) == known


@pytest.mark.parametrize("spoilt", [{"password": "!"}, {"salt": None}, {"iterations": "x"}])
def test_another_password_or_a_spoilt_hash_is_replaced(spoilt):
    known = security()
    known["clients"][0] |= spoilt
    [own] = security(known)["clients"]
    assert mosquitto._fits(own, "p")
    assert not mosquitto._fits(own, "q")
    assert mosquitto._fits(security(known, "q")["clients"][0], "q")


def test_the_file_is_read_or_made_anew(tmp_path):
    path = tmp_path / "dynamic-security.json"
    assert mosquitto._read(path) is None
    path.write_text('{"clients": [')
    assert mosquitto._read(path) is None
    mosquitto._write(path, mosquitto.security(None, "bridge", "p"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert mosquitto._read(path) is not None


def test_the_configuration():
    made = Mosquitto(Path("/data"), "127.0.0.1", 1883, "bridge", "p")
    text = made.config(Path("/plugin.so"))
    assert "allow_anonymous false" in text
    assert "websockets" not in text
    assert "listener 8083 127.0.0.1\nprotocol websockets" in Mosquitto(
        Path("/data"), "127.0.0.1", 1883, "bridge", "p", 8083
    ).config(Path("/plugin.so"))


def test_listeners_with_tls():
    files = "certfile /cert.pem\nkeyfile /cert.key\n"
    tls, websocket = f"listener 8883 0.0.0.0\n{files}", f"listener 8084 0.0.0.0\nprotocol websockets\n{files}"

    def config(port: int, websocket_port: int) -> str:
        made = Tls("0.0.0.0", port, websocket_port, Path("/cert.pem"), Path("/cert.key"))
        return Mosquitto(Path("/data"), "127.0.0.1", 1883, "bridge", "p", tls=made).config(Path("/plugin.so"))

    assert f"listener 1883 127.0.0.1\n{tls}{websocket}#" in config(8883, 8084)
    assert "websockets" not in config(8883, 0)
    assert "8883" not in config(0, 8084)


@pytest.mark.parametrize(
    ("environment", "is_here", "expected"),
    [
        ({"ENGINES": "full"}, True, True),
        ({"ENGINES": "full"}, False, False),
        ({}, True, False),
        ({"MQTT_BROKER": "mosquitto"}, True, True),
        ({"ENGINES": "full", "MQTT_BROKER": "amqtt"}, True, False),
        ({"ENGINES": "full", "MQTT_HOST": "elsewhere"}, True, False),
        ({"ENGINES": "full", "MQTT": "false"}, True, False),
    ],
)
def test_when_the_launcher_takes_it(monkeypatch, environment, is_here, expected):
    monkeypatch.setattr(mosquitto, "is_here", lambda: is_here)
    assert settings.load(Options, {"SKEP_PROFILE": "development", **environment}).runs_mosquitto == expected


def test_another_broker_is_refused():
    with pytest.raises(settings.Invalid, match="MQTT_BROKER"):
        settings.load(Options, {"SKEP_PROFILE": "development", "MQTT_BROKER": "other"})
