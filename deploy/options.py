"""The launcher's settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploy import mosquitto
from skep import settings
from skep.settings import field

LIGHT, FULL = "light", "full"
AUTO, AMQTT, MOSQUITTO = "auto", "amqtt", "mosquitto"
ROOT = Path(__file__).parent.parent
ANY = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - where to find what listens everywhere


@dataclass(frozen=True)
class Options(settings.Base):
    """Everything else in the environment reaches the services as it is."""

    unused: ClassVar[frozenset[str]] = frozenset(
        ("INSTANCE", "BUS_URLS", "BUS_SECRET", "JWT_SECRET", "SKEP_JWT_KEY", "LOG_LEVEL")
    )

    engines: str = field("ENGINES", LIGHT, "light (PostgreSQL for everything) or full (Kafka and Hazelcast too)")
    data: str = field("SKEP_DATA", ".skep", "folder of data, secrets and logs; made if missing")
    profile: str = field("SKEP_PROFILE", settings.DEVELOPMENT, "development or production")
    host: str = field(
        "HOST", "127.0.0.1", "address of frontend, auth, plugin_manager and plugin proxy; the rest stays on 127.0.0.1"
    )
    database_url: str = field("DATABASE_URL", "", "PostgreSQL to use instead of one of our own", secret=True)
    frontend_port: int = field("FRONTEND_PORT", 8080, "REST and WebSocket", minimum=1)
    auth_port: int = field("AUTH_PORT", 8090, "logins and tokens", minimum=1)
    proxy_port: int = field("PROXY_PORT", 3000, "the bus, for services", minimum=1)
    proxy_plugin_port: int = field("PROXY_PLUGIN_PORT", 3001, "the bus, for plugins", minimum=1)
    plugin_manager_port: int = field("PLUGIN_MANAGER_PORT", 8110, "plugins", minimum=1)
    plugin_endpoint: str = field(
        "PLUGIN_PROXY_ENDPOINT", "", "the bus for plugins, as they are told it; default: HOST and PROXY_PLUGIN_PORT"
    )
    mqtt: bool = field("MQTT", True, "run the MQTT bridge, with a broker unless MQTT_HOST names one")
    mqtt_broker: str = field(
        "MQTT_BROKER",
        AUTO,
        "our broker: amqtt, mosquitto (the machine's), or auto: the latter with ENGINES=full, if any",
    )
    mqtt_host: str = field("MQTT_HOST", "", "an MQTT broker to use instead of one of our own")
    mqtt_port: int = field("MQTT_PORT", 1883, "the MQTT broker", minimum=1)
    mqtt_websocket_port: int = field("MQTT_WEBSOCKET_PORT", 8083, "MQTT over WebSocket at our broker; 0: none")
    mqtt_tls_cert: str = field(
        "MQTT_TLS_CERT",
        "",
        "file with our broker's certificate and those that sign it: MQTT over TLS on HOST, without TLS on 127.0.0.1",
    )
    mqtt_tls_key: str = field("MQTT_TLS_KEY", "", "file with its key; default: it is in MQTT_TLS_CERT")
    mqtt_tls_port: int = field("MQTT_TLS_PORT", 8883, "MQTT over TLS, with MQTT_TLS_CERT; 0: none")
    mqtt_websocket_tls_port: int = field(
        "MQTT_WEBSOCKET_TLS_PORT", 8084, "MQTT over WebSocket with TLS, with MQTT_TLS_CERT; 0: none"
    )
    mqtt_hooks_port: int = field("MQTT_HOOKS_PORT", 8120, "the bridge's answers to brokers' questions", minimum=1)
    mqtt_bridges: int = field("MQTT_BRIDGES", 1, "how many MQTT bridges to run", minimum=1)
    backends: int = field("BACKENDS", 1, "how many backends to run", minimum=1)
    kafka_bootstrap: str = field("KAFKA_BOOTSTRAP", "", "a Kafka to use instead of one of our own")
    kafka_port: int = field("KAFKA_PORT", 9092, "our Kafka, for the proxy", minimum=1)
    kafka_controller_port: int = field("KAFKA_CONTROLLER_PORT", 9093, "our Kafka, for itself", minimum=1)
    hazelcast_members: str = field("HAZELCAST_MEMBERS", "", "a Hazelcast to use instead of one of our own, comma list")
    hazelcast_cluster: str = field("HAZELCAST_CLUSTER", "skep", "name of the Hazelcast cluster")
    hazelcast_count: int = field("HAZELCAST_COUNT", 1, "members of our Hazelcast; with 2, one may die", minimum=1)
    hazelcast_port: int = field("HAZELCAST_PORT", 5701, "our Hazelcast; further members take the next ports", minimum=1)
    hazelcast_heap: str = field("HAZELCAST_HEAP", "1g", "heap of a member; formula in deploy/engines/hazelcast.yaml")
    message_ttl: int = field("MESSAGE_TTL", 120, "seconds that messages are kept", minimum=1)

    @property
    def is_full(self) -> bool:
        return self.engines == FULL

    @property
    def reachable(self) -> str:
        """`host`, as it stands in a URL for this machine."""
        return ANY.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)

    @property
    def endpoint(self) -> str:
        return self.plugin_endpoint or f"ws://{self.reachable}:{self.proxy_plugin_port}"

    @property
    def folder(self) -> Path:
        """Relative paths are meant from the repository, wherever the launcher was started."""
        return (ROOT / Path(self.data).expanduser()).absolute()

    @property
    def password(self) -> str:
        """What the first admin gets."""
        return self.admin_password or settings.KNOWN_PASSWORD

    @property
    def hazelcast_ports(self) -> tuple[int, ...]:
        return tuple(range(self.hazelcast_port, self.hazelcast_port + self.hazelcast_count))

    @property
    def has_broker(self) -> bool:
        """Whether an MQTT broker of ours runs."""
        return self.mqtt and not self.mqtt_host

    @property
    def runs_mosquitto(self) -> bool:
        """Whether that broker is Mosquitto."""
        wanted = self.mqtt_broker == MOSQUITTO or (self.mqtt_broker == AUTO and self.is_full and mosquitto.is_here())
        return self.has_broker and wanted

    @property
    def mqtt_plain_host(self) -> str:
        """Where our broker listens without TLS: beside a certificate for this machine alone."""
        return "127.0.0.1" if self.mqtt_tls_cert else self.host

    def listeners(self) -> list[tuple[str, int, str]]:
        """(address, port, setting) of everything that will listen."""
        local = "127.0.0.1"
        listeners = [
            (self.host, self.frontend_port, "FRONTEND_PORT"),
            (self.host, self.auth_port, "AUTH_PORT"),
            (local, self.proxy_port, "PROXY_PORT"),
            (self.host, self.proxy_plugin_port, "PROXY_PLUGIN_PORT"),
            (self.host, self.plugin_manager_port, "PLUGIN_MANAGER_PORT"),
        ]
        if self.mqtt:
            listeners.append((local, self.mqtt_hooks_port, "MQTT_HOOKS_PORT"))
        if self.has_broker:
            listeners += self._mqtt_listeners()
        if self.is_full and not self.kafka_bootstrap:
            listeners.append((local, self.kafka_port, "KAFKA_PORT"))
            listeners.append((local, self.kafka_controller_port, "KAFKA_CONTROLLER_PORT"))
        if self.is_full and not self.hazelcast_members:
            listeners += [(local, port, "HAZELCAST_PORT") for port in self.hazelcast_ports]
        return listeners

    def _mqtt_listeners(self) -> Iterator[tuple[str, int, str]]:
        yield self.mqtt_plain_host, self.mqtt_port, "MQTT_PORT"
        if self.mqtt_websocket_port:
            yield self.mqtt_plain_host, self.mqtt_websocket_port, "MQTT_WEBSOCKET_PORT"
        if self.mqtt_tls_cert and self.mqtt_tls_port:
            yield self.host, self.mqtt_tls_port, "MQTT_TLS_PORT"
        if self.mqtt_tls_cert and self.mqtt_websocket_tls_port:
            yield self.host, self.mqtt_websocket_tls_port, "MQTT_WEBSOCKET_TLS_PORT"

    def unsafe(self) -> Iterator[str]:
        yield from super().unsafe()
        if self.engines not in (LIGHT, FULL):
            yield f"ENGINES={self.engines} is neither {LIGHT} nor {FULL}"
        if self.mqtt_broker not in (AUTO, AMQTT, MOSQUITTO):
            yield f"MQTT_BROKER={self.mqtt_broker} is none of {AUTO}, {AMQTT}, {MOSQUITTO}"
        if self.is_production and not self.admin_password:
            yield "SKEP_ADMIN_PASSWORD is not set; only the development profile has a known password"
        used: dict[int, str] = {}
        for _, port, setting in self.listeners():
            if port in used:
                yield f"{used[port]} and {setting} are both {port}"
            used[port] = setting
