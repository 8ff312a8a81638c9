"""The service dialect of one socket: frames in, frames out and work for the engine. No I/O.

`receive` takes one message and returns what the socket's owner must do with the engine; the owner hands the results
back (`appended`, `opened`, `read` …) and sends what `take` gives, whenever `wake` was called. Breaches of the protocol
raise ProtocolError, which names the WebSocket close code; everything else is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, assert_never

import msgspec
from msgspec import Struct

from skep.wire import proxy as wire
from skep.wire import topics
from skep.wire.proxy import Code, Failure
from ws_kafka_proxy.core import streams
from ws_kafka_proxy.core.engine import Chunk, Reader, ReaderEvent
from ws_kafka_proxy.core.streams import Streams
from ws_kafka_proxy.core.ticket import Ticket

NORMAL, PROTOCOL, UNSUPPORTED, TOO_BIG, TRY_AGAIN = 1000, 1002, 1003, 1009, 1013
MAX_KEY = 1024
MAX_SEQ = (1 << 63) - 1
MAX_STATE = 3_000
MAX_PLUGIN_PARTITIONS = 64
KINDS = 4_096
"""Topics a session remembers its rights for."""
DELIVER_BYTES = 1 << 20
"""About this much goes in one Deliver frame."""


class ProtocolError(Exception):
    """The socket must be closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Limits(Struct, frozen=True):
    """Of one socket: unconfirmed durable records and bytes, subscriptions, unsent frames, credit of a subscription."""

    records: int = 50_000
    bytes: int = 64 << 20
    subscriptions: int = 5_000
    frames: int = 10_000
    credit_records: int = 100_000
    credit_bytes: int = 64 << 20


class About(NamedTuple):
    """This proxy run. started: ms."""

    boot: str
    started: int
    engine: str


class Durable:
    """A subscription of a durable topic. `waiting` is called when credit was added."""

    def __init__(self, frame: wire.Subscribe) -> None:
        self.sid = frame.sid
        self.topic = frame.topic
        self.group = frame.group
        self.start = frame.start
        self.drain = frame.drain
        self.records = frame.records
        self.bytes = frame.bytes
        self.reader: Reader | None = None
        self.more: Callable[[], None] | None = None

    @property
    def ready(self) -> bool:
        return self.records > 0 and self.bytes > 0


class Append(NamedTuple):
    """`indexes[i]`: the place of record i in its frame."""

    publisher: int
    ticket: Ticket
    records: list[wire.Record]
    indexes: list[int]


class Open(NamedTuple):
    id: int
    subscription: Durable


class Close(NamedTuple):
    subscription: Durable
    leave: bool


class Create(NamedTuple):
    frame: wire.CreateTopic


class Delete(NamedTuple):
    frame: wire.DeleteTopic


class Describe(NamedTuple):
    frame: wire.Describe


class Health(NamedTuple):
    id: int


Effect = Append | Open | Close | Create | Delete | Describe | Health


class Session:
    """One socket of `service`, a running copy of which is `instance`."""

    def __init__(
        self,
        service: str,
        instance: str,
        about: About,
        shared: Streams,
        limits: Limits,
        wake: Callable[[], None],
    ) -> None:
        self.service = service
        self.instance = instance
        self._rights = topics.RIGHTS.get(service, topics.Rights())
        self._about = about
        self._streams = shared
        self._limits = limits
        self._wake = wake
        self._publisher: int | None = None
        self._out: list[wire.ProxyFrame] = []
        self._durable: dict[int, Durable] = {}
        self._short: dict[int, streams.Subscription] = {}
        self._dirty: dict[int, streams.Subscription] = {}
        self._kinds: dict[str, bool | Failure] = {}
        self._records = 0
        self._bytes = 0

    # -- frames in

    def receive(self, data: bytes | str, now: int) -> list[Effect]:
        """One WebSocket message. now: ms."""
        if isinstance(data, str):
            raise ProtocolError(UNSUPPORTED, "frames are binary")
        try:
            frame = wire.decode_client(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProtocolError(PROTOCOL, f"bad frame: {error}") from error
        if isinstance(frame, wire.Publish) and self._publisher is not None:
            return self._publish(frame, now)
        if isinstance(frame, wire.Hello):
            self._hello(frame, now)
            return []
        if self._publisher is None:
            raise ProtocolError(PROTOCOL, "the first frame is Hello")
        return self._other(frame, now)

    def _other(self, frame: wire.ClientFrame, now: int) -> list[Effect]:
        match frame:
            case wire.Ack():
                self._ack(frame)
            case wire.Credit():
                self._credit(frame)
            case wire.Subscribe():
                return self._subscribe(frame, now)
            case wire.Unsubscribe():
                return self._unsubscribe(frame, now)
            case wire.CreateTopic():
                return self._create(frame)
            case wire.DeleteTopic():
                if not self._may(self._rights.create, frame.topic):
                    return self._answer(wire.Done(frame.id, _forbidden(self.service, "delete", frame.topic)))
                return [Delete(frame)]
            case wire.Describe():
                return self._describe(frame)
            case wire.Health():
                return [Health(frame.id)]
            case wire.Hello() | wire.Publish():
                raise AssertionError(frame)
            case _:
                assert_never(frame)
        return []

    def _hello(self, frame: wire.Hello, now: int) -> None:
        if self._publisher is not None:
            raise ProtocolError(PROTOCOL, "a second Hello")
        if frame.version < 1 or not 0 <= frame.publisher < 1 << 63:
            raise ProtocolError(PROTOCOL, "bad Hello")
        self._publisher = frame.publisher
        about = self._about
        version = min(frame.version, wire.VERSION)
        self.send(wire.Welcome(version, about.boot, now - about.started, about.engine))

    # -- publishing

    def _publish(self, frame: wire.Publish, now: int) -> list[Effect]:
        records = frame.records
        if len(records) > wire.MAX_BATCH:
            raise ProtocolError(TOO_BIG, f"a batch has at most {wire.MAX_BATCH} records")
        if not records:
            return self._answer(wire.Published(frame.id, []))
        assert self._publisher is not None
        ticket = Ticket(frame.id, len(records), 0, self._confirmed)
        durable: list[wire.Record] = []
        indexes: list[int] = []
        for index, record in enumerate(records):
            kind = self._kind(record.topic)
            if not isinstance(kind, bool):
                ticket.refuse(index, kind)
            elif len(record.payload or b"") > wire.MAX_BODY:
                ticket.refuse(index, Failure(Code.TOO_LARGE, f"a payload has at most {wire.MAX_BODY} bytes"))
            elif record.key is not None and len(record.key) > MAX_KEY:
                ticket.refuse(index, Failure(Code.BAD, f"a key has at most {MAX_KEY} bytes"))
            elif not 0 <= record.seq <= MAX_SEQ:
                ticket.refuse(index, Failure(Code.BAD, "a sequence number has 63 bits"))
            elif kind:
                durable.append(record)
                indexes.append(index)
                ticket.size += len(record.payload or b"") + 100
            else:
                self._streams.publish(self._publisher, ticket, index, record, now)
        if not durable:
            return []
        self._records += len(durable)
        self._bytes += ticket.size
        return [Append(self._publisher, ticket, durable, indexes)]

    def _kind(self, topic: str) -> bool | Failure:
        """Whether a topic that this service may publish to is durable."""
        kind = self._kinds.get(topic)
        if kind is None:
            if len(self._kinds) >= KINDS:
                self._kinds.clear()
            kind = self._kinds[topic] = self._judge(topic)
        return kind

    def _judge(self, topic: str) -> bool | Failure:
        if not topics.NAME.fullmatch(topic):
            return Failure(Code.BAD, "bad topic name")
        if not self._may(self._rights.publish, topic):
            return _forbidden(self.service, "publish to", topic)
        if topics.is_durable(topic):
            return True
        return False if topics.is_short_lived(topic) else Failure(Code.NO_TOPIC, f"no topic {topic}")

    def appended(self, append: Append, results: list[tuple[int, int] | Failure]) -> None:
        """The engine's answer to an Append."""
        ticket = append.ticket
        self._records -= len(append.records)
        self._bytes -= ticket.size
        for index, result in zip(append.indexes, results, strict=True):
            if isinstance(result, Failure):
                ticket.failures[index] = result
            else:
                ticket.positions[index] = result
        ticket.confirm(len(results))

    def _confirmed(self, ticket: Ticket) -> None:
        self.send(wire.Published(ticket.id, ticket.positions, ticket.failures))

    # -- subscribing

    def _subscribe(self, frame: wire.Subscribe, now: int) -> list[Effect]:
        failure = self._check_subscribe(frame)
        if failure is not None:
            return self._answer(wire.Subscribed(frame.id, frame.sid, failure))
        limits = self._limits
        frame.records = min(frame.records, limits.credit_records)
        frame.bytes = min(frame.bytes, limits.credit_bytes)
        if topics.is_durable(frame.topic):
            subscription = self._durable[frame.sid] = Durable(frame)
            return [Open(frame.id, subscription)]
        sid = frame.sid

        def wake() -> None:
            self._dirty[sid] = short
            self._wake()

        assert self._publisher is not None
        place = len(self._out)
        short, gap = self._streams.subscribe(frame.topic, self._publisher, 0, 0, wake, now)
        self._short[sid] = short
        self._out.insert(place, wire.Subscribed(frame.id, sid, None, gap))
        self._streams.credit(short, frame.records, frame.bytes)
        self._wake()
        return []

    def _check_subscribe(self, frame: wire.Subscribe) -> Failure | None:
        if frame.sid in self._durable or frame.sid in self._short:
            raise ProtocolError(PROTOCOL, f"subscription {frame.sid} exists")
        if not self._may(self._rights.subscribe, frame.topic):
            return _forbidden(self.service, "subscribe to", frame.topic)
        if len(self._durable) + len(self._short) >= self._limits.subscriptions:
            return Failure(Code.FULL, f"a socket has at most {self._limits.subscriptions} subscriptions")
        if not topics.NAME.fullmatch(frame.topic) or (frame.group and not topics.NAME.fullmatch(frame.group)):
            return Failure(Code.BAD, "bad name of a topic or group")
        if not topics.is_durable(frame.topic) and not topics.is_short_lived(frame.topic):
            return Failure(Code.NO_TOPIC, f"no topic {frame.topic}")
        if frame.start.at not in ("latest", "earliest", "offsets", "time") or frame.records < 0 or frame.bytes < 0:
            return Failure(Code.BAD, "bad start or credit")
        return None

    def opened(self, open_: Open, result: Reader | Failure) -> bool:
        """The engine's answer to an Open. False: the client has unsubscribed meanwhile, the reader must be closed."""
        sid = open_.subscription.sid
        if self._durable.get(sid) is not open_.subscription:
            return False
        if isinstance(result, Failure):
            del self._durable[sid]
            self.send(wire.Subscribed(open_.id, sid, result))
        else:
            open_.subscription.reader = result
            self.send(wire.Subscribed(open_.id, sid))
        return True

    def read(self, subscription: Durable, events: list[ReaderEvent]) -> None:
        """What the subscription's reader gave."""
        sid = subscription.sid
        for event in events:
            if isinstance(event, Chunk):
                subscription.records -= len(event.records)
                subscription.bytes -= sum(map(size_of, event.records))
                self._deliver(sid, event.partition, event.records)
            else:
                event.sid = sid
                self._out.append(event)
        self._wake()

    def ended(self, subscription: Durable, failure: Failure) -> None:
        """The reader is of no more use."""
        if self._durable.get(subscription.sid) is subscription:
            del self._durable[subscription.sid]
            self.send(wire.Closed(subscription.sid, failure))

    def _ack(self, frame: wire.Ack) -> None:
        if len(frame.state) > MAX_STATE:
            raise ProtocolError(TOO_BIG, f"a state has at most {MAX_STATE} bytes")
        short = self._short.get(frame.sid)
        if short is not None:
            try:
                self._streams.ack(short, frame.offset)
            except ValueError as error:
                raise ProtocolError(PROTOCOL, str(error)) from error
            return
        subscription = self._durable.get(frame.sid)
        if subscription is not None and subscription.reader is not None:
            subscription.reader.commit(frame.partition, frame.offset, frame.state)

    def _credit(self, frame: wire.Credit) -> None:
        if frame.records < 0 or frame.bytes < 0:
            raise ProtocolError(PROTOCOL, "negative credit")
        short = self._short.get(frame.sid)
        if short is not None:
            self._streams.credit(short, frame.records, frame.bytes)
            return
        subscription = self._durable.get(frame.sid)
        if subscription is not None:
            subscription.records = min(subscription.records + frame.records, self._limits.credit_records)
            subscription.bytes = min(subscription.bytes + frame.bytes, self._limits.credit_bytes)
            if subscription.more is not None and subscription.ready:
                subscription.more()

    def _unsubscribe(self, frame: wire.Unsubscribe, now: int) -> list[Effect]:
        self._flush()
        self.send(wire.Done(frame.id))
        short = self._short.pop(frame.sid, None)
        if short is not None:
            self._streams.remove(short, now)
            self._dirty.pop(frame.sid, None)
        subscription = self._durable.pop(frame.sid, None)
        return [] if subscription is None else [Close(subscription, True)]

    # -- topics

    def _create(self, frame: wire.CreateTopic) -> list[Effect]:
        if not self._may(self._rights.create, frame.topic):
            return self._answer(wire.Done(frame.id, _forbidden(self.service, "create", frame.topic)))
        if not topics.NAME.fullmatch(frame.topic) or not 1 <= frame.partitions <= MAX_PLUGIN_PARTITIONS:
            return self._answer(wire.Done(frame.id, Failure(Code.BAD, "bad name or number of partitions")))
        if not 0 < frame.retention <= 365 * 24 * topics.HOUR:
            return self._answer(wire.Done(frame.id, Failure(Code.BAD, "bad retention")))
        return [Create(frame)]

    def _describe(self, frame: wire.Describe) -> list[Effect]:
        rights = self._rights
        if not self._may((*rights.publish, *rights.subscribe, *rights.create), frame.topic):
            return self._answer(wire.Described(frame.id, failure=_forbidden(self.service, "describe", frame.topic)))
        return [Describe(frame)]

    def _may(self, patterns: tuple[str, ...], topic: str) -> bool:
        return topics.allowed(patterns, topic, self.instance)

    # -- frames out

    def send(self, frame: wire.ProxyFrame) -> None:
        self._out.append(frame)
        self._wake()

    def _answer(self, frame: wire.ProxyFrame) -> list[Effect]:
        self.send(frame)
        return []

    def _flush(self) -> None:
        """What the streams put up for this socket becomes frames."""
        for sid, short in self._dirty.items():
            if short.out:
                records, short.out = short.out, []
                self._deliver(sid, 0, records)
            if short.cut:
                short.cut = False
                self._out.append(wire.Gap(sid, 0, reason="the stream stayed full"))
        self._dirty.clear()

    def _deliver(self, sid: int, partition: int, records: list[wire.Delivered]) -> None:
        start = size = 0
        for end, record in enumerate(records):
            grown = size_of(record) + 100
            if end > start and (size + grown > DELIVER_BYTES or end - start >= wire.MAX_BATCH):
                self._out.append(wire.Deliver(sid, partition, records[start:end]))
                start, size = end, 0
            size += grown
        self._out.append(wire.Deliver(sid, partition, records[start:] if start else records))

    def take(self) -> list[wire.ProxyFrame]:
        """What is to be sent, in order."""
        self._flush()
        out, self._out = self._out, []
        return out

    @property
    def full(self) -> bool:
        """Too much is unconfirmed or unsent: read nothing from the socket until that changed."""
        limits = self._limits
        return self._records > limits.records or self._bytes > limits.bytes or len(self._out) > limits.frames

    @property
    def unconfirmed(self) -> bool:
        """Whether durable records have no outcome yet."""
        return self._records > 0

    def close(self, now: int) -> list[Close]:
        """The socket is gone. The readers left to close: members keep their partitions for a while."""
        for short in self._short.values():
            self._streams.remove(short, now)
        closing = [Close(s, False) for s in self._durable.values()]
        self._short, self._durable, self._dirty = {}, {}, {}
        return closing


def size_of(record: wire.Delivered) -> int:
    """What a record costs in credit: the bytes of key and payload."""
    return len(record.payload or b"") + len(record.key or b"")


def _forbidden(service: str, what: str, topic: str) -> Failure:
    return Failure(Code.FORBIDDEN, f"{service} may not {what} {topic}")
