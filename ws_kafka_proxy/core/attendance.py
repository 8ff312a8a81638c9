"""The authenticated sockets of this run, and what plugin_manager lets them have. No I/O; times in ms.

Everything is told again with each `Attend`. An answer counts for a socket only if it was listed with its present wish:
what it was given for an earlier one says nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from skep.wire.plugins import Attend, Seat, Socket

LEASE = 3_000
"""After so long without an `Attend` our sockets count as gone."""
TRUSTED = 30_000
"""So long a seat is good without being confirmed. Rights may have shrunk since; pushing stops then."""


class Member:
    """One socket. `seat`: what its present wish was answered with, None until it is. `changed` is called at each
    answer. number: of the first `Attend` that lists the present wish, None: not sent yet."""

    def __init__(self, socket: Socket, now: int, changed: Callable[[], None]) -> None:
        self.socket = socket
        self.seat: Seat | None = None
        self.changed = changed
        self.number: int | None = None
        self.heard = now


class Attendance:
    """wake: called when something is to be told at once."""

    def __init__(self, run: str, wake: Callable[[], None]) -> None:
        self._run = run
        self._wake = wake
        self._members: dict[int, Member] = {}
        self._id = 0
        self._number = 0
        self._heard = 0

    def __len__(self) -> int:
        return len(self._members)

    def enter(self, topic: str, address: str, now: int, changed: Callable[[], None]) -> Member:
        """A socket that showed a token of this plugin."""
        self._id += 1
        member = self._members[self._id] = Member(Socket(self._id, topic, None, address, now), now, changed)
        self._wake()
        return member

    def wish(self, member: Member, group: str | None) -> None:
        """The subscription group it asks for, "" for none of its own, None while it is not subscribed."""
        if member.socket.group != group:
            # A copy: the former one may be in an Attend that is not encoded yet.
            old = member.socket
            member.socket = Socket(old.id, old.topic, group, old.address, old.since)
            member.number = member.seat = None
            self._wake()

    def leave(self, member: Member) -> None:
        if self._members.pop(member.socket.id, None) is not None:
            self._wake()

    def concerns(self, topics: list[str]) -> bool:
        """Whether sockets of one of these plugins are here; an empty list means all."""
        return any(not topics or member.socket.topic in topics for member in self._members.values())

    def ask(self) -> Attend:
        self._number += 1
        for member in self._members.values():
            if member.number is None:
                member.number = self._number
        return Attend(self._run, self._number, LEASE, [member.socket for member in self._members.values()])

    def answered(self, number: int, seats: list[Seat], now: int) -> None:
        """The answer to the `Attend` of that number."""
        if number < self._heard:
            return
        self._heard = number
        for seat in seats:
            member = self._members.get(seat.id)
            if member is not None and member.number is not None and member.number <= number:
                member.seat = seat
                member.heard = now
                member.changed()

    def trusted(self, member: Member, now: int) -> bool:
        """Whether its seat was confirmed lately."""
        return now - member.heard <= TRUSTED
