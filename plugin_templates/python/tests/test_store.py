"""The useful part: rows, repetition, a database that goes away. With PostgreSQL where TEST_DATABASE_URL names one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo, sql

from skep_plugin import Notification
from store import Store, clean, row

ROOT = Path(__file__).parent.parent
URL = os.environ.get("TEST_DATABASE_URL", "")
NOW = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=3)

with_postgres = pytest.mark.skipif(not URL, reason="TEST_DATABASE_URL names no PostgreSQL")


def notification(id: int, name: str = "temperature", minute: int = 0, **more: object) -> Notification:
    at = NOW + timedelta(minutes=minute, seconds=id % 50)
    return Notification(**{
        "id": id, "name": name, "device_id": "d1", "network_id": 1, "device_type_id": None, "timestamp": at,
        "parameters": {"celsius": 21.5}, **more,
    })  # fmt: skip


@pytest.fixture
def url() -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield conninfo.make_conninfo(URL, dbname=name)
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


async def add(url: str, *notifications: Notification) -> None:
    store = Store(url)
    await store.open()
    async with asyncio.timeout(20):
        await asyncio.gather(*map(store.add, notifications))
    await store.close()


def test_rows_hold_what_postgres_can():
    assert clean("a\0b\ud800c") == "a\ufffdb?c"
    assert row(notification(1, "a\0", parameters="\0"))[2::4] == ("a\ufffd", '"\\u0000"')


@with_postgres
def test_writes_each_notification_once_and_counts_them(url):
    asyncio.run(add(url, *(notification(id) for id in range(30)), notification(40, "door", minute=1)))
    asyncio.run(add(url, *(notification(id) for id in range(20, 35))))
    assert Store(url).counts(60) == [(NOW, "temperature", 35), (NOW + timedelta(minutes=1), "door", 1)]
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT * FROM notifications WHERE id = 7").fetchall()
    assert found == [("d1", 7, "temperature", 1, None, NOW + timedelta(seconds=7), {"celsius": 21.5})]


@with_postgres
def test_texts_that_jsonb_refuses(url):
    asyncio.run(add(url, notification(1, "a\0b", parameters={"\0": "\ud800"}), notification(2, parameters=None)))
    assert [name for _, name, _ in Store(url).counts(60)] == ["a\ufffdb", "temperature"]


@with_postgres
def test_waits_for_a_database_that_is_cut_off(url):
    async def scenario() -> None:
        store = Store(url)
        await store.open()
        async with asyncio.timeout(20):
            await store.add(notification(1))
            with psycopg.connect(URL, autocommit=True) as connection:
                database = conninfo.conninfo_to_dict(url)["dbname"]
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database]
                )
            await store.add(notification(2))
        await store.close()

    asyncio.run(scenario())
    assert Store(url).counts(60) == [(NOW, "temperature", 2)]


@with_postgres
def test_counts_on_the_command_line(url):
    asyncio.run(add(url, notification(1), notification(2)))
    done = subprocess.run(
        [sys.executable, "main.py", "--counts"], cwd=ROOT, env={**os.environ, "DATABASE_URL": url},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[1].split() == [f"{NOW:%Y-%m-%d}", f"{NOW:%H:%M}", "temperature", "2"]


@pytest.mark.parametrize("url", ["", "nonsense"])
def test_a_bad_url_ends_it_with_2(url):
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=ROOT, env={**os.environ, "DATABASE_URL": url}, capture_output=True, check=False
    )
    assert done.returncode == 2
