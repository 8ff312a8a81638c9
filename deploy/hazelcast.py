"""Hazelcast members on 127.0.0.1, for ENGINES=full and for tests; the maps are in engines/hazelcast.yaml."""

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from deploy import java, process

HOST = "127.0.0.1"
# What Hazelcast asks of Java 17 and newer.
MODULES = [
    "--add-modules=java.se",
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.management/sun.management=ALL-UNNAMED",
    "--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED",
]


@dataclass(frozen=True)
class Member:
    """One of the members on `ports`; number 0 listens on the first."""

    number: int
    cluster: str
    ports: tuple[int, ...]
    ttl: int = 120
    heap: str = "1g"

    @property
    def address(self) -> str:
        return f"{HOST}:{self.ports[self.number]}"

    def spec(self) -> process.Spec:
        settings = {
            "hazelcast.config": java.HERE / "hazelcast.yaml",
            "log4j2.configurationFile": java.HERE / "log4j2.properties",
            "skep.cluster": self.cluster,
            "skep.address": HOST,
            "skep.port": self.ports[self.number],
            "skep.members": ",".join(f"{HOST}:{port}" for port in self.ports),
            "skep.interfaces": "true",
            "skep.bind.any": "false",
            "skep.ttl": self.ttl,
        }
        options = [f"-Xmx{self.heap}", "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError", *MODULES]
        return process.Spec(
            name=f"hazelcast-{self.number + 1}",
            command=[
                java.program(), *options, *(f"-D{name}={value}" for name, value in settings.items()),
                "-cp", f"{java.jars()}/*", "com.hazelcast.core.server.HazelcastMemberStarter",
            ],
            environment=lambda: {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            ready=self.ready,
            start_seconds=60,
        )  # fmt: skip

    def ready(self) -> bool:
        """The port is open; clients wait by themselves for the rest of a member's start."""
        try:
            with socket.create_connection((HOST, self.ports[self.number]), 1):
                return True
        except OSError:
            return False


def members(cluster: str, ports: tuple[int, ...], ttl: int = 120, heap: str = "1g") -> list[Member]:
    return [Member(number, cluster, ports, ttl, heap) for number in range(len(ports))]


@contextlib.contextmanager
def running(cluster: str, ports: tuple[int, ...]) -> Iterator[list[Member]]:
    """A cluster for tests."""
    made = members(cluster, ports)
    with contextlib.ExitStack() as stack:
        started = []
        for member in made:
            spec = member.spec()
            child = process.spawn(spec)
            stack.callback(child.wait, 10)
            stack.callback(child.kill)
            started.append((spec, child))
        for spec, child in started:
            process.wait(spec, child)
        yield made
