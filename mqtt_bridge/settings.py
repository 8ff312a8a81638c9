"""Settings of the MQTT bridge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from skep import settings
from skep.settings import field

BRIDGE, BROKER = "bridge", "broker"


@dataclass(frozen=True)
class Settings(settings.Base):
    role: str = field("MQTT_ROLE", BRIDGE, "bridge, to a broker of yours, or broker, which is amqtt with our rights")
    websocket_port: int = field("MQTT_WEBSOCKET_PORT", 0, "port of MQTT over WebSocket (role broker); 0: none")
    tls_cert: str = field(
        "MQTT_TLS_CERT",
        "",
        "file with the broker's certificate and those that sign it (role broker): TLS on HOST, without TLS 127.0.0.1",
    )
    tls_key: str = field("MQTT_TLS_KEY", "", "file with its key; default: it is in MQTT_TLS_CERT")
    tls_port: int = field("MQTT_TLS_PORT", 8883, "port of MQTT over TLS (role broker); 0: none")
    websocket_tls_port: int = field(
        "MQTT_WEBSOCKET_TLS_PORT", 8084, "port of MQTT over WebSocket with TLS (role broker); 0: none"
    )
    broker_host: str = field("MQTT_HOST", "127.0.0.1", "address of the MQTT broker")
    broker_port: int = field("MQTT_PORT", 1883, "port of the MQTT broker", minimum=1)
    version: str = field("MQTT_VERSION", "auto", "MQTT to the broker: 5, 3.1.1, or auto, which tries them in turn")
    tls: bool = field("MQTT_TLS", False, "TLS to the broker, with verification")
    tls_ca: str = field("MQTT_TLS_CA", "", "file of certificates to trust instead of the system's")
    username: str = field("MQTT_BRIDGE_USER", "skep-bridge", "the bridge's own account at the broker")
    password: str = field("MQTT_BRIDGE_PASSWORD", "", "its password, required", secret=True)
    session: str = field(
        "MQTT_SESSION",
        "skep-bridge",
        "client id of the session that takes what devices publish, one bridge at a time; nobody else may begin so",
    )
    sessions: int = field(
        "MQTT_INBOUND_SESSIONS",
        1,
        "sessions that take what devices publish; several share it by $share (MQTT 5), and not in order",
        minimum=1,
    )
    escape: str = field("MQTT_ESCAPE", "", "further characters to percent-encode in names: .* for RabbitMQ")
    renumbers: bool = field(
        "MQTT_RENUMBERS", False, "the broker gives what it sends again other packet identifiers: true for RabbitMQ"
    )
    anonymous: bool = field(
        "MQTT_ANONYMOUS", False, "clients without a password may connect, to log in by dh/request and for own topics"
    )
    names_publisher: bool = field(
        "MQTT_NAMES_PUBLISHER", False, "the broker adds the client id to plain dh/request (amqtt with Skep's plugin)"
    )
    dynamic_security: bool = field(
        "MQTT_DYNAMIC_SECURITY", False, "keep clients and rights in Mosquitto's dynamic security, from MQTT passwords"
    )
    other_topics: tuple[str, ...] = field(
        "MQTT_OTHER_TOPICS", (), "first levels besides dh that every client may use with dynamic security, comma list"
    )
    hooks_port: int = field("MQTT_HOOKS_PORT", 8120, "port of the hooks that brokers ask; 0 takes a free one")
    send: int = field("MQTT_SEND_WINDOW", 64, "messages to the broker that may be unconfirmed", minimum=1)
    receive: int = field("MQTT_RECEIVE_WINDOW", 500, "packets of the broker that may be unacknowledged", minimum=1)
    backlog: int = field(
        "MQTT_BACKLOG",
        16 << 20,
        "bytes that may wait for a client (role broker), whose session ends with more; 16 times as many for a bridge",
        minimum=1,
    )
    lease: float = field(
        "MQTT_LEASE", 6.0, "seconds after which another bridge takes over from one that hangs", minimum=1
    )

    def unsafe(self) -> Iterator[str]:
        yield from super().unsafe()
        if self.role not in (BRIDGE, BROKER):
            yield f"MQTT_ROLE={self.role} is neither {BRIDGE} nor {BROKER}"
        if self.version not in ("auto", "5", "3.1.1"):
            yield f"MQTT_VERSION={self.version} is none of auto, 5, 3.1.1"
        if self.sessions > 1 and (self.version == "3.1.1" or self.renumbers):
            yield f"MQTT_INBOUND_SESSIONS={self.sessions} needs a broker that speaks MQTT 5"
        if not self.password:
            yield "MQTT_BRIDGE_PASSWORD is not set"
        if self.tls_key and not self.tls_cert:
            yield "MQTT_TLS_KEY is set and MQTT_TLS_CERT is not"
        for level in self.other_topics:
            if level == "dh" or level.startswith("$") or set(level) & set("/+#"):
                yield f"MQTT_OTHER_TOPICS: {level} is no first level that clients may have"
        if self.is_production and self.anonymous:
            yield "MQTT_ANONYMOUS=true lets everybody connect"
        if self.is_production and not self.tls and not settings.is_loopback(self.broker_host):
            yield f"MQTT_HOST={self.broker_host} without MQTT_TLS=true sends passwords and messages in clear"
