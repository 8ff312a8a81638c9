"""What the person at the terminal sees once everything runs."""

from __future__ import annotations

import json
import shlex

from deploy.folder import Folder
from deploy.options import Options

LOGIN = "dhadmin"
SAMPLE_DEVICE = "e50d6085-2aba-48e9-b1c3-73c673e414be"
"""Comes with a new database."""


def lines(options: Options, folder: Folder, password: str) -> list[str]:
    """password: the admin's, "" if it is none that we know."""
    host = options.reachable
    rest = f"http://{host}:{options.frontend_port}/api/rest"
    auth = f"http://{host}:{options.auth_port}/auth/rest"
    shown = [
        "",
        f"Skep is ready. Engines: {options.engines}; data, logs and secrets: {folder.path}",
        "",
        f"  REST              {rest}",
        f"  WebSocket         ws://{host}:{options.frontend_port}/api/websocket",
        f"  logins, tokens    {auth}",
        f"  plugins           http://{host}:{options.plugin_manager_port}/plugin/rest",
        f"  bus for services  ws://127.0.0.1:{options.proxy_port}",
        f"  bus for plugins   ws://{host}:{options.proxy_plugin_port}",
        *_mqtt(options),
        "",
        f"  login             {LOGIN}",
        f"  password          {password or '(the one you gave it)'}",
    ]
    if not options.is_production:
        shown += [f"  {name.upper():<18}{value} (made just now)" for name, value in _new_secrets(folder)]
    shown += ["", "Try in another terminal:", "", *(f"  {line}" for line in commands(rest, auth, password)), ""]
    return [*shown, "Ctrl-C stops everything."]


def _mqtt(options: Options) -> list[str]:
    if not options.has_broker:
        return [f"  MQTT              the broker at {options.mqtt_host}:{options.mqtt_port}"] if options.mqtt else []
    plain = "127.0.0.1" if options.mqtt_tls_cert else options.reachable
    urls = [f"mqtt://{plain}:{options.mqtt_port}"]
    if options.mqtt_websocket_port:
        urls.append(f"ws://{plain}:{options.mqtt_websocket_port}")
    if options.mqtt_tls_cert and options.mqtt_tls_port:
        urls.append(f"mqtts://{options.reachable}:{options.mqtt_tls_port}")
    if options.mqtt_tls_cert and options.mqtt_websocket_tls_port:
        urls.append(f"wss://{options.reachable}:{options.mqtt_websocket_tls_port}")
    shown = [f"  MQTT              {', '.join(urls)}"]
    if options.runs_mosquitto:
        shown.append("                    (Mosquitto; POST /user/current/mqtt gives a password for it)")
    return shown


def commands(rest: str, auth: str, password: str) -> list[str]:
    """Log in; send a notification."""
    login = shlex.quote(json.dumps({"login": LOGIN, "password": password or "PASSWORD"}))
    notification = shlex.quote(json.dumps({"notification": "hello", "parameters": {"celsius": 21.5}}))
    kind = "-H 'Content-Type: application/json'"
    target = f"{rest}/device/{SAMPLE_DEVICE}/notification"
    pick = r"""sed 's/.*"accessToken" *: *"\([^"]*\)".*/\1/'"""
    return [
        f"TOKEN=$(curl -s {auth}/token {kind} -d {login} | {pick})",
        f'curl -s {target} -H "Authorization: Bearer $TOKEN" {kind} -d {notification}',
    ]


def _new_secrets(folder: Folder) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, value in folder.secrets_made.items()
        if name not in ("postgres_password", "mqtt_bridge_password")
    ]
