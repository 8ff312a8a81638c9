"""The DeviceHive JSON dialect of one socket: frames in, frames out and work for the bus. No I/O.

`receive` takes one message and returns what the socket's owner must do; the owner hands results back (`appended`,
`opened`, `made`, `entered`, `acknowledged`, `healthy`), which may free the next requests, and sends what `take` gives
whenever `wake` was called.

Requests are carried out in order and answered in order; publishes, and acknowledgements, that follow each other go on
together. `health` overtakes. Every element of a request batch gets its own reply, whatever becomes of the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Struct

from skep.tokens import Claims
from skep.wire.proxy import MAX_BODY, Failure, Record
from ws_kafka_proxy.core import json_frames as frames
from ws_kafka_proxy.core.json_frames import ACK, HEALTH, NOTIF, Frame, Malformed, Request
from ws_kafka_proxy.core.json_pushes import Subscription
from ws_kafka_proxy.core.json_roles import Plugin, Refused, Role
from ws_kafka_proxy.core.rate import Rate

FULL = "Message buffer is full. Please, try again after a while"
TOO_MANY = "Too many messages. Please, try again after a while"
AVAILABLE, NOT_AVAILABLE = "Available", "Not available"
MAX_TOPICS = 100
"""In one request, and subscribed on one socket."""


class TooLarge(Exception):
    """The socket must be closed with 1009."""


class Limits(Struct, frozen=True):
    """frame: bytes. batch: elements of a frame. buffer: bytes of requests without reply. unacknowledged: pushes a
    subscriber that acknowledges may be behind. unsent: frames after which nothing more is read from the socket. rate,
    byte_rate: messages and bytes a second, 0 for any number; see `core.rate`. silence: ms that a subscriber which
    acknowledges may take for the next acknowledgement."""

    frame: int = 1 << 20
    batch: int = 1_000
    buffer: int = 8 << 20
    unacknowledged: int = 1_000
    unsent: int = 5_000
    rate: int = 0
    byte_rate: int = 0
    silence: int = 300_000


class Slot:
    """A request and, once there is one, its reply."""

    __slots__ = ("frame", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.frame: Frame | None = None


class Append(NamedTuple):
    slots: list[Slot]
    records: list[Record]


class Open(NamedTuple):
    """All or none."""

    slot: Slot
    subscriptions: list[Subscription]


class Close(NamedTuple):
    subscription: Subscription


class Make(NamedTuple):
    slot: Slot
    names: list[str]


class List(NamedTuple):
    slot: Slot


class Health(NamedTuple):
    slot: Slot


class Enter(NamedTuple):
    """A plugin's token is good; whether its socket may stay is another's to say."""

    slot: Slot
    claims: Claims


class Commit(NamedTuple):
    """To be answered when it won't be forgotten."""

    slot: Slot
    subscription: Subscription
    partition: int
    offset: int


Effect = Append | Open | Close | Make | List | Health | Enter | Commit


class Dialect:
    """One socket. confirm: every accepted request is answered with an `ack` before its reply."""

    def __init__(self, role: Role, limits: Limits, wake: Callable[[], None], confirm: bool = False) -> None:
        self.role = role
        self.subscriptions: dict[str, Subscription] = {}
        self._limits = limits
        self._wake = wake
        self._confirm = confirm
        self._out: list[Frame] = []
        self._waiting: deque[Slot] = deque()
        self._running: deque[Slot] = deque()
        self._size = 0
        self._seq = 0
        self._messages = Rate(limits.rate)
        self._bytes = Rate(limits.byte_rate)

    # -- frames in

    def receive(self, data: str | bytes, now: int) -> list[Effect]:
        """One WebSocket message. Raises TooLarge, and rate.Excess."""
        if len(data) > self._limits.frame:
            raise TooLarge(f"a frame has at most {self._limits.frame} bytes")
        effects: list[Effect] = []
        if not self._bytes.take(len(data), now):
            self._messages.take(1, now)
            self._send(frames.malformed(TOO_MANY))
            return effects
        try:
            elements = frames.parse(data)
            if len(elements) > self._limits.batch:
                raise Malformed(f"a frame has at most {self._limits.batch} messages")
        except Malformed as error:
            self._messages.take(1, now)
            self._send(frames.malformed(str(error)))
            return effects
        for element in elements:
            allowed = self._messages.take(1, now)
            try:
                self._accept(frames.request(element, len(data) // len(elements)), allowed, effects)
            except Malformed as error:
                self._send(frames.malformed(str(error)))
        return effects + self._advance(now)

    def _accept(self, request: Request, allowed: bool, effects: list[Effect]) -> None:
        slot = Slot(request)
        if not allowed:
            self._send(frames.failure(request, TOO_MANY))
            return
        if request.type == HEALTH:
            effects.append(Health(slot))
            return
        if self._size + request.size > self._limits.buffer:
            self._send(frames.failure(request, FULL))
            return
        self._size += request.size
        if self._confirm:
            self._send(frames.accepted(request))
        self._waiting.append(slot)

    def _advance(self, now: int) -> list[Effect]:
        """Begin what may begin: publishes beside publishes, acknowledgements likewise, everything else alone."""
        effects: list[Effect] = []
        append = Append([], [])
        while self._waiting:
            slot = self._waiting[0]
            kind = slot.request.type
            if self._running and not (kind in (NOTIF, ACK) and self._running[-1].request.type == kind):
                break
            self._running.append(self._waiting.popleft())
            try:
                self.role.check(slot.request)
                if kind == NOTIF:
                    append.records.append(self._record(slot.request))
                    append.slots.append(slot)
                else:
                    effects += self._begin(slot, now)
            except Refused as error:
                slot.frame = frames.failure(slot.request, str(error))
            self._settle()
        return [*effects, append] if append.slots else effects

    def _begin(self, slot: Slot, now: int) -> list[Effect]:
        """Everything but publishes. Raises Refused."""
        request = slot.request
        match request.type, request.action:
            case "topic", "create":
                return [Make(slot, self._names(request))]
            case "topic", "list":
                return [List(slot)]
            case "topic", "subscribe":
                return self._subscribe(slot)
            case "topic", "unsubscribe":
                return self._unsubscribe(slot)
            case "plugin", "authenticate":
                return self._authenticate(slot, now)
            case "ack", _:
                return self._acknowledge(slot, now)
            case ("topic" | "plugin") as kind, action:
                raise Refused(f"Unsupported {kind} message action: {action}")
            case kind, _:
                raise Refused(f"Unsupported message type: {kind}")

    # -- publishing

    def _record(self, request: Request) -> Record:
        if request.action != "create":
            raise Refused(f"Unsupported notification message action: {request.action}")
        topic, message, part = (request.payload.get(key) for key in ("t", "m", "part"))
        if not isinstance(topic, str) or not self.role.may_write(topic):
            raise Refused('Payload must have a property "t" with a topic that may be published to')
        if not isinstance(message, str):
            raise Refused('Payload must have a property "m" with a text')
        payload = message.encode("utf-8", "surrogatepass")
        if len(payload) > MAX_BODY:
            raise Refused(f"A message has at most {MAX_BODY} bytes")
        self._seq += 1
        # A number is a partition; a text, as the Java clients send it, is a key: what has one key stays in order.
        partition = part if isinstance(part, int) and not isinstance(part, bool) and part >= 0 else None
        key = part.encode()[:1024] if isinstance(part, str) else None
        return Record(topic, key, payload, self._seq, partition)

    def appended(self, append: Append, results: list[tuple[int, int] | Failure], now: int) -> list[Effect]:
        for slot, result in zip(append.slots, results, strict=True):
            if isinstance(result, Failure):
                slot.frame = frames.failure(slot.request, result.reason)
            else:
                slot.frame = frames.reply(slot.request)
        return self._settled(now)

    # -- topics

    def _names(self, request: Request) -> list[str]:
        names = request.payload.get("t")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Refused('Payload must have a property "t" with an array of topics')
        if not 0 < len(names) <= MAX_TOPICS:
            raise Refused(f"1 to {MAX_TOPICS} topics at a time")
        return names

    def made(self, slot: Slot, failure: str | None, now: int) -> list[Effect]:
        """The answer to Make."""
        if failure is None:
            slot.frame = frames.reply(slot.request, {"t": slot.request.payload["t"]})
        else:
            slot.frame = frames.failure(slot.request, failure)
        return self._settled(now)

    def listed(self, slot: Slot, names: list[str], now: int) -> list[Effect]:
        slot.frame = frames.reply(slot.request, {"t": [name for name in names if self.role.may_read(name)]})
        return self._settled(now)

    # -- subscribing

    def _subscribe(self, slot: Slot) -> list[Effect]:
        payload = slot.request.payload
        names = list(dict.fromkeys(self._names(slot.request)))
        suffix = payload.get("sg")
        if not isinstance(suffix, str | None):
            raise Refused('Property "sg" must be a text')
        for name in names:
            if not self.role.may_read(name):
                raise Refused(f"No permissions to subscribe to {name}")
        wanted = []
        for name in names:
            group = self.role.group(name, suffix or None)
            wanted.append(Subscription(name, group, payload.get("ack") is True))
        new = [s for s in wanted if not self._has(s)]
        if len(self.subscriptions.keys() | set(names)) > MAX_TOPICS:
            raise Refused(f"A socket subscribes to at most {MAX_TOPICS} topics")
        if not new:
            slot.frame = _subscribed(slot)
            return []
        return [Open(slot, new)]

    def _has(self, wanted: Subscription) -> bool:
        there = self.subscriptions.get(wanted.topic)
        return there is not None and (there.group, there.acknowledges) == (wanted.group, wanted.acknowledges)

    def opened(self, open_: Open, failure: str | None, now: int) -> list[Effect]:
        """The answer to Open. A subscription of the topic with another group ends."""
        effects: list[Effect] = []
        if failure is not None:
            open_.slot.frame = frames.failure(open_.slot.request, failure)
        else:
            for subscription in open_.subscriptions:
                former = self.subscriptions.get(subscription.topic)
                if former is not None:
                    effects.append(Close(former))
                self.subscriptions[subscription.topic] = subscription
            open_.slot.frame = _subscribed(open_.slot)
        return effects + self._settled(now)

    def drop(self, subscription: Subscription) -> None:
        """It has ended."""
        if self.subscriptions.get(subscription.topic) is subscription:
            del self.subscriptions[subscription.topic]

    def _unsubscribe(self, slot: Slot) -> list[Effect]:
        names = self._names(slot.request)
        found = [self.subscriptions.pop(name, None) for name in names]
        slot.frame = frames.reply(slot.request, {"t": names})
        return [Close(s) for s in found if s is not None]

    # -- pushes

    def room(self, subscription: Subscription) -> int:
        """How many more pushes its client may be behind."""
        return self._limits.unacknowledged - subscription.unacknowledged

    def _acknowledge(self, slot: Slot, now: int) -> list[Effect]:
        """`{"t": topic, "part": …, "off": …}`: everything of the partition through this offset is handled."""
        payload = slot.request.payload
        topic, partition, offset = (payload.get(key) for key in ("t", "part", "off"))
        subscription = self.subscriptions.get(topic) if isinstance(topic, str) else None
        if subscription is None or not subscription.acknowledges:
            raise Refused("No such subscription with acknowledgements")
        if type(partition) is not int or type(offset) is not int:
            raise Refused('Payload must have numbers "part" and "off"')
        place = subscription.acknowledged(partition, offset, now)
        if place is None:
            slot.frame = frames.reply(slot.request)
            return []
        self._messages.give(1)  # there is no more of these than of pushes
        return [Commit(slot, subscription, *place)]

    def acknowledged(self, slots: list[Slot], now: int) -> list[Effect]:
        """The answer to Commit: the client will not get what it named again."""
        for slot in slots:
            slot.frame = frames.reply(slot.request)
        return self._settled(now)

    # -- plugins, health

    def _authenticate(self, slot: Slot, now: int) -> list[Effect]:
        token = slot.request.payload.get("token")
        if not isinstance(token, str):
            raise Refused('Payload must have a property "token"')
        assert isinstance(self.role, Plugin)
        return [Enter(slot, self.role.verify(token, now))]

    def entered(self, enter: Enter, failure: str | None, now: int) -> list[Effect]:
        """The answer to Enter."""
        slot, claims = enter
        if failure is not None:
            slot.frame = frames.failure(slot.request, failure)
            return self._settled(now)
        assert isinstance(self.role, Plugin)
        self.role.claims = claims
        slot.frame = frames.reply(slot.request, {"e": claims.expires, "t": claims.type, "tpc": claims.topic})
        # Another plugin's token: what the former one let in must not go on.
        foreign = [s for s in self.subscriptions.values() if s.topic != claims.topic]
        for subscription in foreign:
            del self.subscriptions[subscription.topic]
        return [*(Close(s) for s in foreign), *self._settled(now)]

    def healthy(self, slot: Slot, engine: bool) -> None:
        """The answer to Health."""
        used = 100 * self._size / self._limits.buffer
        payload: dict[str, Any] = {
            "prx": AVAILABLE,
            "mb": AVAILABLE if used < 100 else NOT_AVAILABLE,
            "mbfp": f"{used:.2f}",
            "comm": AVAILABLE if engine else NOT_AVAILABLE,
            "ack": True,
        }
        self._send(frames.reply(slot.request, payload))
        if self._confirm:
            self._send(frames.accepted(slot.request))

    # -- frames out

    def _send(self, frame: Frame) -> None:
        self._out.append(frame)
        self._wake()

    def _settled(self, now: int) -> list[Effect]:
        self._settle()
        return self._advance(now)

    def _settle(self) -> None:
        """Send the replies that are there, in order."""
        while self._running and (frame := self._running[0].frame) is not None:
            self._size -= self._running.popleft().request.size
            self._send(frame)

    def take(self) -> list[Frame]:
        """What is to be sent, in order."""
        out, self._out = self._out, []
        return out

    @property
    def full(self) -> bool:
        """Too much is unsent: read nothing from the socket until that changed."""
        return len(self._out) > self._limits.unsent


def _subscribed(slot: Slot) -> Frame:
    payload = slot.request.payload
    return frames.reply(slot.request, {key: payload[key] for key in ("sg", "t") if payload.get(key) is not None})
