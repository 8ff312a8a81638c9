"""What sessions and routes work with; put together by `app.py`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from frontend.core.configuration import Configurations
from frontend.core.containers import Containers
from frontend.core.devices import Devices
from frontend.core.identities import Identities
from frontend.core.interests import Interests
from frontend.core.logins import Logins
from frontend.core.messages import Messages
from frontend.core.mqtt_passwords import MqttPasswords
from frontend.core.plugins import Plugins
from frontend.core.polls import Polls
from frontend.core.rights import Rights
from frontend.core.subscriptions import Registry
from frontend.core.tokens import Tokens
from frontend.core.users import Users
from skep.metadata.rows import DeviceType, Network
from skep.wire import timestamps, views

API_VERSION = "3.5.0"


class Caches(Protocol):
    def sizes(self) -> dict[str, int]: ...


@dataclass(frozen=True)
class Limits:
    """Of one WebSocket. idle, ping, anonymous, lapsed: seconds."""

    subscriptions: int = 1_000
    requests: int = 1_000
    anonymous_messages: int = 100
    """Messages a second before authentication."""
    queue_messages: int = 1_000
    queue_bytes: int = 1 << 20
    message_bytes: int = 1 << 20
    pings: int = 20
    """Pings a second."""
    idle: float = 240.0
    ping: float = 30.0
    anonymous: float = 10.0
    """From its opening to its first authentication."""
    lapsed: float = 60.0
    """From the end of its token to the next one."""


@dataclass(frozen=True)
class Services:
    messages: Messages
    devices: Devices
    networks: Containers[Network]
    device_types: Containers[DeviceType]
    users: Users
    mqtt_passwords: MqttPasswords
    configuration: Configurations
    rights: Rights
    tokens: Tokens
    plugins: Plugins
    identities: Identities
    logins: Logins
    interests: Interests
    registry: Registry
    polls: Polls
    limits: Limits
    caches: Caches
    cluster: Callable[[], Awaitable[Any]]
    """`bus.health`, for cluster/info."""


def now() -> int:
    """ms since the epoch."""
    return int(time.time() * 1000)


def cache_info(services: Services) -> views.CacheInfo:
    stats = ", ".join(f"{entity}: {size}" for entity, size in services.caches.sizes().items())
    return views.CacheInfo(timestamps.format(now()), stats or "empty")


async def cluster_info(services: Services) -> views.ClusterInfo:
    """Names of engines only: addresses of the inside are nobody's business outside."""
    report = await services.cluster()
    return views.ClusterInfo(str(report.engine), "")
