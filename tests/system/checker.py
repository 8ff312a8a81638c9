"""Judges a run: what was promised against what was seen. Pure; `traffic.py` fills the ledger, `judge` reads it.

Every notification carries (sender, sequence). A sender writes to one device, one socket at a time, in order.
Times are `time.monotonic()` of the one process that drives the whole run, so they can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Key = tuple[str, int]
"""(sender, sequence)"""


@dataclass
class Sent:
    """One insert. `acked` is when its success came, with the id that the platform gave it."""

    key: Key
    device: str
    at: float
    acked: float | None = None
    id: int | None = None
    failed: str | None = None


@dataclass
class Socket:
    """One subscriber's socket. Deliveries are (key, id) as they came in.

    subscribed: when the subscribe was acknowledged; closed: when the socket went away, None while it is open.
    """

    subscriber: str
    device: str
    subscribed: float
    closed: float | None = None
    deliveries: list[tuple[Key, int]] = field(default_factory=list)


@dataclass
class Verdict:
    """Each list holds one line for each finding; an empty verdict is a good one."""

    lost: list[str] = field(default_factory=list)
    not_delivered: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    two_ids: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    attempts: int = 0
    acknowledged: int = 0
    deliveries: int = 0
    sockets: int = 0
    resumed: int = 0

    def findings(self) -> dict[str, list[str]]:
        """What is wrong, by kind. `refused` is not in it: a refusal during a fault is allowed."""
        kinds = ("lost", "not_delivered", "duplicated", "out_of_order", "two_ids")
        return {kind: getattr(self, kind)[:10] for kind in kinds if getattr(self, kind)}

    def summary(self) -> str:
        return (
            f"attempts {self.attempts}, acknowledged {self.acknowledged}, refused {len(self.refused)}, "
            f"deliveries {self.deliveries} on {self.sockets} sockets ({self.resumed} resumed); "
            f"lost {len(self.lost)}, not delivered {len(self.not_delivered)}, duplicated {len(self.duplicated)}, "
            f"out of order {len(self.out_of_order)}, two ids {len(self.two_ids)}"
        )


@dataclass
class Ledger:
    """What happened. `stored[device]` is what GET returned at the end, (key, id) by rising timestamp."""

    sent: dict[Key, Sent] = field(default_factory=dict)
    sockets: list[Socket] = field(default_factory=list)
    stored: dict[str, list[tuple[Key, int]]] = field(default_factory=dict)


def judge(ledger: Ledger) -> Verdict:
    verdict = Verdict(attempts=len(ledger.sent), sockets=len(ledger.sockets))
    acked = [sent for sent in ledger.sent.values() if sent.acked is not None]
    verdict.acknowledged = len(acked)
    verdict.refused = [f"{s.key}: {s.failed}" for s in ledger.sent.values() if s.failed]
    _lost(ledger, acked, verdict)
    _delivered(ledger, acked, verdict)
    _sockets(ledger, verdict)
    _ids(ledger, verdict)
    return verdict


def _lost(ledger: Ledger, acked: list[Sent], verdict: Verdict) -> None:
    found = {device: dict(rows) for device, rows in ledger.stored.items()}
    for sent in acked:
        if sent.key not in found.get(sent.device, {}):
            verdict.lost.append(f"{sent.key} acknowledged with id {sent.id}, not found by GET")
    for device, rows in ledger.stored.items():
        _rising([key for key, _ in rows], f"GET of {device}", verdict)


def _delivered(ledger: Ledger, acked: list[Sent], verdict: Verdict) -> None:
    """A subscriber's sockets are one chain: the next one resumes by timestamp where the last one ended."""
    chains: dict[str, list[Socket]] = {}
    for socket in ledger.sockets:
        chains.setdefault(socket.subscriber, []).append(socket)
    by_device: dict[str, list[Sent]] = {}
    for sent in acked:
        by_device.setdefault(sent.device, []).append(sent)
    for subscriber, chain in chains.items():
        verdict.resumed += len(chain) - 1
        last = chain[-1]
        seen = {key for socket in chain for key, _ in socket.deliveries}
        highest: dict[str, int] = {}
        for sender, sequence in seen:
            highest[sender] = max(sequence, highest.get(sender, -1))
        for sent in by_device.get(last.device, []):
            # A chain that ended closed is owed nothing after its last delivery, but no hole before it.
            open_or_before = last.closed is None or sent.key[1] < highest.get(sent.key[0], -1)
            if sent.at >= chain[0].subscribed and open_or_before and sent.key not in seen:
                verdict.not_delivered.append(f"{sent.key} not delivered to {subscriber} ({len(chain)} sockets)")


def _sockets(ledger: Ledger, verdict: Verdict) -> None:
    for number, socket in enumerate(ledger.sockets):
        verdict.deliveries += len(socket.deliveries)
        keys = [key for key, _ in socket.deliveries]
        if len(set(keys)) != len(keys):
            twice = sorted({key for key in keys if keys.count(key) > 1})
            verdict.duplicated.append(f"socket {number} of {socket.subscriber}: {twice[:5]}")
        _rising(keys, f"socket {number} of {socket.subscriber}", verdict)


def _rising(keys: list[Key], where: str, verdict: Verdict) -> None:
    highest: dict[str, int] = {}
    for sender, sequence in keys:
        if sequence < highest.get(sender, -1):
            verdict.out_of_order.append(f"{where}: ({sender}, {sequence}) after {highest[sender]}")
        highest[sender] = max(sequence, highest.get(sender, -1))


def _ids(ledger: Ledger, verdict: Verdict) -> None:
    ids: dict[Key, set[int]] = {}
    for sent in ledger.sent.values():
        if sent.id is not None:
            ids.setdefault(sent.key, set()).add(sent.id)
    for rows in [*ledger.stored.values(), *(socket.deliveries for socket in ledger.sockets)]:
        for key, number in rows:
            ids.setdefault(key, set()).add(number)
    verdict.two_ids = [f"{key}: {sorted(numbers)}" for key, numbers in ids.items() if len(numbers) > 1]


# -- plugins


@dataclass
class Push:
    """One message as a plugin's socket got it; `at` and `confirmed` on the clock of the run, None: not confirmed."""

    key: Key
    id: int
    at: float
    socket: int
    confirmed: float | None = None


@dataclass
class Reading:
    """What a plugin's reader (the sockets of one group, or one socket alone) came to."""

    missing: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    two_ids: list[str] = field(default_factory=list)
    pushes: int = 0
    again: int = 0

    def findings(self) -> dict[str, list[str]]:
        kinds = ("missing", "out_of_order", "repeated", "two_ids")
        return {kind: getattr(self, kind)[:10] for kind in kinds if getattr(self, kind)}

    def summary(self) -> str:
        return (
            f"{self.pushes} pushes, {self.again} of them again; missing {len(self.missing)}, out of order "
            f"{len(self.out_of_order)}, again after confirmation {len(self.repeated)}, two ids {len(self.two_ids)}"
        )


def read(sent: dict[Key, Sent], pushes: list[Push]) -> Reading:
    """pushes: in the order they came in, over all sockets. A message may come again where it was not confirmed."""
    reading = Reading(pushes=len(pushes))
    last: dict[Key, Push] = {}
    furthest: dict[str, int] = {}
    for push in pushes:
        sender, sequence = push.key
        before = last.get(push.key)
        if before is not None:
            reading.again += 1
            if before.confirmed is not None and before.confirmed < push.at:
                reading.repeated.append(f"{push.key} on socket {push.socket}, confirmed on {before.socket}")
            if before.id != push.id:
                reading.two_ids.append(f"{push.key}: {before.id}, {push.id}")
        elif sequence < furthest.get(sender, -1):
            reading.out_of_order.append(f"{push.key} on socket {push.socket} after {furthest[sender]}")
        furthest[sender] = max(sequence, furthest.get(sender, -1))
        last[push.key] = push
    for one in sent.values():
        if one.acked is not None and one.key not in last:
            reading.missing.append(f"{one.key}, acknowledged with id {one.id}")
        elif one.id is not None and one.key in last and last[one.key].id != one.id:
            reading.two_ids.append(f"{one.key}: {one.id} acknowledged, {last[one.key].id} pushed")
    return reading
