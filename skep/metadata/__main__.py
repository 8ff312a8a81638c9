"""`python -m skep.metadata migrate | admin`: prepare the database named by DATABASE_URL.

migrate   bring the schema up to date; a new database gets the sample network, device types and device
admin     create the admin `dhadmin` with SKEP_ADMIN_PASSWORD, unless there is one; in the development profile the
          password may be left to the published one
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy.exc import DBAPIError

from skep import errors, settings

from . import admin, schema
from .metadata import Metadata


@dataclass(frozen=True)
class Settings(settings.Base):
    """Of the common settings, those that matter here."""

    unused: ClassVar[frozenset[str]] = frozenset(
        ("INSTANCE", "HOST", "BUS_URLS", "BUS_SECRET", "JWT_SECRET", "SKEP_JWT_KEY", "LOG_LEVEL")
    )


def main(arguments: list[str]) -> int:
    if arguments in (["--help"], ["-h"]):
        print(f"{_usage()}\n\n{settings.table(Settings)}")
        return 0
    if arguments not in (["migrate"], ["admin"]):
        print(_usage(), file=sys.stderr)
        return 2
    try:
        print(asyncio.run(_run(arguments[0], settings.load(Settings, os.environ))))
    except ValueError as error:  # settings.Invalid too
        return _failed("; ".join(str(error).splitlines()))
    except errors.SkepError as error:
        return _failed(_reason(error))
    return 0


def _usage() -> str:
    return (__doc__ or "").strip()


async def _run(command: str, configured: Settings) -> str:
    metadata = Metadata(configured.database_url, pool=1)
    try:
        if command == "migrate":
            return f"The schema is at revision {await schema.migrate(configured.database_url)}."
        password = configured.admin_password
        if configured.is_production and not password:
            raise ValueError("SKEP_ADMIN_PASSWORD is not set; only the development profile has a known password")
        created = await admin.create(metadata.database, password or settings.KNOWN_PASSWORD)
        return f"Created the admin {admin.LOGIN}." if created else "There is an admin already; nothing is changed."
    finally:
        await metadata.stop()


def _reason(error: errors.SkepError) -> str:
    cause = error.__cause__
    if isinstance(cause, DBAPIError):
        detail = " ".join(str(cause.orig).split())
        return f"PostgreSQL: {detail}"  # the driver names host, user and database, never the password
    if isinstance(error, errors.Unavailable):
        return "PostgreSQL did not answer in time"
    return error.text if cause is None else f"{error.text}: {type(cause).__name__}"


def _failed(reason: str) -> int:
    print(f"skep.metadata: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
