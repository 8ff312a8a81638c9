"""Bring the schema up to date. Not a part of `Metadata`: Alembic is large, slow to import, and no service needs it."""

from __future__ import annotations

from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from . import failures
from .database import connect

LOCK = 0x536B6570_00000001
"""Advisory lock held while migrating: of services that start at once, one migrates and the others then find
nothing to do."""
WAIT = 60
"""Seconds a statement of a migration, or waiting for another migrating service, may take."""


async def migrate(url: str) -> str:
    """Upgrade to the newest revision, all or nothing; gives its name. Safe in several processes at once. Raises
    Unavailable, Internal."""
    engine = connect(url, pool=0, statement_timeout=WAIT)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            return await connection.run_sync(_upgrade)
    except Exception as error:
        raise failures.translated(error) from error
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> str:
    # A path object of the package, not of the checkout: the same from a wheel.
    with resources.as_file(resources.files(__package__) / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    revision = MigrationContext.configure(connection).get_current_revision()
    assert revision is not None
    return revision
