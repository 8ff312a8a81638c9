"""Topic `plugin.requests`: what plugin proxies and frontends ask plugin_manager. MessagePack, structs as arrays: fields
are only appended, with a default."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from skep.wire.messages import decode_changed

TOPIC = "plugin_topic_"
"""A plugin's topic, as its tokens, REST and the JSON dialect name it: this and a UUID."""


def stream(topic: str, number: int) -> str:
    """The topic of the bus behind a plugin's topic."""
    return f"{topic}.{number}"


class Filter(Struct, frozen=True, omit_defaults=True):
    """Which messages a plugin wants, all conditions together; None: any. kinds: of `wire.messages`. Kept in PostgreSQL
    as JSON."""

    kinds: list[int] | None = None
    networks: list[int] | None = None
    device_types: list[int] | None = None
    device_id: str | None = None
    names: list[str] | None = None


# -- the API, asked by frontends for their callers ------------------------------------------------------------------
# access_token: the caller's, verified again. query, body: JSON of the structs of `plugin_api.py`. Each is answered
# by the JSON text of what REST answers with.


class ListPlugins(Struct, array_like=True, tag=1):
    access_token: str
    query: bytes


class CountPlugins(Struct, array_like=True, tag=2):
    access_token: str
    query: bytes


class RegisterPlugin(Struct, array_like=True, tag=3):
    access_token: str
    query: bytes
    body: bytes


class UpdatePlugin(Struct, array_like=True, tag=4):
    access_token: str
    query: bytes


class DeletePlugin(Struct, array_like=True, tag=5):
    access_token: str
    topic_name: str | None


# -- sockets, told by plugin proxies ---------------------------------------------------------------------------------


class Socket(Struct, array_like=True):
    """An authenticated socket of a plugin.

    id: unique within the proxy's run. topic: the plugin's, as its token names it. group: the subscription group it
    asked for, "" for none, None while it is not subscribed. address: where it comes from. since: ms since the epoch.
    """

    id: int
    topic: str
    group: str | None = None
    address: str = ""
    since: int = 0


class Attend(Struct, array_like=True, tag=10):
    """All sockets of one proxy run, sent at every change and every third of `lease`; answered by `Attendance`.

    lease: ms after which the run's sockets count as gone, unless it is sent again. An empty list: the run stops.
    number: rises with every sending of the run; what comes behind a newer one is passed over.
    """

    run: str
    number: int
    lease: int
    sockets: list[Socket]


class Seat(Struct, array_like=True):
    """What a socket may have.

    stream: the bus topic behind the plugin's topic as of now. group: the bus's consumer group for it, "" while it is
    not subscribed. earliest: where that group has no position yet, it begins at the stream's first record, else at
    its end. refusal: why the socket must be closed, "" where it may stay.

    A socket that asked for something and finds neither it nor a refusal has to ask again: whether another proxy that
    has sockets of the plugin still lives is not known yet, and it is not to be given the place beside one that is
    free, nor to be refused for one that is gone. That takes a third of the lease, at most a whole one.
    """

    id: int
    stream: str = ""
    group: str = ""
    earliest: bool = False
    refusal: str = ""


class Attendance(Struct, array_like=True):
    """One seat for each socket of the `Attend` it answers."""

    seats: list[Seat]


PluginRequest = ListPlugins | CountPlugins | RegisterPlugin | UpdatePlugin | DeletePlugin | Attend

decode = msgspec.msgpack.Decoder(PluginRequest).decode


def changed(payload: bytes) -> list[str] | None:
    """Of a record of `metadata-changes`: the topics of the plugins it is about, [] for all of them, None for none."""
    try:
        change = decode_changed(payload)
    except msgspec.MsgspecError:
        return None
    return change.ids if change.entity == "plugin" else None
