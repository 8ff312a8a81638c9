"""Fixtures for all tests. Engines are real, started when the first test asks, and stopped with the run.

postgres_server  (session)  the wheel's PostgreSQL, fsync on: a `deploy.postgres.Server`
postgres_url     (module)   a fresh database on it, dropped afterwards; postgresql://… for libpq and SQLAlchemy
kafka            (session)  a KRaft broker's bootstrap address, "127.0.0.1:port"; topics are the test's own
hazelcast        (session)  a cluster of one member with the maps of deploy/engines/hazelcast.yaml: .cluster, .members

An engine that can't be had skips its tests, and the last lines say so; with CI=true it fails the run.
"""

import gc
import os
import re
import secrets
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from psycopg import sql

from deploy import hazelcast as hazelcast_engine
from deploy import java, ports, postgres, process
from deploy import kafka as kafka_engine
from tests.engines import NOT_TESTED, missing


def is_orphan(name: str) -> bool:
    """Whether a data folder is of a test run that is no more."""
    found = re.fullmatch(r"skep-test-(\d+)-.*", name)
    return found is not None and not process.alive(int(found[1]))


@pytest.fixture(scope="session")
def engine_data() -> Iterator[Path]:
    """A folder for the engines' data, readable by the engines' user and short enough for a socket's path."""
    postgres.sweep(is_orphan)
    path = Path(tempfile.mkdtemp(prefix=f"skep-test-{os.getpid()}-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(engine_data: Path) -> Iterator[postgres.Server]:
    try:
        server = postgres.server(engine_data, secrets.token_urlsafe(24))
    except process.Failed as error:
        missing("PostgreSQL", str(error))
    with postgres.running(server):
        yield server
    postgres.remove(engine_data)


@pytest.fixture(scope="module")
def postgres_url(postgres_server: postgres.Server) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield postgres_server.url(name)
    # A handshake that was cancelled ends when psycopg's connection is collected, and DROP DATABASE waits for it.
    gc.collect()
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class Hazelcast(NamedTuple):
    cluster: str
    # Addresses with commas between them, as HAZELCAST_MEMBERS has them.
    members: str


@pytest.fixture(scope="session")
def java_engines() -> None:
    """Java and the jars."""
    try:
        java.program()
        java.jars()
    except process.Failed as error:
        missing("kafka and hazelcast", str(error))


@pytest.fixture(scope="session")
def kafka(engine_data: Path, java_engines: None) -> Iterator[str]:
    port, controller_port = ports.free(2)
    with kafka_engine.running(engine_data / "kafka", (port, controller_port)) as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def hazelcast(java_engines: None) -> Iterator[Hazelcast]:
    cluster = f"test-{uuid.uuid4().hex}"
    with hazelcast_engine.running(cluster, ports.free(1)) as members:
        yield Hazelcast(cluster, ",".join(member.address for member in members))


def pytest_configure(config: pytest.Config) -> None:
    # hazelcast-python-client on Python 3.11.
    config.addinivalue_line("filterwarnings", "ignore:The asyncore module is deprecated:DeprecationWarning")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Below everything else, where it is read."""
    yield
    for engine, reason in NOT_TESTED.items():
        terminalreporter.write_line(f"NOT TESTED: what needs {engine}: {reason}", yellow=True)
