"""The services as processes: what each is called, its environment, and when it counts as ready."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deploy.folder import Folder
from deploy.options import ROOT, Options
from deploy.process import Spec

LOCAL = "127.0.0.1"
BRIDGE = "mqtt-bridge"
PRIVATE = {"MQTT_BRIDGE_PASSWORD": "mqtt_bridge"}
"""Secrets that one package alone is told."""


@dataclass(frozen=True)
class Engines:
    """Where the services find what they keep their data in."""

    database_url: str
    kafka_bootstrap: str = ""
    hazelcast_members: str = ""


def environment(options: Options, engines: Engines, secrets: Mapping[str, str]) -> dict[str, str]:
    """What all services get on top of the launcher's own environment."""
    settings = {
        "SKEP_PROFILE": options.profile,
        "DATABASE_URL": engines.database_url,
        "HOST": LOCAL,
        "BUS_URLS": f"ws://{LOCAL}:{options.proxy_port}",
        "BUS_ENGINE": "kafka" if options.is_full else "postgres",
        "MESSAGE_STORE": "hazelcast" if options.is_full else "postgres",
        "MESSAGE_TTL": str(options.message_ttl),
        "FRONTEND_PORT": str(options.frontend_port),
        "AUTH_PORT": str(options.auth_port),
        "PROXY_PORT": str(options.proxy_port),
        "PROXY_PLUGIN_PORT": str(options.proxy_plugin_port),
        "PLUGIN_MANAGER_PORT": str(options.plugin_manager_port),
        "MQTT_PORT": str(options.mqtt_port),
        "MQTT_WEBSOCKET_PORT": str(options.mqtt_websocket_port),
        "MQTT_TLS_CERT": options.mqtt_tls_cert,
        "MQTT_TLS_KEY": options.mqtt_tls_key,
        "MQTT_TLS_PORT": str(options.mqtt_tls_port),
        "MQTT_WEBSOCKET_TLS_PORT": str(options.mqtt_websocket_tls_port),
        "MQTT_HOOKS_PORT": str(options.mqtt_hooks_port),
        "PLUGIN_PROXY_ENDPOINT": options.endpoint,
        **secrets,
    }
    if options.is_full:
        settings["KAFKA_BOOTSTRAP"] = engines.kafka_bootstrap
        settings["HAZELCAST_MEMBERS"] = engines.hazelcast_members
        settings["HAZELCAST_CLUSTER"] = options.hazelcast_cluster
    return settings


def specs(options: Options, folder: Folder, inherited: Mapping[str, str]) -> list[Spec]:
    """In the order of their start; the proxy, which all others connect to, first. Rooms that are empty are left out."""
    edge = {"HOST": options.host}
    wanted: list[tuple[str, str, dict[str, str]]] = [
        ("proxy", "ws_kafka_proxy", {"PROXY_ROLE": "core"}),
        ("proxy-plugins", "ws_kafka_proxy", {"PROXY_ROLE": "plugin", **edge}),
        *((numbered("backend", number), "backend", {}) for number in range(1, options.backends + 1)),
        ("auth", "auth", edge),
        ("plugin-manager", "plugin_manager", edge),
        ("frontend", "frontend", {**edge, "API_DOCUMENTS": ",".join(_documents(options))}),
    ]
    if options.has_broker and not options.runs_mosquitto:
        wanted.append(("mqtt-broker", "mqtt_bridge", {"MQTT_ROLE": "broker", **edge}))
    if options.mqtt:
        bridges = [numbered(BRIDGE, number) for number in range(1, options.mqtt_bridges + 1)]
        wanted += [(name, "mqtt_bridge", _broker(options)) for name in bridges]
    return [
        _spec(name, package, {**seen_by(package, inherited), **own}, folder)
        for name, package, own in wanted
        if _runs(package)
    ]


def seen_by(package: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Without the secrets of other packages."""
    return {name: value for name, value in environment.items() if PRIVATE.get(name, package) == package}


def _broker(options: Options) -> dict[str, str]:
    """Where the bridge finds it; amqtt speaks MQTT 3.1.1."""
    if options.mqtt_host:
        return {"MQTT_HOST": options.mqtt_host}
    own = {"MQTT_DYNAMIC_SECURITY": "true"} if options.runs_mosquitto else {"MQTT_VERSION": "3.1.1"}
    return {"MQTT_HOST": LOCAL, "MQTT_TLS": "false", **own}


def _documents(options: Options) -> Iterator[str]:
    """For Swagger UI: the OpenAPI documents of the services that run."""
    yield "/api/rest/openapi.json"
    yield f":{options.auth_port}/auth/rest/openapi.json"
    if _runs("plugin_manager"):
        yield f":{options.plugin_manager_port}/plugin/rest/openapi.json"


def numbered(name: str, number: int) -> str:
    """Of one of several that do the same."""
    return name if number == 1 else f"{name}-{number}"


def _runs(package: str) -> bool:
    return (ROOT / package / "__main__.py").exists()


def _spec(name: str, package: str, settings: Mapping[str, str], folder: Folder) -> Spec:
    ready = folder.ready(name)
    instance = name if name[-1].isdigit() else f"{name}-1"
    environment = {**settings, "INSTANCE": instance, "READY_FILE": str(ready)}
    return Spec(
        name=name,
        command=[sys.executable, "-m", package],
        environment=lambda: {**environment, **folder.settings(name)},
        ready=ready.exists,
        folder=str(ROOT),
    )
