"""Settings of the backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from skep import settings

STORES = ("postgres", "hazelcast")


@dataclass(frozen=True)
class Settings(settings.Base):
    unused: ClassVar[frozenset[str]] = frozenset({"JWT_SECRET", "SKEP_JWT_KEY", "SKEP_ADMIN_PASSWORD", "HOST"})

    store: str = settings.field("MESSAGE_STORE", "postgres", "where messages are kept: postgres or hazelcast")
    store_url: str = settings.field(
        "STORE_DATABASE_URL", "", "PostgreSQL of the message store; default: DATABASE_URL", secret=True
    )
    members: tuple[str, ...] = settings.field("HAZELCAST_MEMBERS", ("127.0.0.1:5701",), "host:port, comma list")
    cluster: str = settings.field("HAZELCAST_CLUSTER", "skep", "name of the Hazelcast cluster")
    ttl: float = settings.field("MESSAGE_TTL", 120.0, "seconds a message is kept after its last write", minimum=1)
    store_bytes: int = settings.field(
        "MESSAGE_STORE_BYTES", 2 << 30, "size of the PostgreSQL message store at which writes are refused", minimum=1
    )
    store_entries: int = settings.field(
        "MESSAGE_STORE_ENTRIES", 1_000_000, "messages in Hazelcast at which writes are refused", minimum=1
    )
    store_timeout: float = settings.field(
        "MESSAGE_STORE_TIMEOUT", 5.0, "seconds for one call of the store", minimum=0.1
    )
    batch_records: int = settings.field("BATCH_RECORDS", 1_000, "most requests in one batch", minimum=1)
    batch_bytes: int = settings.field("BATCH_BYTES", 4 << 20, "most bytes of requests in one batch", minimum=1)
    batches: int = settings.field("BATCHES_IN_FLIGHT", 8, "most batches not yet acknowledged", minimum=1)
    queries: int = settings.field("QUERIES_AT_ONCE", 64, "most queries answered at a time", minimum=1)
    fault: str = settings.field(
        "SKEP_FAULT", "", "raise:NAME fails on notifications so named; development profile only"
    )

    def unsafe(self) -> Iterator[str]:
        yield from super().unsafe()
        if self.store not in STORES:
            yield f"MESSAGE_STORE={self.store} is none of {', '.join(STORES)}"
        if self.fault and self.is_production:
            yield "SKEP_FAULT is for the development profile"
        if self.fault and not self.fault.startswith("raise:"):
            yield f"SKEP_FAULT={self.fault} is not of the form raise:NAME"
