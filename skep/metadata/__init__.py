"""Metadata in PostgreSQL: tables, one repository file per entity, the outbox with its relay, caches.

    metadata = Metadata(url)
    caches = Caches(metadata)
    relay = Relay(metadata, bus, caches)

`python -m skep.metadata migrate` and `python -m skep.metadata admin` prepare a database.
"""

from .caches import Caches
from .metadata import Metadata
from .relay import Relay

__all__ = ["Caches", "Metadata", "Relay"]
