"""How fast a client may send. Pure."""

from __future__ import annotations

SECONDS = 2
"""What a client that was quiet may send at once, in seconds of its rate."""
DEBT = 8
"""And how much more it may try before it is cut off."""


class Excess(Exception):
    """The client goes on although it is refused."""


class Rate:
    """A bucket: `rate` a second flows in, what is sent is taken out. 0: no limit. Times in ms."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._level = float(rate * SECONDS)
        self._at: int | None = None

    def take(self, amount: int, now: int) -> bool:
        """Whether it may be done. What is refused is taken out too, so that who goes on gets nothing; raises Excess
        when it goes on for long."""
        if not self._rate:
            return True
        if self._at is not None:
            self._level = min(self._level + self._rate * max(0, now - self._at) / 1000, self._rate * SECONDS)
        self._at = now
        self._level -= amount
        if self._level < -self._rate * DEBT:
            raise Excess
        return self._level >= 0

    def give(self, amount: int) -> None:
        """Put back what was not meant to cost anything."""
        self._level = min(self._level + amount, float(self._rate * SECONDS))
