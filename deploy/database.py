"""What the launcher itself asks of the database."""

from __future__ import annotations

import argon2
import psycopg
from psycopg import sql

from deploy.process import Failed

CONNECT_SECONDS = 5


def check(url: str) -> None:
    """`Failed` if DATABASE_URL does not lead to a PostgreSQL that lets us in."""
    try:
        with _connect(url) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        # libpq tells a line for each address it tried; none of them has the password.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise Failed(f"DATABASE_URL can't be used: {reason[0].strip()}") from error


def make(url: str, name: str) -> None:
    """The database of that name, if there is none yet; `url` leads to another one on the same server."""
    with _connect(url) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def accepts(url: str, password: str) -> bool:
    """Whether it is the password of user 1."""
    with _connect(url) as connection:
        row = connection.execute("SELECT password_hash FROM users WHERE id = 1").fetchone()
    try:
        return row is not None and argon2.PasswordHasher().verify(str(row[0]), password)
    except (argon2.exceptions.VerifyMismatchError, argon2.exceptions.InvalidHashError):
        return False


def _connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    # SQLAlchemy's name of the driver may stand in the scheme.
    scheme, separator, rest = url.partition("://")
    plain = f"{scheme.partition('+')[0]}{separator}{rest}"
    return psycopg.connect(plain, autocommit=True, connect_timeout=CONNECT_SECONDS)
