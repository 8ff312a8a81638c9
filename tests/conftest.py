"""Fixtures for all tests. Engines are real, started when the first test asks, and stopped with the run.

postgres_server  (session)  the wheel's PostgreSQL, fsync on: a `deploy.postgres.Server`
postgres_url     (module)   a fresh database on it, dropped afterwards; postgresql://… for libpq and SQLAlchemy
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from deploy import postgres


@pytest.fixture(scope="session")
def engine_data() -> Iterator[Path]:
    """A folder for the engines' data, readable by the engines' user and short enough for a socket's path."""
    path = Path(tempfile.mkdtemp(prefix=f"skep-test-{os.getpid()}-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(engine_data: Path) -> Iterator[postgres.Server]:
    with postgres.running(engine_data) as server:
        yield server


@pytest.fixture(scope="module")
def postgres_url(postgres_server: postgres.Server) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield postgres_server.url(name)
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
