"""The PyPI client while tokens expire and the frontend hangs or is started anew.

    python tests/system/clients/pypi/faults.py URL REFRESH_TOKEN DEVICE_ID

Says on stdout what it waits for, goes on with the next line on stdin, and ends with a JSON object as `__main__.py`.
"""

import json
import sys
import time

import recorder

recorder.record()

import checks  # noqa: E402  what follows imports the client
from checks import same  # noqa: E402
from connection import DEADLINE, Connection, until  # noqa: E402

LIFE = 3000
"""Of an access token, ms: enough to subscribe with it."""


def main(url, refresh_token, device_id):
    credentials = {"refresh_token": refresh_token}
    sender = Connection(url.replace("http", "ws").replace("/rest", "/websocket"), **credentials)
    device = sender.api.put_device(device_id)
    first = device.send_notification("fault", {"n": 1})
    _expiry(url, credentials, sender, device_id, first)
    if url.startswith("ws"):
        _hang(url, credentials, sender, device_id, first)
    else:
        _say("not disturbed by a frontend that hangs")
        _say("the same afterwards")
    _restart(url, credentials, device_id, first)
    print(json.dumps({"differences": checks.DIFFERENCES, "unused": recorder.unused()}))


def _say(what):
    print(what, flush=True)
    sys.stdin.readline()


def _expiry(url, credentials, sender, device_id, first):
    """Who asks gets a new token without knowing, and the subscription goes on."""
    with Connection(url, **credentials) as api:
        inbox, expires = api.transport.handler.handler, int(time.time() * 1000) + LIFE
        # As if its half hour were nearly over.
        rights = {"actions": ["*"], "network_ids": ["*"], "device_type_ids": ["*"]}
        pair = api.create_token(api.get_current_user().id, expiration=expires, **rights)
        api.token._access_token = old = pair["access_token"]
        api.token._auth()
        api.subscribe_notifications(device_id, names=["fault"], timestamp=first.timestamp)
        until(lambda: time.time() * 1000 > expires + 1)
        if url.startswith("http"):
            # The polls ask by themselves.
            until(lambda: api.token.access_token != old)
        same(api.get_device(device_id).id, device_id)
        same(api.token.access_token == old, False)
        sent = sender.api.send_notification(device_id, "fault", {"n": 2})
        same([n.id for _, n in inbox.take(1)], [sent.id])


def _hang(url, credentials, sender, device_id, first):
    """No pong for a while: the client connects again when it can, and makes its subscriptions anew."""
    hung = Connection(url, pong_timeout=1.5, max_num_connect=100, connect_interval=0.05, **credentials)
    subscription = hung.api.subscribe_notifications(device_id, names=["fault"], timestamp=first.timestamp)
    before = _came(hung, 1)
    _say("connected, may hang")
    until(lambda: not hung.hive.transport.connected)
    old = subscription.id
    _say("lost, may go on")
    until(lambda: hung.hive.transport.connected and subscription.id != old)
    # What the subscription asked for at first comes again.
    same(_came(hung, 1) >= before, True)
    sent = sender.api.send_notification(device_id, "fault", {"n": 3})
    end = time.monotonic() + DEADLINE
    while sent.id not in _came(hung, 1):
        if time.monotonic() > end:
            raise SystemExit("nothing came after the client had connected again")
    hung.close()


def _came(connection, count):
    return {notification.id for _, notification in connection.inbox.take(count)}


def _restart(url, credentials, device_id, first):
    """With another connection, which is what the client leaves to its user after any error."""
    old = Connection(url, **credentials)
    old.api.subscribe_notifications(device_id, names=["fault"], timestamp=first.timestamp)
    seen = _came(old, 1)
    _say("may start anew")
    with Connection(url, **credentials) as api:
        stored = api.list_notifications(device_id, notification="fault", take=100)
        same(seen <= {n.id for n in stored}, True)
        api.subscribe_notifications(device_id, names=["fault"], timestamp=max(n.timestamp for n in stored))
        sent = api.send_notification(device_id, "fault", {"n": 4})
        same([n.id for _, n in api.transport.handler.handler.take(1)], [sent.id])


if __name__ == "__main__":
    main(*sys.argv[1:])
