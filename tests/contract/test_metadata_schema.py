"""Migrations and `python -m skep.metadata`, on real PostgreSQL."""

import asyncio
import os
import subprocess
import sys

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import make_url

from skep import errors
from skep.metadata import Metadata, tables
from skep.metadata.__main__ import main
from skep.metadata.database import connect
from tests.contract.metadata_support import opened


def run(command: str, url: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "skep.metadata", command],
        env={**os.environ, "DATABASE_URL": url, "SKEP_PROFILE": "development", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ran(command: str, url: str, **environ: str) -> tuple[int, str, str]:
    process = run(command, url, **environ)
    out, error = process.communicate(timeout=30)
    return process.returncode, out, error


def test_three_processes_migrate_an_empty_database_at_once(postgres_url):
    processes = [run("migrate", postgres_url) for _ in range(3)]
    results = [(p.communicate(timeout=60), p.returncode) for p in processes]
    assert [code for _, code in results] == [0, 0, 0], results
    with psycopg.connect(postgres_url) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0]
            for t in ("networks", "device_types", "devices", "configuration", "users")
        ]
    assert counts == [1, 8, 1, 1, 0]


def test_migrating_again_changes_nothing_and_what_was_deleted_stays_so(postgres_url):
    assert ran("migrate", postgres_url)[0] == 0
    with psycopg.connect(postgres_url) as connection:
        connection.execute("DELETE FROM devices")
    assert ran("migrate", postgres_url)[0] == 0
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM devices").fetchone() == (0,)


async def test_the_revisions_make_what_the_tables_say(postgres_url):
    async with opened(postgres_url):
        pass
    engine = connect(postgres_url, pool=0)
    async with engine.connect() as connection:
        difference = await connection.run_sync(
            lambda c: compare_metadata(
                MigrationContext.configure(c, opts={"compare_type": True, "compare_server_default": True}),
                tables.schema,
            )
        )
    await engine.dispose()
    assert difference == []


async def test_ids_of_what_is_made_later_follow_the_seeds(postgres_url):
    async with opened(postgres_url) as metadata:
        assert (await metadata.networks.insert("another")).id == 2
        assert (await metadata.device_types.insert("another")).id == 9


def test_the_admin_is_user_1_and_keeps_its_password(postgres_url):
    ran("migrate", postgres_url)
    assert ran("admin", postgres_url, SKEP_ADMIN_PASSWORD="first-password")[0] == 0
    query = "SELECT id, login, password_hash, role, status, last_login, all_device_types FROM users"
    with psycopg.connect(postgres_url) as connection:
        [before] = connection.execute(query).fetchall()
        assert connection.execute("SELECT * FROM user_network").fetchall() == [(1, 1)]
    code, out, _ = ran("admin", postgres_url, SKEP_ADMIN_PASSWORD="second-password")
    assert (code, out) == (0, "There is an admin already; nothing is changed.\n")
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute(query).fetchall() == [before]
    assert before[:2] == (1, "dhadmin")
    assert before[2].startswith("$argon2id$")
    assert before[3:] == (0, 0, None, True)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql://u:geheim-word@127.0.0.1:1/none", "Connection refused"),
        ("postgresql://u:geheim-word@/none?host=/nowhere", "No such file"),
        ("mysql://u:geheim-word@127.0.0.1/none", "must begin with postgresql://"),
        ("postgresql://u:geheim-word@127.0.0.1", "names no database"),
        ("geheim-word", "not of the form"),
        ("postgresql://u:geheim-word@127.0.0.1:port/none", "not of the form"),
    ],
)
@pytest.mark.parametrize("command", ["migrate", "admin"])
def test_a_wrong_url_is_one_clear_line(command, url, complaint, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("SKEP_PROFILE", "development")
    assert main([command]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert complaint in error
    assert error.count("\n") == 1
    assert "geheim-word" not in error


def test_a_wrong_password_is_one_clear_line(postgres_url):
    url = make_url(postgres_url).set(password="geheim-word").render_as_string(hide_password=False)
    code, _, error = ran("migrate", url)
    assert code == 1
    assert error.count("\n") == 1
    assert "password authentication failed" in error
    assert "geheim-word" not in error


def test_production_has_no_known_password(postgres_url):
    ran("migrate", postgres_url)
    for password in ("", "dhadmin_#911"):
        code, _, error = ran("admin", postgres_url, SKEP_PROFILE="production", SKEP_ADMIN_PASSWORD=password)
        assert code == 1
        assert "SKEP_ADMIN_PASSWORD" in error


async def test_before_the_migration_calls_are_unavailable(postgres_server):
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE bare")
    metadata = Metadata(postgres_server.url("bare"))
    try:
        with pytest.raises(errors.Unavailable):
            await asyncio.wait_for(metadata.devices.get("d"), 5)
    finally:
        await metadata.stop()
        with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE bare")
