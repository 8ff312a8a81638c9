"""What a subscription must bring, and the judge of what it brings. Pure: frames in, AssertionError out.

An event is a message's insert or one update of a command. For each subscription the oracle keeps which events may
come and which must: `allow` before the requests are sent, `owe` when their replies are known. `take` judges a push
the moment it arrives.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from tests.system.model import times
from tests.system.model.rights import GET_COMMAND, GET_NOTIFICATION, Place, Token

NOTIFICATION, COMMAND, UPDATE = "notification", "command", "update"
READS = {NOTIFICATION: GET_NOTIFICATION, COMMAND: GET_COMMAND, UPDATE: GET_COMMAND}
PUSHES = {NOTIFICATION: "notification/insert", COMMAND: "command/insert", UPDATE: "command/update"}


@dataclass(eq=False)
class State:
    """What an update changes. `updated`: ms, None while unknown."""

    status: str | None = None
    result: dict[str, Any] | None = None
    updated: int | None = None


@dataclass(eq=False)
class Message:
    """`number` is in its parameters and tells it from all others. `own_time`: the timestamp its sender gave it.
    The first of `events` is the insert, then come the updates. certain: its reply was waited for."""

    entity: str
    number: int
    name: str
    device: str
    place: Place
    user: int | None
    parameters: dict[str, Any]
    own_time: int | None = None
    lifetime: int | None = None
    certain: bool = True
    id: int | None = None
    time: int | None = None
    events: list[Event] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"{self.entity} {self.number} ({self.name} of {self.device})"

    @property
    def inserted(self) -> Event:
        return self.events[0]

    @property
    def updated(self) -> Event | None:
        """The last update."""
        return self.events[-1] if len(self.events) > 1 else None

    def identify(self, id: int, time: str) -> None:
        """As a reply or a push says; everybody must say the same."""
        assert (self.id or id) == id, f"{self!r} has ids {self.id} and {id}"
        assert (self.time or times.ms(time)) == times.ms(time), f"{self!r} is of {self.time} and {times.ms(time)}"
        self.id, self.time = id, times.ms(time)
        assert self.own_time in (None, self.time), f"{self!r}: its sender's timestamp is changed"

    def view(self) -> dict[str, Any]:
        """Of the fields that never change."""
        common = {"id": self.id, self.entity: self.name, "deviceId": self.device, "parameters": self.parameters}
        places = {"networkId": self.place[0], "deviceTypeId": self.place[1]}
        view = {**common, **places, "timestamp": times.text(self.time or 0)}
        return view if self.entity == NOTIFICATION else view | {"userId": self.user, "lifetime": self.lifetime}


@dataclass(eq=False)
class Event:
    """rank: order of sending; what is under way together has the same. state: the command's from here on. exists: None
    while no reply has said so. settled: it has passed the frontend, and comes to nobody any more."""

    message: Message
    rank: int
    state: State = field(default_factory=State)
    exists: bool | None = None
    settled: bool = False

    def __post_init__(self) -> None:
        self.message.events.append(self)

    @property
    def time(self) -> int | None:
        """What a replay compares, ms: of an insert its timestamp, of an update when it was."""
        return self.message.time if self is self.message.inserted else self.state.updated

    def shows(self, status: str | None, result: object, at: int) -> bool:
        """Whether the command may look like that after it. at: its `lastUpdated`, ms."""
        return (self.state.status, self.state.result) == (status, result) and self.state.updated in (None, at)

    def __repr__(self) -> str:
        return f"{self.message!r}" + ("" if self is self.message.inserted else f" updated to {self.state.status}")


class Mode(enum.Enum):
    REPLAY = "from the store"
    LIVE = "live"
    EITHER = "from the store or live"


@dataclass
class Due:
    """`oldest`: the first of the command's states that may be shown."""

    mode: Mode
    oldest: int = 0
    must: bool = False
    taken: bool = False


class Watch:
    """A subscription. networks, types: as resolved when it was asked for, None for any. follows: it names no place
    and is for all that its holder sees. since: ms."""

    def __init__(
        self,
        kind: str,
        device: str | None = None,
        networks: frozenset[int] | None = None,
        types: frozenset[int] | None = None,
        names: frozenset[str] | None = None,
        since: int | None = None,
        follows: bool = False,
    ) -> None:
        self.kind, self.device, self.networks, self.types = kind, device, networks, types
        self.names, self.since, self.follows = names, since, follows
        self.rank = 0
        self.index = 0
        """Of its request: the step, and the place in it."""
        self.ended = False
        self.unsure: set[Place] = set()
        """Where its holder sees more than before, and new interests may not be in effect yet."""
        self.request: dict[str, Any] = {}
        """As subscription/list shows it."""
        self.due: dict[Event, Due] = {}
        self._live = False
        self._replayed = 0
        self._sent: dict[str, int] = {}
        self._stamped: dict[str, int] = {}

    @property
    def entity(self) -> str:
        return NOTIFICATION if self.kind == NOTIFICATION else COMMAND

    # -- what is expected ------------------------------------------------------------------------------------------

    def reaches(self, holder: Token | None, place: Place) -> bool:
        """Whether its holder may get what it asks for from there."""
        return holder is not None and READS[self.kind] in holder.actions and holder.sees(place)

    def wants(self, message: Message, holder: Token | None) -> bool:
        """Whether an event of the message is for it, by what was asked and what its holder sees."""
        if message.entity != self.entity or not self.reaches(holder, message.place):
            return False
        if self.names is not None and message.name not in self.names:
            return False
        if self.device is not None:
            return message.device == self.device
        if self.follows:
            return True
        in_network = self.networks is None or message.place[0] in self.networks
        return in_network and (self.types is None or message.place[1] in self.types)

    def event_of(self, message: Message) -> Event | None:
        """The one that a replay brings."""
        return message.updated if self.kind == UPDATE else message.inserted

    def allow(self, event: Event, mode: Mode) -> None:
        if event not in self.due:
            shown = 0 if mode is Mode.LIVE else len(event.message.events) - 1
            self.due[event] = Due(mode, shown)

    def owe(self, event: Event) -> None:
        self.due[event].must = True

    def forgive(self) -> None:
        """What has not come yet need not come any more."""
        for due in self.due.values():
            due.must = False

    def missing(self) -> list[Event]:
        return [event for event, due in self.due.items() if due.must and not due.taken]

    # -- what comes ------------------------------------------------------------------------------------------------

    def take(self, frame: dict[str, Any], messages: dict[int, Message]) -> None:
        """Judge a push; messages: by number. Raises AssertionError."""
        assert not self.ended, "pushed after the reply to unsubscribe"
        assert frame["action"] == PUSHES[self.kind], "the wrong action"
        assert frame.keys() == {"action", self.entity, "subscriptionId"}, "the wrong fields"
        shown = frame[self.entity]
        number = _number(shown)
        assert number in messages, "nobody sent that"
        message = messages[number]
        message.identify(shown["id"], shown["timestamp"])
        event = self._event(message, shown)
        due = self.due.get(event)
        assert due is not None, f"not for this subscription: {event!r}"
        assert not due.taken, f"pushed twice: {event!r}"
        due.taken = True
        self._check_fields(event, due, shown)
        self._check_order(event, due, shown)

    def _event(self, message: Message, shown: dict[str, Any]) -> Event:
        if self.kind != UPDATE:
            return message.inserted
        at = times.ms(shown["lastUpdated"])
        same = [e for e in message.events[1:] if e.shows(shown["status"], shown["result"], at)]
        fitting = [e for e in same if e.state.updated == at] or same
        assert fitting, f"no such state of {message!r}"
        event = next((e for e in fitting if e in self.due and not self.due[e].taken), fitting[0])
        event.state.updated = at
        return event

    def _check_fields(self, event: Event, due: Due, shown: dict[str, Any]) -> None:
        message = event.message
        expected = message.view()
        if message.entity == NOTIFICATION:
            assert shown == expected, f"other than sent: {expected}"
            return
        states = [event.state] if self.kind == UPDATE else self._states(message, due)
        possible = [expected | _shown(state, message) for state in states]
        actual = {**shown, "lastUpdated": times.ms(shown["lastUpdated"])}
        fits = any(p | {"lastUpdated": p["lastUpdated"] or actual["lastUpdated"]} == actual for p in possible)
        assert fits, f"other than sent: {possible}"

    @staticmethod
    def _states(message: Message, due: Due) -> list[State]:
        all_states = [event.state for event in message.events]
        replayed = all_states[due.oldest :]
        if due.mode is Mode.REPLAY:
            return replayed
        return all_states[:1] if due.mode is Mode.LIVE else all_states[:1] + replayed

    def _check_order(self, event: Event, due: Due, shown: dict[str, Any]) -> None:
        """The replay by time and before what is live; of a device what is live in the order of sending, and what the
        platform stamped by its time."""
        device = event.message.device
        at = times.ms(shown["lastUpdated"] if self.kind == UPDATE else shown["timestamp"])
        if due.mode is Mode.REPLAY:
            assert not self._live, f"stored, but after live ones: {event!r}"
            assert at >= self._replayed, f"replayed out of order: {event!r}"
            self._replayed = at
        elif due.mode is Mode.LIVE:
            self._live = True
            assert event.rank >= self._sent.get(device, 0), f"out of order: {event!r}"
            self._sent[device] = event.rank
        if event.message.own_time is None or self.kind == UPDATE:
            assert at > self._stamped.get(device, 0), f"out of order: {event!r}"
            self._stamped[device] = at


def _number(shown: dict[str, Any]) -> int | None:
    parameters = shown.get("parameters") or {}
    found = (parameters.get("data") or {}).get("n") if "data" in parameters else parameters.get("n")
    return found if isinstance(found, int) else None


def _shown(state: State, message: Message) -> dict[str, Any]:
    return {"status": state.status, "result": state.result, "lastUpdated": state.updated}
