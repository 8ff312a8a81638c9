"""What plugin proxies and plugin_manager tell each other (topic `plugin.requests`). MessagePack, structs as arrays:
fields are only appended, with a default."""

from __future__ import annotations

from msgspec import Struct


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
    """

    id: int
    stream: str = ""
    group: str = ""
    earliest: bool = False
    refusal: str = ""


class Attendance(Struct, array_like=True):
    """One seat for each socket of the `Attend` it answers."""

    seats: list[Seat]
