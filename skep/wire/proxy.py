"""Service dialect of the WebSocket-to-Kafka proxy: frames, topics, limits.

One binary WebSocket message is one MessagePack frame. A client sends members of `ClientFrame`, the proxy
sends members of `ProxyFrame`. Structs are arrays on the wire: fields are only ever appended, with a default,
so that a peer of the previous version still reads them.

Times are integer milliseconds since the epoch. Offsets are positions in a partition; "next offset" is the
position after the last record handled, as in Kafka.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec
from msgspec import Struct

VERSION = 1
SUBPROTOCOL = "skep.bus.1"
"""Negotiated on the handshake. A socket that asks for no subprotocol speaks the DeviceHive JSON dialect."""

MAX_BODY = (1 << 20) + (32 << 10)
"""Largest payload of one record, bytes: what a client may send in one request (1 MiB), and what travels around it."""
MAX_FRAME = 4 << 20
"""Largest frame, bytes. Clients and proxy split batches below it."""
MAX_BATCH = 5_000
"""Most records in one frame."""


class Code(IntEnum):
    """Why a record or a request was refused. Every refusal is final: what was refused is not on the bus."""

    NO_SUBSCRIBER = 1  # short-lived topic nobody reads: the publisher may drop
    NO_TOPIC = 2  # the topic does not exist
    FORBIDDEN = 3  # this service may not do that with this topic
    TOO_LARGE = 4  # payload or frame above the limit
    FULL = 5  # the log is at its size limit, or the stream was cut
    BAD = 6  # malformed: no key on a compacted topic, bad name, unknown partition
    UNAVAILABLE = 7  # the engine is away; nothing was written
    FENCED = 8  # a newer member with the same name took over


class Failure(Struct, array_like=True, frozen=True):
    """One refusal: `code` is a `Code`, `reason` a sentence for people."""

    code: int
    reason: str


# -- publishing ------------------------------------------------------------------------------------------------


class Source(Struct, array_like=True, frozen=True):
    """The record on `requests` that a derived record (plugin topics, mqtt.out) was made from."""

    incarnation: str
    partition: int
    offset: int


class Record(Struct, array_like=True):
    """A record to publish. `seq` rises with every new record of the publisher and is kept on re-sending.

    The partition is `partition`, else a hash of `key`, else the proxy's choice. `payload` None is a tombstone
    (compacted topics only).
    """

    topic: str
    key: bytes | None
    payload: bytes | None
    seq: int
    partition: int | None = None
    source: Source | None = None


class Publish(Struct, array_like=True, tag=1):
    """Answered by one `Published`, once every record is confirmed or refused."""

    id: int
    records: list[Record]


class Published(Struct, array_like=True, tag=1):
    """`positions[i]` is (partition, offset) of record i, (-1, -1) where it is refused or on a short-lived
    topic; `failures` maps the index of a refused record to its reason."""

    id: int
    positions: list[tuple[int, int]]
    failures: dict[int, Failure] = {}


# -- subscribing -----------------------------------------------------------------------------------------------


class Start(Struct, array_like=True, frozen=True):
    """Where a subscription without a committed position begins.

    `at` is "latest", "earliest", "offsets" (with `offsets`: partition -> next offset) or "time" (with `time`:
    the first record appended at or after it).
    """

    at: str = "latest"
    offsets: dict[int, int] = {}
    time: int = 0


class Subscribe(Struct, array_like=True, tag=2):
    """Answered by `Subscribed` when in effect. `sid` is the client's number for it, unique on the connection.

    With `group` the partitions are shared among the group's members and begin at the group's committed
    position; without it the subscriber gets every partition (broadcast). `records` and `bytes` are the first
    credit. Short-lived topics ignore `group` and `start`; several subscribers of a spread topic share it.

    drain (groups): a partition that is to move goes to another member only when this one has acknowledged all that was
    delivered of it, or is gone. For members that pass records on to somebody, who must not see another one take over
    in the middle. Such a member may be away for longer before it counts as gone.
    """

    id: int
    sid: int
    topic: str
    group: str | None = None
    start: Start = Start()
    records: int = 10_000
    bytes: int = 16 << 20
    drain: bool = False


class Subscribed(Struct, array_like=True, tag=2):
    """`gap` (short-lived topics): records were refused to this topic's publishers since its last subscriber."""

    id: int
    sid: int
    failure: Failure | None = None
    gap: bool = False


class Assigned(Struct, array_like=True, tag=3):
    """A partition is this subscription's from now on. Precedes its first `Deliver`.

    offset: the next offset it will deliver. end: next offset of the log when assigned: records before it may
    have been handled before. state: what the last `Ack` of this partition carried (groups), else empty.
    incarnation: changes when the log behind the topic is a new one, so offsets of two logs never mix.
    """

    sid: int
    partition: int
    offset: int
    end: int
    incarnation: str
    state: bytes = b""


class Revoked(Struct, array_like=True, tag=4):
    """These partitions are another member's, or nobody's, now. Nothing more of them is delivered."""

    sid: int
    partitions: list[int]


class Delivered(Struct, array_like=True):
    """A record as read. `time`: when the log took it (short-lived: when the proxy did).

    `publisher` and `seq` tell a record that was sent twice. On short-lived topics `offset` counts this
    subscription's deliveries from 0.
    """

    offset: int
    time: int
    publisher: int
    seq: int
    key: bytes | None
    payload: bytes | None
    source: Source | None = None


class Deliver(Struct, array_like=True, tag=5):
    """Records of one partition, in order (short-lived topics: partition 0)."""

    sid: int
    partition: int
    records: list[Delivered]


class Gap(Struct, array_like=True, tag=6):
    """Records are missing: retention removed `start` <= offset < `end` before they were read, or (short-lived,
    both -1) the stream was cut because it stayed full."""

    sid: int
    partition: int
    start: int = -1
    end: int = -1
    reason: str = ""


class Closed(Struct, array_like=True, tag=7):
    """The proxy ended this subscription (topic deleted, fenced)."""

    sid: int
    failure: Failure


class Ack(Struct, array_like=True, tag=3):
    """Everything before `offset` in this partition is handled. In a group it is committed, `state` beside it
    (opaque, at most 3,000 bytes). On a short-lived topic it says that the client library has taken it."""

    sid: int
    partition: int
    offset: int
    state: bytes = b""


class Credit(Struct, array_like=True, tag=4):
    """Adds to what the proxy may deliver on this subscription."""

    sid: int
    records: int
    bytes: int


class Unsubscribe(Struct, array_like=True, tag=5):
    """Answered by `Done`; a group member leaves its group."""

    id: int
    sid: int


# -- topics, health --------------------------------------------------------------------------------------------


class CreateTopic(Struct, array_like=True, tag=6):
    """Answered by `Done`. A topic that exists keeps its partitions and gets the retention, ms. Only plugin topics are
    created by clients."""

    id: int
    topic: str
    partitions: int = 1
    retention: int = 3_600_000


class DeleteTopic(Struct, array_like=True, tag=7):
    """Answered by `Done`; a topic that is missing is no failure."""

    id: int
    topic: str


class Done(Struct, array_like=True, tag=8):
    id: int
    failure: Failure | None = None


class Describe(Struct, array_like=True, tag=8):
    """Answered by `Described`. A durable topic's partitions with first and next offset; where `groups` is true, the
    positions of its groups too."""

    id: int
    topic: str
    groups: bool = False


class Described(Struct, array_like=True, tag=9):
    """partitions[p]: first and next offset. groups: name -> partition -> the next offset that was committed."""

    id: int
    partitions: list[tuple[int, int]] = []
    incarnation: str = ""
    failure: Failure | None = None
    groups: dict[str, dict[int, int]] = {}


class Health(Struct, array_like=True, tag=9):
    id: int


class HealthReport(Struct, array_like=True, tag=10):
    """engine: "kafka" or "postgres". available: the engine answers. lag: "group/topic" -> records behind.
    streams: short-lived topic -> records waiting."""

    id: int
    engine: str
    available: bool
    lag: dict[str, int] = {}
    streams: dict[str, int] = {}
    uptime: int = 0


class Hello(Struct, array_like=True, tag=10):
    """First frame of a client. `publisher`: 63-bit random number of this process run."""

    version: int
    publisher: int


class Welcome(Struct, array_like=True, tag=11):
    """First frame of the proxy. boot: random name of this proxy run; uptime: ms since it started."""

    version: int
    boot: str
    uptime: int
    engine: str
    max_body: int = MAX_BODY
    max_frame: int = MAX_FRAME
    max_batch: int = MAX_BATCH


ClientFrame = Hello | Publish | Subscribe | Ack | Credit | Unsubscribe | CreateTopic | DeleteTopic | Describe | Health
ProxyFrame = (
    Welcome | Published | Subscribed | Assigned | Revoked | Deliver | Gap | Closed | Done | Described | HealthReport
)

encode = msgspec.msgpack.Encoder().encode
decode_client = msgspec.msgpack.Decoder(ClientFrame).decode
decode_proxy = msgspec.msgpack.Decoder(ProxyFrame).decode
