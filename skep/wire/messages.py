"""What services tell each other through the bus: calls, replies, events, interests, changes.

MessagePack, structs as arrays: fields are only appended, with a default. Times are integer milliseconds since
the epoch. `parameters`, `result` and other JSON objects of the API travel as their JSON text (bytes), untouched
from the edge that took them to the edge that gives them out.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

NOTIFICATION, COMMAND, UPDATE = 0, 1, 2
"""Kinds of message a subscriber can ask for. UPDATE: a command that was updated."""
EXPIRED = "Expired"
"""Status of a command that came, or was left, too late to be executed."""
NEVER = 2**63 - 1
"""A time in ms that does not come."""


class Notification(Struct, array_like=True):
    """`timestamp` 0: the sender gave none, the backend sets it."""

    id: int
    name: str
    device_id: str
    network_id: int
    device_type_id: int
    timestamp: int
    parameters: bytes | None = None


class Command(Struct, array_like=True):
    id: int
    name: str
    device_id: str
    network_id: int
    device_type_id: int
    timestamp: int
    last_updated: int
    user_id: int | None = None
    parameters: bytes | None = None
    lifetime: int | None = None
    status: str | None = None
    result: bytes | None = None
    is_updated: bool = False

    def lapses(self) -> int:
        """When its lifetime (seconds; none, 0 or less: without end) is over, ms: from then on it is not delivered."""
        return min(self.timestamp + self.lifetime * 1000, NEVER) if self.lifetime and self.lifetime > 0 else NEVER

    def status_at(self, now: int) -> str | None:
        """As clients see it. What was updated has been received and is whatever the update says. now: ms."""
        return self.status if self.is_updated or now < self.lapses() else EXPIRED

    def is_for_execution(self, now: int) -> bool:
        """Whether a device that reads it should still do it. now: ms."""
        return now < self.lapses() and (self.is_updated or self.status != EXPIRED)


# -- requests (topic `requests`, keyed by device id) -------------------------------------------------------------


class InsertNotification(Struct, array_like=True, tag=1):
    """Answered by `Stored`. repeatable: the same id may come again in another record (an idempotency key, the
    outbox): where (device, id) is stored already, answer with what is stored and tell nobody."""

    notification: Notification
    repeatable: bool = False


class InsertCommand(Struct, array_like=True, tag=2):
    """Answered by `Stored`. Past its deadline the command is stored with status "Expired" and not delivered."""

    command: Command
    repeatable: bool = False


class UpdateCommand(Struct, array_like=True, tag=3):
    """Answered by an empty body, or 404. A field that is not `set_` keeps its value; None clears it."""

    device_id: str
    command_id: int
    set_status: bool = False
    status: str | None = None
    set_result: bool = False
    result: bytes | None = None


class Marker(Struct, array_like=True, tag=4):
    """Put on every partition of `requests`; answered, by each partition's backend, when it has applied
    `subscriptions` up to `offset` (next offset) and handled all before the marker. Body of the reply: (partition,
    offset of the marker's own record)."""

    offset: int


Request = InsertNotification | InsertCommand | UpdateCommand | Marker


class Stored(Struct, array_like=True):
    """What is stored under the id. partition, offset: the record on `requests` that wrote it."""

    id: int
    timestamp: int
    last_updated: int
    partition: int = -1
    offset: int = -1


# -- queries (topic `queries`, any backend) ----------------------------------------------------------------------


class Get(Struct, array_like=True, tag=1):
    """One message by its device and id; kind NOTIFICATION or COMMAND. Answered by `Found`."""

    kind: int
    device_id: str
    id: int


class List(Struct, array_like=True, tag=2):
    """Messages by scope, time and name. Answered by `Found`.

    kind: NOTIFICATION, COMMAND, or UPDATE (commands updated at least once, compared by `last_updated`).
    device_ids: these devices, or None: every device within `scopes`, pairs (network id or None for any, device
    type id or None for any). start, end: both exclusive, None for open. names, status: exact. sort: "timestamp"
    (ties in the order of arrival), "status", "command" or "notification". take 0 gives none, None gives all, up
    to the backend's limit of bytes (`Found.more`).
    """

    kind: int
    device_ids: list[str] | None = None
    scopes: list[tuple[int | None, int | None]] | None = None
    names: list[str] | None = None
    status: str | None = None
    start: int | None = None
    end: int | None = None
    sort: str = "timestamp"
    descending: bool = False
    take: int | None = 100
    skip: int = 0


Query = Get | List


class Item(Struct, array_like=True):
    """A message with the record of `requests` that wrote it last (its insert or its latest update)."""

    partition: int
    offset: int
    kind: int
    notification: Notification | None = None
    command: Command | None = None


class Found(Struct, array_like=True):
    """`more`: cut at the limit; ask again with `skip`. `loose`: of a batch that is being stored, a message may be
    missing while a later one is there; what a marker has passed is whole."""

    items: list[Item]
    more: bool = False
    loose: bool = False


# -- calls and replies -------------------------------------------------------------------------------------------


class Call(Struct, array_like=True):
    """A question on `requests`, `queries`, `auth.requests` or `plugin.requests`.

    correlation: 16 random bytes. reply_to: a `replies.` topic, "" where nobody waits. deadline: after it the
    asker has gone. `body` is the MessagePack of a member of the topic's union.
    """

    correlation: bytes
    reply_to: str
    deadline: int
    body: Raw


class Reply(Struct, array_like=True):
    """code 0: `body` is the answer. Otherwise an HTTP status, with the API's text in `message`; `body` is then null, or
    the seconds until it is worth trying again."""

    correlation: bytes
    code: int = 0
    message: str = ""
    body: Raw = Raw(b"\xc0")


class Replies(Struct, array_like=True):
    """One record of a `replies.` topic: all answers of one batch for one process."""

    replies: list[Reply]


# -- events (topic `events.<instance>`) ----------------------------------------------------------------------------


class Events(Struct, array_like=True):
    """One record of an `events.` topic: all messages of one batch that a frontend's interests match.

    (incarnation, partition, offset) of an item names the record on `requests` it came from: what a frontend
    has seen, it drops. Offsets of a partition rise; after a takeover they may begin again further back.
    """

    incarnation: str
    items: list[Item]


# -- interests (topic `subscriptions`) -----------------------------------------------------------------------------


class Interest(Struct, array_like=True, frozen=True):
    """A distinct filter of one destination. Key of the record: `<owner>/<interest key>`; tombstone: gone.

    destination: the topic to send to (`events.<instance>`, `plugin_topic_…`, `mqtt.out`). None matches any.
    owner: the process run whose lease it lives by, "" for one that needs no lease (plugins).
    """

    destination: str
    owner: str
    kind: int
    network_id: int | None = None
    device_type_id: int | None = None
    device_id: str | None = None
    name: str | None = None


class Lease(Struct, array_like=True, frozen=True):
    """Key of the record: `lease/<owner>`. Interests of an owner whose newest lease is older than `duration` ms
    are dropped. Renewed every third of it. Tombstone: the owner left in order."""

    owner: str
    duration: int


# -- metadata changes (topic `metadata-changes`, broadcast) ---------------------------------------------------------


class Changed(Struct, array_like=True):
    """Caches drop these. entity: "user", "network", "device_type", "device", "plugin", "configuration";
    ids as text; empty: all of that entity."""

    entity: str
    ids: list[str]


# -- dead letters ----------------------------------------------------------------------------------------------------


class DeadLetter(Struct, array_like=True):
    """A record that could not be handled, with where it stood and why."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    payload: bytes | None
    reason: str
    tries: int


# -- auth (topic `auth.requests`) ------------------------------------------------------------------------------------


class Login(Struct, array_like=True, tag=1):
    """Answered by `Tokens`. address: the caller's, for the limit on failures."""

    login: str
    password: str
    address: str


class Refresh(Struct, array_like=True, tag=2):
    """Answered by `Tokens` with an empty refresh token."""

    refresh_token: str


class CreateToken(Struct, array_like=True, tag=3):
    """Answered by `Tokens`. access_token: the caller's own, verified again by auth; request: the JSON body of
    POST /token/create."""

    access_token: str
    request: bytes


class CreatePluginToken(Struct, array_like=True, tag=4):
    """Answered by `Tokens`. request: the JSON body of POST /token/plugin/create."""

    access_token: str
    request: bytes


class AuthenticatePlugin(Struct, array_like=True, tag=5):
    """Answered by `plugin_api.PluginTokenView`. token: a plugin's access token."""

    token: str | None


AuthRequest = Login | Refresh | CreateToken | CreatePluginToken | AuthenticatePlugin


class Tokens(Struct, array_like=True):
    access_token: str
    refresh_token: str


# -- api (topic `api.requests`) ----------------------------------------------------------------------------------------


class ApiCall(Struct, array_like=True, tag=1):
    """A request of the WebSocket API, for one who has no socket here. Answered by the JSON text of the reply.

    access_token: the caller's, "" for nobody. address: where the caller comes from. request: JSON text.
    """

    access_token: str
    address: str
    request: bytes


encode = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(Call).decode
decode_replies = msgspec.msgpack.Decoder(Replies).decode
decode_events = msgspec.msgpack.Decoder(Events).decode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_query = msgspec.msgpack.Decoder(Query).decode
decode_auth = msgspec.msgpack.Decoder(AuthRequest).decode
decode_api = msgspec.msgpack.Decoder(ApiCall).decode
decode_interest = msgspec.msgpack.Decoder(Interest).decode
decode_lease = msgspec.msgpack.Decoder(Lease).decode
decode_changed = msgspec.msgpack.Decoder(Changed).decode
