"""What a user of the unchanged PyPI client does, in two connections: one is the device, one the application.

    python pypi_roundtrip.py URL LOGIN PASSWORD DEVICE_ID

Exits 0 and prints one JSON object of what each side saw; exits 1 with the reason on stderr.
"""

import json
import sys
import threading
import time

from devicehive import DeviceHive, DeviceHiveApi, Handler

DEADLINE = 60


class DeviceSide(Handler):
    """Saves the device, subscribes, answers every command."""

    def __init__(self, api, device_id, seen):
        super().__init__(api)
        self.device_id, self.seen = device_id, seen

    def handle_connect(self):
        device = self.api.put_device(self.device_id, name="pypi " + self.device_id, data={"kind": "thermometer"})
        device.subscribe_notifications()
        device.subscribe_insert_commands()
        self.seen["subscribed"].set()

    def handle_notification(self, notification):
        if notification.notification.startswith("$"):
            return
        self.seen["notifications"].append([notification.id, notification.notification, notification.parameters])
        self.seen["notified"].set()

    def handle_command_insert(self, command):
        self.seen["commands"].append([command.id, command.command, command.parameters])
        command.status = "done"
        command.result = {"position": command.parameters["position"]}
        command.save()


class Watcher(Handler):
    """Waits for the updated command."""

    def __init__(self, api, device_id, seen):
        super().__init__(api)
        self.device_id, self.seen = device_id, seen

    def handle_connect(self):
        self.api.subscribe_update_commands(self.device_id)
        self.seen["watching"].set()

    def handle_command_update(self, command):
        self.seen["updates"].append([command.id, command.status, command.result])
        self.seen["updated"].set()


def wait(seen, name):
    if not seen[name].wait(DEADLINE):
        raise SystemExit(f"no {name} within {DEADLINE} s; seen: {seen}")


def connect(handler, url, login, password, device_id, seen):
    hive = DeviceHive(handler, device_id, seen)
    threading.Thread(
        target=lambda: hive.connect(url, login=login, password=password, max_num_connect=1), daemon=True
    ).start()


def main(url, login, password, device_id):
    seen = {name: threading.Event() for name in ("subscribed", "watching", "notified", "updated")}
    seen |= {"notifications": [], "commands": [], "updates": []}
    connect(DeviceSide, url, login, password, device_id, seen)
    wait(seen, "subscribed")
    connect(Watcher, url, login, password, device_id, seen)
    wait(seen, "watching")

    app = DeviceHiveApi(url, login=login, password=password)
    device = app.get_device(device_id)
    notification = device.send_notification("temperature", parameters={"celsius": 21.5, "place": "Küche"})
    command = device.send_command("valve/open", parameters={"position": 7})
    wait(seen, "notified")
    wait(seen, "updated")
    deadline = time.monotonic() + DEADLINE
    while True:
        listed = [c for c in device.list_commands() if c.id == command.id]
        if listed and listed[0].status == "done":
            break
        if time.monotonic() > deadline:
            raise SystemExit(f"the command never showed its status: {[(c.id, c.status) for c in listed]}")
    print(
        json.dumps(
            {
                "device": [device.id, device.name, device.data, device.network_id, device.is_blocked],
                "sent": [notification.id, command.id],
                "listed_notifications": [n.id for n in device.list_notifications(notification="temperature")],
                "listed_command": [listed[0].id, listed[0].status, listed[0].result],
                "notifications": seen["notifications"],
                "commands": seen["commands"],
                "updates": seen["updates"],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
