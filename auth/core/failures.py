"""Brute force: failed logins in the last minute, for each (login, address) and for each address.

Nothing is counted for a login alone: others' failures from elsewhere must not keep its owner out.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque

from skep.errors import TooManyRequests

WINDOW = 60.0
MAX_KEYS = 100_000
"""Keys remembered, the least recently failed go first. An attacker who fills this has as many addresses."""


class Failures:
    """`check` before a password is looked at, then `failed` or `succeeded`. Times in seconds of any steady clock."""

    def __init__(self, per_login: int, per_address: int) -> None:
        self._per_login, self._per_address = per_login, per_address
        self._times: OrderedDict[tuple[str, str | None], deque[float]] = OrderedDict()

    def check(self, login: str, address: str, now: float) -> None:
        """Raises `TooManyRequests` with the seconds until it is worth trying again."""
        place = _place(address)
        wait = max(
            self._wait((place, login), self._per_login, now),
            self._wait((place, None), self._per_address, now),
        )
        if wait > 0:
            raise TooManyRequests("Too many failed logins", retry_after=int(wait) + 1)

    def failed(self, login: str, address: str, now: float) -> None:
        place = _place(address)
        self._note((place, login), self._per_login, now)
        self._note((place, None), self._per_address, now)

    def succeeded(self, login: str, address: str) -> None:
        """Forgets the login's failures from there; the address keeps its count, or an own account would reset it."""
        self._times.pop((_place(address), login), None)

    def _wait(self, key: tuple[str, str | None], limit: int, now: float) -> float:
        times = self._times.get(key)
        if times is None or len(times) < limit:
            return 0.0
        return times[0] + WINDOW - now  # the deque holds the newest `limit`

    def _note(self, key: tuple[str, str | None], limit: int, now: float) -> None:
        self._times.setdefault(key, deque(maxlen=limit)).append(now)
        self._times.move_to_end(key)
        if len(self._times) > MAX_KEYS:
            self._times.popitem(last=False)


def _place(address: str) -> str:
    # One customer has a whole /64 of IPv6.
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network(f"{address.partition('%')[0]}/64", strict=False))
    except ValueError:
        return address
