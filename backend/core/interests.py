"""The index of interests: who wants a message. Filled by the records of `subscriptions`, in order.

A filter is (kind, network, device type, device, name), each of the last four exact or any, so a message can match
at most 16 of them; those shapes nobody uses are not even looked up.
"""

from __future__ import annotations

from itertools import product

from msgspec import MsgspecError

from skep.wire.messages import Interest, decode_interest, decode_lease

LEASE = b"lease/"
TOMBSTONES = 3
"""An owner whose lease is over for so many durations is cleared from the topic. Not at once: an owner that comes
back late publishes its interests again, and a tombstone on its way would take them out."""

Filter = tuple[int, int | None, int | None, str | None, str | None]
Shape = tuple[bool, bool, bool, bool]


class _Owner:
    __slots__ = ("duration", "keys", "lapsed", "leased", "until")

    def __init__(self, until: int, duration: int) -> None:
        self.keys: set[bytes] = set()
        self.until = until
        self.duration = duration
        self.leased = False
        self.lapsed = False


class Interests:
    """Times are ms of one clock, the caller's.

    patience: how long an owner without a lease record is believed to have one on its way.
    """

    def __init__(self, patience: int = 60_000) -> None:
        self._patience = patience
        self.clear()

    def clear(self) -> None:
        """Forget everything: the log is a new one."""
        self.position = 0
        """Next offset of `subscriptions`."""
        self._records: dict[bytes, Interest] = {}
        self._owners: dict[str, _Owner] = {}
        self._index: dict[Filter, dict[str, int]] = {}
        self._shapes: dict[tuple[int, Shape], int] = {}
        self._looked_up: dict[int, tuple[Shape, ...]] = {}

    def __len__(self) -> int:
        """Interests in effect."""
        return sum(sum(destinations.values()) for destinations in self._index.values())

    # -- matching ------------------------------------------------------------------------------------------------

    def match(self, kind: int, network: int, device_type: int, device: str, name: str) -> set[str]:
        """Destinations that want the message, each once."""
        found: set[str] = set()
        index = self._index
        for n, t, d, m in self._looked_up.get(kind, ()):
            hit = index.get(
                (kind, network if n else None, device_type if t else None, device if d else None, name if m else None)
            )
            if hit is not None:
                found.update(hit)
        return found

    # -- records -------------------------------------------------------------------------------------------------

    def apply(self, offset: int, key: bytes | None, payload: bytes | None, now: int) -> None:
        """Take one record. What can't be read is passed over (ValueError, position moved on)."""
        self.position = offset + 1
        if key is None:
            return
        try:
            if key.startswith(LEASE):
                self._lease(key, payload, now)
            elif payload is None:
                self._remove(key)
            else:
                self._set(key, decode_interest(payload), now)
        except MsgspecError as e:
            raise ValueError(f"record {offset} of subscriptions: {e}") from e

    def _lease(self, key: bytes, payload: bytes | None, now: int) -> None:
        if payload is None:
            gone = self._owners.pop(key.removeprefix(LEASE).decode(errors="replace"), None)
            for interest in gone.keys if gone is not None else ():
                self._out(self._records.pop(interest), unless=gone)
            return
        lease = decode_lease(payload)
        until = now + lease.duration
        owner = self._owners.setdefault(lease.owner, _Owner(until, lease.duration))
        owner.until, owner.duration, owner.leased = until, lease.duration, True
        if owner.lapsed and until > now:
            owner.lapsed = False
            for interest in owner.keys:
                self._in(self._records[interest])

    def _set(self, key: bytes, interest: Interest, now: int) -> None:
        self._remove(key)
        self._records[key] = interest
        owner = None
        if interest.owner:
            owner = self._owners.setdefault(interest.owner, _Owner(now + self._patience, self._patience))
            owner.keys.add(key)
        if owner is None or not owner.lapsed:
            self._in(interest)

    def _remove(self, key: bytes) -> None:
        interest = self._records.pop(key, None)
        if interest is None:
            return
        owner = self._owners.get(interest.owner)
        if owner is not None:
            owner.keys.discard(key)
            if not owner.keys and not owner.leased:
                del self._owners[interest.owner]
        self._out(interest, unless=owner)

    # -- leases --------------------------------------------------------------------------------------------------

    def expire(self, now: int) -> list[bytes]:
        """Put interests of owners whose lease is over out of effect (a renewed lease brings them back). Returns
        the keys to put tombstones on: those of owners that are gone for good, the lease's last."""
        gone: list[bytes] = []
        for name, owner in self._owners.items():
            if owner.until > now:
                continue
            if not owner.lapsed:
                for key in owner.keys:
                    self._out(self._records[key])
                owner.lapsed = True
            if owner.until + (TOMBSTONES - 1) * owner.duration <= now:
                gone += [*owner.keys, LEASE + name.encode()]
        return gone

    # -- the index -----------------------------------------------------------------------------------------------

    def _in(self, interest: Interest) -> None:
        filter_ = _filter(interest)
        destinations = self._index.setdefault(filter_, {})
        destinations[interest.destination] = destinations.get(interest.destination, 0) + 1
        self._count(filter_, 1)

    def _out(self, interest: Interest, unless: _Owner | None = None) -> None:
        if unless is not None and unless.lapsed:
            return
        filter_ = _filter(interest)
        destinations = self._index[filter_]
        destinations[interest.destination] -= 1
        if not destinations[interest.destination]:
            del destinations[interest.destination]
        if not destinations:
            del self._index[filter_]
        self._count(filter_, -1)

    def _count(self, filter_: Filter, by: int) -> None:
        kind, (a, b, c, d) = filter_[0], filter_[1:]
        shape = (a is not None, b is not None, c is not None, d is not None)
        before = self._shapes.get((kind, shape), 0)
        self._shapes[kind, shape] = before + by
        if not before or not before + by:
            shapes = (s for s in product((False, True), repeat=4) if self._shapes.get((kind, (s[0], s[1], s[2], s[3]))))
            self._looked_up[kind] = tuple((s[0], s[1], s[2], s[3]) for s in shapes)


def _filter(interest: Interest) -> Filter:
    i = interest
    return (i.kind, i.network_id, i.device_type_id, i.device_id, i.name)
