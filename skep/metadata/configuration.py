"""Configuration: named values that admins set at run time."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as upsert

from skep import errors
from skep.wire.fields import ConfigurationName, ConfigurationValue, check

from .database import Database, Transaction
from .rows import Configuration
from .tables import configuration


class Configurations:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> Configuration | None:
        if "\0" in name:
            return None
        query = select(configuration).where(configuration.c.name == name)
        row = await self._database.read(Transaction.first, query)
        return None if row is None else Configuration(*row)

    async def put(self, name: str, value: str) -> Configuration:
        """Create or replace; each replacement raises `entity_version`. name 1-32, value 1-128 characters."""
        named, set_to = check(ConfigurationName, name), check(ConfigurationValue, value)
        return await self._database.write(_put, named, set_to)

    async def delete(self, name: str) -> None:
        """Raises NotFound."""
        await self._database.write(_delete, name)


async def number(t: Transaction, name: str, default: int | None) -> int | None:
    """A configured whole number; the default where it is missing or none."""
    value = await t.value(select(configuration.c.value).where(configuration.c.name == name))
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else default


async def _put(t: Transaction, name: str, value: str) -> Configuration:
    new = upsert(configuration).values(name=name, value=value)
    row = await t.first(
        new.on_conflict_do_update(
            index_elements=[configuration.c.name],
            set_={"value": new.excluded.value, "entity_version": configuration.c.entity_version + 1},
        ).returning(configuration)
    )
    assert row is not None
    t.changed("configuration", name)
    return Configuration(*row)


async def _delete(t: Transaction, name: str) -> None:
    known = "\0" not in name
    if not known or not await t.affected(delete(configuration).where(configuration.c.name == name)):
        raise errors.NotFound(f"Requested config with name = {name} not found in the database")
    t.changed("configuration", name)
