"""What the client sends, in order, until it has a device and a subscription: seen where it leaves the client."""

import json
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import requests
import websocket
from checks import same
from connection import Connection

OVER_HTTP = [
    ("POST", "token", ["login", "password"]),
    ("GET", "info", []),
    ("PUT", "device/{}", ["data", "deviceTypeId", "isBlocked", "name", "networkId"]),
    ("GET", "device/{}", []),
    ("GET", "device/notification/poll", ["deviceId", "limit", "timestamp", "waitTimeout"]),
]
OVER_WEBSOCKET = [
    ("token", ["login", "password"]),
    ("authenticate", ["token"]),
    ("server/info", []),
    ("device/save", ["device", "deviceId"]),
    ("device/get", ["deviceId"]),
    ("notification/subscribe", ["deviceId", "timestamp"]),
]


def sequence(world, credentials):
    sent = []
    with _watched_http(world, sent), _watched_websocket(sent), Connection(world.url, **credentials) as api:
        device = api.put_device(f"{world.prefix}-sequence")
        subscription = device.subscribe_notifications()
        expected = OVER_HTTP if world.is_http else OVER_WEBSOCKET
        same(
            [tuple(part.format(device.id) if isinstance(part, str) else part for part in each) for each in expected],
            sent[: len(expected)],
        )
        subscription.remove()
        device.remove()


def _watched_http(world, sent):
    def send(session, request, **options):
        split = urlsplit(request.url)
        same("Content-Type" in request.headers, False)
        names = [*parse_qs(split.query), *(json.loads(request.body) if request.body else ())]
        sent.append((request.method, split.path.removeprefix(f"{urlsplit(world.url).path}/"), sorted(names)))
        return original(session, request, **options)

    original = requests.Session.send
    return mock.patch.object(requests.Session, "send", send)


def _watched_websocket(sent):
    def send(socket, payload, *arguments, **options):
        if options.get("opcode") == websocket.ABNF.OPCODE_TEXT:
            message = json.loads(payload)
            sent.append((message.pop("action"), sorted(set(message) - {"requestId"})))
        return original(socket, payload, *arguments, **options)

    original = websocket.WebSocket.send
    return mock.patch.object(websocket.WebSocket, "send", send)
