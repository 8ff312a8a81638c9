"""The catalogue of topics: which are durable, how they are kept, and which service may do what with them."""

from __future__ import annotations

import re

from msgspec import Struct

REQUESTS = "requests"
SUBSCRIPTIONS = "subscriptions"
METADATA_CHANGES = "metadata-changes"
DEAD_LETTERS = "dead-letters"
MQTT_OUT = "mqtt.out"
QUERIES = "queries"
AUTH_REQUESTS = "auth.requests"
PLUGIN_REQUESTS = "plugin.requests"
API_REQUESTS = "api.requests"

HOUR = 3_600_000


class Durable(Struct, frozen=True):
    """How a durable topic is kept. partitions 0: the proxy's setting. retention in ms."""

    partitions: int = 1
    retention: int = 24 * HOUR
    compacted: bool = False


DURABLE: dict[str, Durable] = {
    REQUESTS: Durable(partitions=0),
    SUBSCRIPTIONS: Durable(compacted=True),
    METADATA_CHANGES: Durable(retention=HOUR),
    MQTT_OUT: Durable(partitions=0, retention=HOUR),
    DEAD_LETTERS: Durable(retention=7 * 24 * HOUR),
}
"""Made by the proxy when it starts. `plugin.<uuid>` topics are made and deleted by plugin_manager."""

SPREAD = frozenset({QUERIES, AUTH_REQUESTS, PLUGIN_REQUESTS, API_REQUESTS})
"""Short-lived, each record to one of the subscribers. A question that outlives its asker is worth nothing,
and a password does not belong in a log, so none of them passes the engine."""

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,248}")


def is_durable(topic: str) -> bool:
    return topic in DURABLE or topic.startswith("plugin_topic_")


def is_short_lived(topic: str) -> bool:
    return topic in SPREAD or topic.startswith(("replies.", "events."))


def replies(instance: str) -> str:
    """Where answers to this process run go. `instance` is unique for each run (`frontend-1.5f3a…`)."""
    return f"replies.{instance}"


def events(instance: str) -> str:
    """Where a frontend run gets the messages its interests match."""
    return f"events.{instance}"


class Rights(Struct, frozen=True):
    """Topics a service may publish to and subscribe to. `{instance}` stands for the token's instance name; an
    entry that ends in `*` is a prefix."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    create: tuple[str, ...] = ()


_OWN = ("replies.{instance}.*", "events.{instance}.*", METADATA_CHANGES)

RIGHTS: dict[str, Rights] = {
    "frontend": Rights(
        publish=("replies.*", REQUESTS, QUERIES, AUTH_REQUESTS, PLUGIN_REQUESTS, SUBSCRIPTIONS, METADATA_CHANGES),
        subscribe=(API_REQUESTS, *_OWN),
    ),
    "backend": Rights(
        publish=("replies.*", "events.*", "plugin_topic_*", MQTT_OUT, DEAD_LETTERS, SUBSCRIPTIONS),
        subscribe=(REQUESTS, QUERIES, SUBSCRIPTIONS, *_OWN),
    ),
    "auth": Rights(publish=("replies.*", METADATA_CHANGES, REQUESTS, SUBSCRIPTIONS), subscribe=(AUTH_REQUESTS, *_OWN)),
    "plugin_manager": Rights(
        publish=("replies.*", METADATA_CHANGES, SUBSCRIPTIONS, REQUESTS, AUTH_REQUESTS),
        subscribe=(PLUGIN_REQUESTS, *_OWN),
        create=("plugin_topic_*",),
    ),
    "mqtt_bridge": Rights(
        publish=(REQUESTS, QUERIES, AUTH_REQUESTS, API_REQUESTS, SUBSCRIPTIONS, METADATA_CHANGES),
        subscribe=(MQTT_OUT, *_OWN),
    ),
    "plugin_proxy": Rights(publish=(AUTH_REQUESTS, PLUGIN_REQUESTS), subscribe=("plugin_topic_*", *_OWN)),
    "tool": Rights(publish=("*",), subscribe=("*",), create=("plugin_topic_*",)),
}


def allowed(patterns: tuple[str, ...], topic: str, instance: str) -> bool:
    """Whether one of the patterns of `Rights` covers the topic."""
    for pattern in patterns:
        pattern = pattern.replace("{instance}", instance)
        if topic == pattern or (pattern.endswith("*") and topic.startswith(pattern[:-1])):
            return True
    return False
