"""Notifications from devices through an MQTT broker to one WebSocket, figures to benchmarks/results/.

    python -m benchmarks.mqtt [--engines full|light] [--broker mosquitto|amqtt] [--devices 20] [--window 64]

Each device publishes to `dh/insert/…` with QoS 1 and has at most a window of messages on their way: published, and not
yet pushed to the subscriber. Every message is counted once, lost or repeated ones are told. An MQTT subscriber (QoS 0)
counts what the bridge hands out meanwhile. The clients run in this process, on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop
import websockets

from benchmarks.run import RESULTS, commit, machine
from tests.system.mqtt import LOCAL, MOSQUITTO, Site, User, World
from tests.system.suite import ROOT, Suite

WARM_UP = 10.0
"""Seconds; Kafka and Hazelcast get faster for a while."""
NAME = "measured"
TICKS = os.sysconf("SC_CLK_TCK")


class Message(msgspec.Struct):
    parameters: dict[str, int]
    device: str = msgspec.field(name="deviceId")


class Push(msgspec.Struct):
    notification: Message


_push = msgspec.json.Decoder(Push)


class Client(asyncio.Protocol):
    """MQTT 3.1.1 as far as it is needed here. account: login and password; the login is the client id."""

    def __init__(self, account: tuple[str, str]) -> None:
        self._connect = _packet(0x10, _text("MQTT"), b"\4\xc2\0\0", *map(_text, (account[0], *account)))
        self.connected = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._connect)

    def data_received(self, data: bytes) -> None:
        if not self.connected.done():
            assert data[:4] == b"\x20\2\0\0", data
            self.connected.set_result(None)


class Watcher(Client):
    """Counts notifications; all are alike, and no other packet holds what is looked for."""

    count = 0

    def watch(self) -> None:
        self._transport.write(_packet(0x82, b"\0\1", _text("dh/notification/#"), b"\0"))

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.count += data.count(b'"notification/insert"')  # one that is split between two reads is missed


class Device(Client):
    """Publishes with QoS 1; PUBACKs are read past."""

    def __init__(self, user: User, account: tuple[str, str], window: int) -> None:
        super().__init__(account)
        self.id, self._window = user.device, window
        self._topic = f"dh/insert/notification/{user.device}/{NAME}".encode()
        self.sent, self.pushed, self.repeated = 0, 0, 0
        self.times: list[float] = []
        self.stopped = False

    def publish(self) -> None:
        """As many as the window allows, in one write."""
        packets = []
        while not self.stopped and self.sent - self.pushed < self._window:
            self.sent += 1
            self.times.append(time.perf_counter())
            id = (self.sent % 65_535 + 1).to_bytes(2, "big")
            packets.append(_packet(0x32, _text(self._topic), id, b'{"n":%d}' % self.sent))
        if packets:
            self._transport.write(b"".join(packets))

    def arrived(self, number: int) -> float:
        """Seconds it took."""
        if number != self.pushed + 1:
            self.repeated += number <= self.pushed
            assert number <= self.pushed, f"{self.id}: {number} came after {self.pushed}"
            return 0.0
        self.pushed = number
        return time.perf_counter() - self.times[number - 1]


def _text(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return len(data).to_bytes(2, "big") + data


def _packet(kind: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    length, rest = b"", len(body)
    while True:
        rest, digit = rest >> 7, rest & 0x7F
        length += bytes([digit | (0x80 if rest else 0)])
        if not rest:
            return bytes([kind]) + length + body


async def measure(world: World, devices: int, window: int, seconds: float) -> dict[str, object]:
    suite = world.suite
    known = [await asyncio.to_thread(_user, world) for _ in range(devices)]
    made = [Device(user, account, window) for user, account in known]
    loop = asyncio.get_running_loop()
    for device in made:
        await loop.create_connection(lambda device=device: device, LOCAL, world.port)  # type: ignore[misc]
        await device.connected
    watcher = Watcher(await asyncio.to_thread(world.boss_account, f"watcher-{os.getpid()}"))
    await loop.create_connection(lambda: watcher, LOCAL, world.port)
    await watcher.connected
    watcher.watch()
    by_id = {device.id: device for device in made}
    took: list[float] = []
    counts: list[int] = []
    watched: list[int] = []
    spent: list[dict[str, float]] = []
    async with websockets.connect(suite.ws, max_size=None, max_queue=4096, ping_interval=None) as socket:
        for request in (
            {"action": "authenticate", "token": suite.token()},
            {"action": "notification/subscribe", "names": [NAME]},
        ):
            await socket.send(json.dumps(request))
            assert json.loads(await socket.recv())["status"] == "success"

        async def receive() -> None:
            async for text in socket:
                push = _push.decode(text).notification
                device = by_id[push.device]
                took.append(device.arrived(push.parameters["n"]))
                device.publish()

        receiving = asyncio.create_task(receive())
        for device in made:
            device.publish()
        for wait in (WARM_UP, seconds):
            await asyncio.wait([receiving], timeout=wait)
            counts.append(len(took))
            watched.append(watcher.count)
            spent.append(_cpu(suite))
        for device in made:
            device.stopped = True
        async with asyncio.timeout(60):
            while any(device.sent > device.pushed for device in made):
                assert not receiving.done(), receiving.exception()
                await asyncio.sleep(0.1)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    count = counts[1] - counts[0]
    ordered = sorted(took[counts[0] : counts[1]])
    return {
        "per_second": round(count / seconds),
        "count": count,
        "to_mqtt_per_second": round((watched[1] - watched[0]) / seconds),
        "lost": 0,  # or it would not have ended
        "repeated": sum(device.repeated for device in made),
        "ms_p50": round(1000 * ordered[len(ordered) // 2], 1),
        "ms_p99": round(1000 * ordered[len(ordered) * 99 // 100], 1),
        "cpu_us_per_message": {
            name: round((spent[1][name] - spent[0][name]) / count * 1e6) for name in sorted(spent[1]) if count
        },
    }


def _user(world: World) -> tuple[User, tuple[str, str]]:
    """With a device of that name."""
    user = User(world.admin)
    account = world.account(user.login, user)
    world.sees_device(user.login, user.device)
    return user, account


def _cpu(suite: Suite) -> dict[str, float]:
    """Seconds of processor that each process has had with its children; our own as `clients`."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    found = {}
    for name, pid in suite.pids().items():
        children = [child for child, parent in parents.items() if parent == pid]
        found[name] = sum(ticks.get(each, 0) for each in (pid, *children)) / TICKS
    return found | {"clients": ticks[os.getpid()] / TICKS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default=os.environ.get("ENGINES", "full"), choices=["light", "full"])
    parser.add_argument("--broker", default=MOSQUITTO)
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    site = Site(options.broker, options.engines)
    site.start()
    try:
        how = options.devices, options.window, options.seconds
        run = {"name": "mqtt-notifications", "broker": options.broker, "devices": how[0], "window": how[1]}
        # Of others: on a machine that is busy otherwise no figure says much but that of processor time.
        run["load_before"] = os.getloadavg()[0]
        run |= uvloop.run(measure(World(site), *how))
    finally:
        site.stop()
    print(json.dumps(run, indent=1))
    now = datetime.datetime.now(datetime.UTC)
    report = {"at": now.isoformat(timespec="seconds"), "engines": options.engines, "commit": commit()}
    path = RESULTS / f"{now:%Y-%m-%d-%H%M}-mqtt-{options.engines}.json"
    path.write_text(json.dumps({**report, "machine": machine(), "runs": [run]}, indent=1) + "\n")
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
