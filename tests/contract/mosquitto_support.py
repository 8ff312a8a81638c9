"""The distribution's Mosquitto with dynamic security, for tests without services."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy import mosquitto, ports, process
from deploy.mosquitto import Mosquitto
from mqtt_bridge.adapters.connection import Options
from tests.engines import missing

BRIDGE, SECRET = "skep-bridge", "of-the-bridge"


class Machine:
    """A Mosquitto that can be stopped, killed and robbed of its memory."""

    def __init__(self, data: Path) -> None:
        self.broker = Mosquitto(data, "127.0.0.1", ports.free(1)[0], BRIDGE, SECRET)
        self._child: Any = None

    def start(self) -> None:
        spec = self.broker.spec()
        with (self.broker.data.parent / "mosquitto.log").open("ab") as output:
            self._child = process.spawn(spec, output.fileno())
        process.wait(spec, self._child)

    def stop(self) -> None:
        process.end(self._child, self.broker.spec().stop, 5)

    def forget(self) -> None:
        """All it knew is gone."""
        self.stop()
        for path in self.broker.data.iterdir():
            path.unlink()
        self.start()

    @property
    def options(self) -> Options:
        return Options("127.0.0.1", self.broker.port, BRIDGE, SECRET, "control")


@contextmanager
def running(folder: Path) -> Iterator[Machine]:
    if not mosquitto.is_here():
        missing("mosquitto", "it is not installed with its dynamic-security plugin; the package is mosquitto")
    made = Machine(folder / "mosquitto")
    made.start()
    try:
        yield made
    finally:
        made.stop()
