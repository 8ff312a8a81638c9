"""Settings of the proxy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from skep import settings
from skep.settings import field

CORE, PLUGIN = "core", "plugin"
POSTGRES, KAFKA = "postgres", "kafka"


@dataclass(frozen=True)
class Settings(settings.Base):
    """Times in seconds."""

    role: str = field("PROXY_ROLE", CORE, "core: the bus for services; plugin: the listener for plugins")
    port: int = field("PROXY_PORT", 3000, "port for services (role core); 0 takes a free one")
    plugin_port: int = field("PROXY_PLUGIN_PORT", 3001, "port for plugins (role plugin)")
    plugin_rate: int = field(
        "PLUGIN_RATE", 1_000, "messages a second that a plugin's socket may send; more are refused. 0: any", minimum=0
    )
    plugin_byte_rate: int = field(
        "PLUGIN_BYTE_RATE",
        1 << 20,
        "bytes a second that a plugin's socket may send; more are refused. 0: any",
        minimum=0,
    )
    plugin_connections: int = field(
        "PLUGIN_CONNECTIONS", 1_000, "sockets of plugins that may be open at a time on one proxy", minimum=1
    )
    plugin_silence: float = field(
        "PLUGIN_ACK_TIMEOUT", 300.0, "how long a plugin that acknowledges may take for the next one", minimum=0.1
    )
    engine: str = field("BUS_ENGINE", POSTGRES, "postgres or kafka")
    kafka_bootstrap: str = field("KAFKA_BOOTSTRAP", "127.0.0.1:9092", "Kafka brokers, comma list")
    kafka_replicas: int = field(
        "KAFKA_REPLICAS", 0, "copies of each topic that is made; 0: as many as there are brokers, at most 3"
    )
    log_database_url: str = field("LOG_DATABASE_URL", "", "PostgreSQL with the log; default: DATABASE_URL", secret=True)
    partitions: int = field(
        "REQUEST_PARTITIONS", 8, "partitions of requests and mqtt.out, when they are made", minimum=1
    )
    session_timeout: float = field(
        "BUS_SESSION_TIMEOUT", 2.0, "how long a group member that vanished keeps its partitions"
    )
    ping_interval: float = field("PROXY_PING_INTERVAL", 1.5, "between pings on a socket", minimum=0.1)
    ping_timeout: float = field(
        "PROXY_PING_TIMEOUT", 2.5, "for the answer to a ping; then the socket is closed", minimum=0.1
    )
    hold: float = field("PROXY_HOLD", 3.0, "after the start: how long short-lived records wait for their subscriber")
    full_after: float = field("PROXY_FULL_AFTER", 2.0, "how long a short-lived stream may stay full before it is cut")
    stream_records: int = field(
        "PROXY_STREAM_RECORDS", 20_000, "records that may wait on a short-lived topic", minimum=1
    )
    stream_bytes: int = field("PROXY_STREAM_BYTES", 64 << 20, "bytes that may wait on a short-lived topic", minimum=1)
    log_limit: int = field(
        "LOG_LIMIT", 20 << 30, "bytes of the PostgreSQL log past which publishes are refused; 0: none"
    )
    log_leaf: float = field("LOG_TABLE_SPAN", 3600.0, "span of time of one table of the PostgreSQL log", minimum=0.01)
    log_upkeep: float = field("LOG_UPKEEP", 10.0, "between rounds of retention and compaction", minimum=0.01)
    log_deadline: float = field("LOG_DEADLINE", 10.0, "for an answer of PostgreSQL", minimum=0.1)
    tombstones: float = field(
        "LOG_TOMBSTONES", 3600.0, "how long a compacted topic of the PostgreSQL log keeps tombstones"
    )

    def unsafe(self) -> Iterator[str]:
        yield from super().unsafe()
        if self.role not in (CORE, PLUGIN):
            yield f"PROXY_ROLE={self.role} is neither {CORE} nor {PLUGIN}"
        if self.engine not in (POSTGRES, KAFKA):
            yield f"BUS_ENGINE={self.engine} is neither {POSTGRES} nor {KAFKA}"
