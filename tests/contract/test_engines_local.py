"""The engines that the launcher and the tests start: where they listen, who they run as, what they survive."""

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy import postgres, process
from tests.conftest import Hazelcast


def listening(ports: set[int]) -> set[str]:
    """Local addresses, in the kernel's hexadecimal, that listen on these ports."""
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    local = [row[1].split(":") for row in rows if row[3] == "0A"]
    return {address for address, port in local if int(port, 16) in ports}


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


def test_a_database_is_durable_and_has_no_port(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_the_socket_asks_for_the_password(postgres_server: postgres.Server) -> None:
    wrong = postgres_server.url("postgres").replace(postgres_server.password, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
def test_postgres_does_not_run_as_root(postgres_server: postgres.Server) -> None:
    pid = (postgres_server.data / "postmaster.pid").read_text().split("\n")[0]
    assert Path(f"/proc/{pid}").stat().st_uid != 0
    # Nobody but root may change what it runs.
    assert postgres_server.binaries.stat().st_uid == 0
    assert not postgres_server.binaries.stat().st_mode & 0o022


def test_postgres_starts_again_after_it_was_killed(engine_data: Path) -> None:
    data = engine_data / "killed"
    data.mkdir()
    server = postgres.server(data, "some password")
    spec = server.spec()
    child = process.spawn(spec)
    try:
        process.wait(spec, child)
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (value int)")
            connection.execute("INSERT INTO kept VALUES (1)")
        child.send_signal(signal.SIGKILL)
        child.wait(5)
        # Worse still: the id in its lock file belongs to somebody else by now.
        lock = server.data / "postmaster.pid"
        lock.write_text("\n".join([str(os.getpid()), *lock.read_text().splitlines()[1:]]))
        child = process.spawn(spec)
        process.wait(spec, child)
        with psycopg.connect(server.url("postgres")) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (1,)
        assert process.end(child, spec.stop, 10) == 0
    finally:
        process.end(child, spec.stop, 10)
        postgres.remove(data)


async def test_kafka_holds_topics_and_listens_on_loopback(kafka: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic("engine-test", 2, 1)])
        assert [error[1] for error in answer.topic_errors] == [0]
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    try:
        assert (await producer.send_and_wait("engine-test", b"x", partition=1)).offset == 0
    finally:
        await producer.stop()
    assert listening({int(kafka.rpartition(":")[2])}) <= LOOPBACK


def test_hazelcast_listens_on_loopback(hazelcast: Hazelcast) -> None:
    host, _, port = hazelcast.members.partition(":")
    socket.create_connection((host, int(port)), 5).close()
    assert listening({int(port)}) <= LOOPBACK


def test_a_child_dies_with_its_starter() -> None:
    """However the starter ends: here by SIGKILL."""
    program = """
import os, signal, sys
from deploy import process
spec = process.Spec("x", ["sleep", "60"], lambda: {"PATH": os.defpath}, lambda: True)
print(process.spawn(spec).pid, flush=True)
signal.pause()
"""
    starter = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert starter.stdout
    pid = int(starter.stdout.readline())
    watched = os.pidfd_open(pid)
    starter.kill()
    starter.wait()
    starter.stdout.close()
    try:
        assert select.select([watched], [], [], 5)[0], "it lives on"
    finally:
        os.close(watched)
