"""A plugin on the unchanged PyPI library `devicehive-plugin`.

    python pypi_plugin.py PROXY TOPIC CREDENTIALS

CREDENTIALS: JSON of the library's options (plugin_access_token, or login, password, auth_url …). Writes a JSON object a
line: {"connected": true}, then each event as the library gives it. Disconnects in order when its standard input ends.
"""

import json
import sys
import threading

from devicehive_plugin import Handler, Plugin

NOTIFICATION = ("id", "notification", "device_id", "timestamp", "parameters")
COMMAND = (
    "id", "command", "device_id", "timestamp", "last_updated", "user_id", "parameters", "lifetime", "status", "result",
)  # fmt: skip


def say(**line):
    print(json.dumps(line), flush=True)


class Writer(Handler):
    def handle_connect(self):
        say(connected=True)
        threading.Thread(target=self.wait, daemon=True).start()

    def wait(self):
        sys.stdin.read()
        self.disconnect()

    def handle_event(self, event):
        self.raw = event.raw_data

    def handle_notification(self, notification):
        self.told("notification/insert", {name: getattr(notification, name) for name in NOTIFICATION})

    def handle_command_insert(self, command):
        self.told("command/insert", {name: getattr(command, name) for name in COMMAND})

    def handle_command_update(self, command):
        self.told("command/update", {name: getattr(command, name) for name in COMMAND})

    def told(self, action, data):
        say(action=action, data=data, raw=self.raw)


# The library looks every microsecond by itself, which keeps a core busy for each plugin.
CALM = {f"{name}_sleep_time": 0.002 for name in ("transport_alive", "event_queue", "response")}
proxy, topic, credentials = sys.argv[1:]
Plugin(Writer).connect(proxy, topic, **json.loads(credentials), **CALM)
