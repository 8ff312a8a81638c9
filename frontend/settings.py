"""Settings of the frontend."""

from __future__ import annotations

from dataclasses import dataclass

from skep import settings


@dataclass(frozen=True)
class Settings(settings.Edge):
    port: int = settings.field("FRONTEND_PORT", 8080, "port of REST and WebSocket")
    prefix: str = settings.field("FRONTEND_PREFIX", "/api", "path below which are /rest and /websocket")
    documents: tuple[str, ...] = settings.field(
        "API_DOCUMENTS",
        ("/api/rest/openapi.json", ":8090/auth/rest/openapi.json", ":8110/plugin/rest/openapi.json"),
        "what /api/swagger shows: paths of this host, :port/path for other ports of it, or URLs; comma list",
    )
    anonymous_seconds: float = settings.field(
        "ANONYMOUS_SECONDS", 10.0, "seconds after which a WebSocket that has never authenticated is closed", minimum=1
    )
    anonymous_sockets: int = settings.field(
        "ANONYMOUS_SOCKETS", 200, "most WebSockets of one address without authentication; 0: any number"
    )
    subscriptions: int = settings.field("MAX_SUBSCRIPTIONS", 1000, "most subscriptions of one WebSocket", minimum=1)
    hash_threads: int = settings.field(
        "HASH_THREADS", 1, "passwords hashed at a time, 64 MiB each; at most one per core", minimum=1
    )
    polls: int = settings.field("MAX_POLLS", 100, "most long polls of one user at a time", minimum=1)
