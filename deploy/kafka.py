"""Kafka 4 as one KRaft node on 127.0.0.1, for ENGINES=full on one machine and for tests."""

import base64
import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy import java, process
from deploy.process import Failed

HOST = "127.0.0.1"
METADATA = 3
METADATA_VERSION = 4


@dataclass(frozen=True)
class Broker:
    data: Path
    port: int
    controller_port: int
    heap: str = "512m"

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    def spec(self) -> process.Spec:
        return process.Spec(
            name="kafka",
            command=[*self._java(f"-Xmx{self.heap}"), "kafka.Kafka", str(self._properties)],
            environment=_environment,
            ready=self.ready,
            prepare=self._prepare,
            start_seconds=90,
        )

    def ready(self) -> bool:
        """Whether the broker lists itself: it opens its port a moment before it can hold a topic."""
        body = struct.pack("!hhih", METADATA, METADATA_VERSION, 1, -1) + struct.pack("!i?", 0, False)
        try:
            with socket.create_connection((HOST, self.port), 1) as connection:
                connection.settimeout(1)
                connection.sendall(struct.pack("!i", len(body)) + body)
                # Size, correlation id, throttle time, number of brokers.
                answer = connection.recv(16, socket.MSG_WAITALL)
        except OSError:
            return False
        return len(answer) == 16 and int(struct.unpack("!iiii", answer)[3]) > 0

    @property
    def _properties(self) -> Path:
        return self.data / "server.properties"

    def _java(self, *options: str) -> list[str]:
        log = f"-Dlog4j2.configurationFile={java.HERE / 'log4j2.properties'}"
        collector = ["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:+ExitOnOutOfMemoryError"]
        return [java.program(), *options, *collector, log, "-cp", f"{java.jars()}/*"]

    def _prepare(self) -> None:
        try:
            self.data.mkdir(mode=0o700, exist_ok=True)
            self._properties.write_text(properties(self.data, self.port, self.controller_port))
        except OSError as error:
            raise Failed(f"{self.data} can't be written: {error.strerror}") from error
        if (self.data / "log" / "meta.properties").exists():
            return
        cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        # A leading dash would read as an option.
        cluster = cluster.replace("-", "A")
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties)]
        done = process.run([*self._java("-Xmx128m"), *tool], _environment())
        if done.returncode != 0:
            raise Failed(f"Kafka can't format {self.data}: {(done.stderr or done.stdout).strip()[-200:]}")


def properties(data: Path, port: int, controller_port: int) -> str:
    """One node for everything; the reasons beside the values that are not Kafka's own."""
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{HOST}:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}
advertised.listeners=PLAINTEXT://{HOST}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data / "log"}
# A publish to a deleted topic must not bring it back.
auto.create.topics.enable=false
# A dead member is out after its 2 s session (6 s at Kafka's own minimum), a new group starts at once.
group.min.session.timeout.ms=1000
group.initial.rebalance.delay.ms=0
# Beside the position a member keeps the highest sequence of each publisher.
offset.metadata.max.bytes=65536
# Bodies are up to 1 MiB, batches up to 2 MiB.
message.max.bytes=2097152
replica.fetch.max.bytes=2097152
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
num.network.threads=2
num.io.threads=4
# Compaction and retention look every 15 s and every minute.
log.cleaner.backoff.ms=15000
log.retention.check.interval.ms=60000
"""


@contextlib.contextmanager
def running(data: Path, ports: tuple[int, int]) -> Iterator[Broker]:
    """A broker for tests."""
    broker = Broker(data, *ports)
    spec = broker.spec()
    child = process.spawn(spec)
    try:
        process.wait(spec, child)
        yield broker
    finally:
        # What a test broker holds is thrown away: no need to let it close its files.
        child.kill()
        child.wait(10)


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
