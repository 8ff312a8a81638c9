"""Configuration: named values, never secrets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from skep import errors
from skep.metadata.rows import Configuration

if TYPE_CHECKING:
    from skep.metadata.configuration import Configurations as Repository

_SECRET = re.compile("secret|password", re.IGNORECASE)
"""Names like `jwt.secret`, which a database taken over from DeviceHive holds: not served, and not to be set,
because secrets come from the environment alone. Deleting what is left is welcome."""


class Configurations:
    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def get(self, name: str) -> Configuration:
        """Raises NotFound, for a secret too."""
        found = None if _SECRET.search(name) else await self._repository.get(name)
        if found is None:
            raise errors.NotFound(f"Requested config with name = {name} not found in the database")
        return found

    async def put(self, name: str, value: str | None) -> Configuration:
        """Raises BadRequest; Forbidden for a secret."""
        if _SECRET.search(name):
            raise errors.Forbidden
        return await self._repository.put(name, value or "")

    async def delete(self, name: str) -> None:
        """Raises NotFound."""
        await self._repository.delete(name)
