"""Timestamps the backend gives: the log's append time, but each device's later than the one before."""

from __future__ import annotations

from collections import OrderedDict

DEVICES = 20_000
"""Remembered in a partition; whoever is forgotten starts above what they had."""

Key = tuple[int, str]
"""(kind, device id): notifications, commands and updates are lists of their own."""


class Timestamps:
    """Of one partition. floor: everything given from now on is above it (ms)."""

    def __init__(self, floor: int = 0, devices: int = DEVICES) -> None:
        self.highest = floor
        """Highest ever given or seen."""
        self._floor = floor
        self._devices = devices
        self._last: OrderedDict[Key, int] = OrderedDict()

    def give(self, key: Key, time: int, above: int = 0) -> int:
        """A timestamp for a message that the log took at `time`, later than `above` too."""
        last = self._last.get(key, self._floor)
        given = max(time, last + 1, above + 1)
        self._note(key, given)
        return given

    def seen(self, key: Key, timestamp: int) -> None:
        """This was given before (the record is repeated)."""
        if timestamp > self._last.get(key, self._floor):
            self._note(key, timestamp)

    def _note(self, key: Key, timestamp: int) -> None:
        self._last[key] = timestamp
        self._last.move_to_end(key)
        if timestamp > self.highest:
            self.highest = timestamp
        if len(self._last) > self._devices:
            _, evicted = self._last.popitem(last=False)
            self._floor = max(self._floor, evicted)
