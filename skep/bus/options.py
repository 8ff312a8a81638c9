"""Deadlines and limits of the bus client. Seconds, unless a name says otherwise."""

from __future__ import annotations

from msgspec import Struct


class Options(Struct, frozen=True, kw_only=True):
    start_timeout: float = 60.0
    """How long `start` waits for a first proxy."""
    subscribe_timeout: float = 30.0
    """How long `subscribe` waits to be in effect."""
    ask_timeout: float = 5.0
    """describe, create_topic, delete_topic, health."""
    connect_timeout: float = 5.0
    close_timeout: float = 1.0
    backoff_first: float = 0.05
    backoff_last: float = 1.0
    ping_interval: float = 1.0
    ping_misses: int = 4
    """A proxy that sent nothing in so many intervals is dead."""
    fresh: float = 1.0
    """`owned` believes what the proxy said so long ago."""
    owned_timeout: float = 10.0
    """After it partitions whose fate is unknown are given up."""
    settle: float = 5.0
    """After a reconnect: partitions that are not assigned again by then are revoked."""
    fence_grace: float = 15.0
    """So long after a reconnect "a newer member has our name" may be an attempt of our own old connection."""
    grace: float = 3.0
    """A proxy holds short-lived records so long after its start; see `Stream`."""
    ready_timeout: float = 1.0
    """After a reconnect publishing goes on when the streams are subscribed, or by then."""
    unconfirmed_records: int = 50_000
    unconfirmed_bytes: int = 64 << 20
    calls: int = 50_000
    """Most calls waiting for their answers."""
