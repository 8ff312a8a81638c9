"""What the bridge wants of the platform: every message, for the broker to hand out by its clients' subscriptions.

The records name no run and need no lease: `mqtt.out` collects while no bridge runs, for its retention.
"""

from __future__ import annotations

from collections.abc import Iterator

from skep.wire import messages, topics
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE, Interest


def records() -> Iterator[tuple[bytes, bytes]]:
    """Keys and payloads for `subscriptions`."""
    for kind in (NOTIFICATION, COMMAND, UPDATE):
        yield f"{topics.MQTT_OUT}/{kind}".encode(), messages.encode(Interest(topics.MQTT_OUT, "", kind))
