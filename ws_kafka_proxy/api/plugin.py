"""A plugin's socket: plugin_manager says whether it may stay, which stream is behind its topic and which group is its.

Every answer of the manager is looked at: a refusal closes the socket, another stream or group moves it there at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from websockets.asyncio.server import ServerConnection

from skep import logs
from skep.wire.plugins import Seat
from skep.wire.proxy import Start
from ws_kafka_proxy.api.json import POLICY, JsonSocket, Topics
from ws_kafka_proxy.core import json_dialect as core
from ws_kafka_proxy.core.attendance import Attendance, Member
from ws_kafka_proxy.core.counters import Counters
from ws_kafka_proxy.core.engine import Reader, TopicDeleted
from ws_kafka_proxy.core.json_pushes import Subscription
from ws_kafka_proxy.core.json_roles import Plugin

log = logs.get("bus.plugins")

ENTER = 5.0
"""Longest wait for plugin_manager at authentication, seconds."""
AGAIN = 0.5
"""Seconds between tries to read a stream that is not there: a fresh one is about to be told."""
NO_ANSWER = "Plugin management service is not available, try again"
SLOT = "slot"
"""Member of the group that a socket without a group of its own is alone in. Always the same, so that who comes back
after a crash takes over at once from its former self."""


class PluginSocket(JsonSocket):
    def __init__(
        self,
        socket: ServerConnection,
        role: Plugin,
        bus: Topics,
        attendance: Attendance,
        limits: core.Limits,
        clock: Callable[[], int],
        counters: Counters,
    ) -> None:
        super().__init__(socket, role, bus, limits, clock, counters)
        self._attendance = attendance
        self._member: Member | None = None
        self._told = asyncio.Event()
        self._opening = False
        self._seats: dict[Subscription, Seat] = {}
        """What each subscription reads."""

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            # Only now: the next one to get the seat shall find our positions written.
            if self._member is not None:
                self._attendance.leave(self._member)

    # -- authentication

    async def _enter(self, enter: core.Enter) -> None:
        topic = enter.claims.topic
        assert topic is not None
        failure = None
        if self._member is None or self._member.socket.topic != topic:
            failure = await self._admitted(topic)
        self._do(self._dialect.entered(enter, failure, self._clock()))

    async def _admitted(self, topic: str) -> str | None:
        """Ask the manager; why not, or None. Another plugin's seat that we had is given back."""
        address = self._socket.remote_address
        member = self._attendance.enter(topic, str(address[0]) if address else "", self._clock(), self._told.set)
        failure = None
        try:
            async with asyncio.timeout(ENTER):
                seat = await self._seat(member, lambda seat: seat.stream)
            failure = seat.refusal or None
        except TimeoutError:
            failure = NO_ANSWER
        except BaseException:
            self._attendance.leave(member)
            raise
        if failure is not None:
            self._attendance.leave(member)
            return failure
        if self._member is not None:
            self._attendance.leave(self._member)
        self._member = member
        member.changed = self._changed
        return None

    async def _seat(self, member: Member, granted: Callable[[Seat], object]) -> Seat:
        """The next answer that grants or refuses what is wished; others say: not yet."""
        while (seat := member.seat) is None or not (seat.refusal or granted(seat)):
            self._told.clear()
            await self._told.wait()
        return seat

    # -- subscriptions

    async def _open(self, open_: core.Open) -> None:
        [wanted] = open_.subscriptions
        former = self._dialect.subscriptions.get(wanted.topic)
        self._opening = True
        if former is not None:
            # A socket has one seat at a time.
            self._dialect.drop(former)
            self._close(former)
        await self._all_closed()
        await super()._open(open_)
        self._opening = False
        await self._unseat()

    async def _reader(self, subscription: Subscription) -> Reader:
        """Waits for a seat and for its stream. Raises KeyError where there is none to be had."""
        member = self._member
        assert member is not None
        self._attendance.wish(member, subscription.group or "")
        while True:
            seat = await self._seat(member, lambda seat: seat.group)
            if seat.refusal:
                raise KeyError(subscription.topic)  # the socket is being closed
            try:
                reader = await self._read_stream(subscription, seat)
            except KeyError:
                self._told.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN):
                        await self._told.wait()
                continue
            if _same(member.seat, seat):
                self._seats[subscription] = seat
                return reader
            await reader.close(leave=True)

    async def _read_stream(self, subscription: Subscription, seat: Seat) -> Reader:
        start = Start("earliest" if seat.earliest else "latest")
        return await self._bus.reader(seat.stream, seat.group, "" if subscription.group else SLOT, start, drain=True)

    async def _allowed(self) -> None:
        member = self._member
        while member is not None and not self._attendance.trusted(member, self._clock()):
            self._told.clear()
            await self._told.wait()

    async def _pump(self, subscription: Subscription) -> None:
        try:
            await super()._pump(subscription)
        except TopicDeleted:
            # The manager has made a fresh stream, or is about to refuse us.
            self._move(subscription)

    def _close(self, subscription: Subscription) -> None:
        self._seats.pop(subscription, None)
        super()._close(subscription)
        self._spawn(self._unseat())

    async def _unseat(self) -> None:
        """The seat is given back when the next one to get it would find our positions written."""
        await self._all_closed()
        if self._member is not None and not self._opening and not self._pumps:
            self._attendance.wish(self._member, None)

    # -- what the manager says

    def _changed(self) -> None:
        """An answer has come for this socket."""
        self._told.set()
        member = self._member
        if member is None or (seat := member.seat) is None:
            return
        if seat.refusal:
            self._counters.refused += 1
            self.finish(POLICY, seat.refusal)
            for subscription in list(self._pumps):
                self._close(subscription)
            return
        for subscription, present in list(self._seats.items()):
            if seat.group and not _same(seat, present):
                self._move(subscription)

    def _move(self, subscription: Subscription) -> None:
        """Push nothing more of what was read until now, and go on with what the seat names."""
        self._counters.moved += 1
        self._seats.pop(subscription, None)
        super()._close(subscription)
        subscription.moved()
        self._pumps[subscription] = self._spawn(self._reopen(subscription))

    async def _reopen(self, subscription: Subscription) -> None:
        """However long it takes: the socket stays."""
        while subscription.reader is None:
            try:
                subscription.reader = await self._reader(subscription)
            except TimeoutError as error:
                log.warning("%s: no stream yet: %s", subscription.topic, error)
        await self._pump(subscription)


def _same(one: Seat | None, other: Seat) -> bool:
    return one is not None and (one.stream, one.group) == (other.stream, other.group)
