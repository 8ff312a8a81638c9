"""A connection of the PyPI client that is open for the program, with what was pushed to it."""

import threading
import time
from collections import Counter

from devicehive import DeviceHive, Handler

DEADLINE = 30
# The library's own pauses are a microsecond long and take a core each.
PAUSES = {"transport_alive_sleep_time": 0.005}
TRANSPORT_PAUSES = {
    "http": {"events_queue_sleep_time": 0.002},
    "websocket": {"event_queue_sleep_time": 0.002, "response_sleep_time": 0.0002},
}


class Inbox(Handler):
    """Keeps what is pushed, in the order it came: ("notification" | "insert" | "update", entity)."""

    def __init__(self, api, connected):
        super().__init__(api)
        self.connected = connected
        self.came = threading.Condition()
        self.events = []
        self.devices = None  # ids, where others' messages come too

    def handle_connect(self):
        self.connected.set()

    def handle_notification(self, notification):
        self._keep("notification", notification)

    def handle_command_insert(self, command):
        self._keep("insert", command)

    def handle_command_update(self, command):
        self._keep("update", command)

    def take(self, count):
        """Waits until so many have come; gives all that is there then."""
        with self.came:
            if not self.came.wait_for(lambda: len(self.events) >= count, DEADLINE):
                kinds = dict(Counter(kind for kind, _ in self.events))
                raise SystemExit(f"of {count} messages only these came: {kinds}")
            taken, self.events = self.events, []
        return taken

    def _keep(self, kind, entity):
        with self.came:
            is_own = self.devices is None or entity.device_id in self.devices
            # What the platform itself says of a saved device has tests of its own.
            if is_own and (kind != "notification" or not entity.notification.startswith("$")):
                self.events.append((kind, entity))
                self.came.notify_all()


class Connection:
    """`with Connection(url, login=…, password=…) as api`; raises what the library raises while it connects."""

    def __init__(self, url, handler=Inbox, **options):
        self.hive = DeviceHive(handler, connected := threading.Event())
        self.error = None
        options = {"max_num_connect": 0, **PAUSES, **TRANSPORT_PAUSES[DeviceHive.transport_name(url)], **options}
        self.thread = threading.Thread(target=self._run, args=(url, options), daemon=True)
        self.thread.start()
        while not connected.wait(0.005):
            if not self.thread.is_alive():
                raise self.error or SystemExit("ended before it was connected")

    def _run(self, url, options):
        try:
            self.hive.connect(url, **options)
        except BaseException as error:
            self.error = error

    @property
    def api(self):
        return self.hive.handler.api

    @property
    def inbox(self):
        return self.hive.handler

    def close(self):
        self.api.disconnect()
        self.thread.join(DEADLINE)
        if self.error is not None:
            raise self.error

    def __enter__(self):
        return self.api

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.close()


def until(condition):
    """Waits for something that happens by itself."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain")
        time.sleep(0.001)
