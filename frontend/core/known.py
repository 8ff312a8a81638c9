"""Devices that are known without waiting, for inserts: before `skep.metadata.Caches`, whose answer is a coroutine.

Entries and those of the caches behind are together at most 60 s old, and dropped by the same changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from skep.metadata.rows import Device

MAX_AGE = 30.0
MAX_DEVICES = 20_000


class Known:
    def __init__(
        self, max_age: float = MAX_AGE, limit: int = MAX_DEVICES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_age, self._limit, self._clock = max_age, limit, clock
        self._devices: dict[str, tuple[Device, float]] = {}
        self.state = 0
        """Changes with every drop. What was read before one may be from before the change."""

    def __len__(self) -> int:
        return len(self._devices)

    def get(self, id: str) -> Device | None:
        found = self._devices.get(id)
        if found is None or found[1] < self._clock():
            return None
        return found[0]

    def keep(self, device: Device, state: int) -> None:
        """state: as it was when the device was asked for."""
        if state != self.state:
            return
        self._devices.pop(device.id, None)
        self._devices[device.id] = (device, self._clock() + self._max_age)
        if len(self._devices) > self._limit:
            del self._devices[next(iter(self._devices))]

    def changed(self, entity: str, ids: list[str]) -> None:
        """Listener to changes of metadata; no ids: all. A network's or type's change may take devices with it."""
        if entity not in ("device", "network", "device_type"):
            return
        self.state += 1
        if entity != "device" or not ids:
            self._devices.clear()
        for id in ids:
            self._devices.pop(id, None)
