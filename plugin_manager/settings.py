"""Settings of plugin_manager."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from skep import settings
from skep.settings import field
from skep.wire.plugin_api import MAX_RETENTION, MIN_RETENTION


@dataclass(frozen=True)
class Settings(settings.Edge):
    port: int = field("PLUGIN_MANAGER_PORT", 8110, "port of REST")
    prefix: str = field("PLUGIN_MANAGER_PREFIX", "/plugin", "context path; REST is below it at /rest")
    proxy_endpoint: str = field(
        "PLUGIN_PROXY_ENDPOINT", "ws://127.0.0.1:3001", "address of the plugin proxy, as plugins are told it"
    )
    plugins: int = field("MAX_PLUGINS", 100, "most plugins of one user", minimum=1)
    sockets: int = field("PLUGIN_SOCKETS", 4, "most open sockets of one plugin, over all proxies", minimum=1)
    partitions: int = field("PLUGIN_PARTITIONS", 4, "partitions of a plugin's stream: so many sockets can share it")
    filters: int = field(
        "PLUGIN_FILTERS", 10_000, "most combinations of kind, network, device type and name of one plugin", minimum=1
    )
    retention: int = field(
        "PLUGIN_RETENTION", 3_600, "seconds that messages wait for a plugin that does not say how long"
    )

    def unsafe(self) -> Iterator[str]:
        yield from super().unsafe()
        if not 1 <= self.partitions <= 64:
            yield f"PLUGIN_PARTITIONS={self.partitions} is not between 1 and 64"
        if not MIN_RETENTION <= self.retention <= MAX_RETENTION:
            yield f"PLUGIN_RETENTION={self.retention} is not between {MIN_RETENTION} and {MAX_RETENTION}"
