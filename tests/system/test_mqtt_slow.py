"""What a client of our broker that takes nothing, or says nothing, costs the broker and the others."""

from __future__ import annotations

import uuid
from contextlib import ExitStack

import psutil
import pytest

from tests.system import mqtt_raw
from tests.system.mqtt import AMQTT, World
from tests.system.mqtt_client import WAIT, Client, until
from tests.system.mqtt_raw import CONNACK, SUBACK, Raw

pytestmark = pytest.mark.system

SIZE, COUNT, AT_ONCE = 250_000, 320, 10
"""80 MB in all."""
BOUND = 48 << 20


@pytest.fixture
def name() -> str:
    return f"s-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def ours(mqtt: World) -> World | None:
    """None where the broker is somebody else's, with bounds of its own."""
    return mqtt if mqtt.site.broker.name == AMQTT else None


def resident(world: World) -> int:
    return int(psutil.Process(world.suite.pid("mqtt-broker")).memory_info().rss)


def stalled(world: World, client_id: str, filter_: str, qos: int, clean: bool = True) -> Raw:
    """Subscribed, and reads no more."""
    raw = Raw(world.port, room=4096)
    raw.say(mqtt_raw.connect(client_id, *world.account(client_id), clean=clean))
    assert raw.answer() == (CONNACK, b"\0\0")
    raw.say(mqtt_raw.subscribe(filter_, qos))
    assert raw.answer() == (SUBACK, bytes([0, 1, qos]))
    return raw


def flood(sender: Client, reader: Client, topic: str) -> None:
    """Every message reaches the reader."""
    for start in range(0, COUNT, AT_ONCE):
        for number in range(start, start + AT_ONCE):
            sender.publish(topic, f"{number}".encode().ljust(SIZE))
        for number in range(start, start + AT_ONCE):
            assert int(reader.messages.get(timeout=WAIT)[1]) == number


def test_who_takes_nothing_costs_little(ours: World | None, name: str) -> None:
    if ours is None:
        return
    topic = f"mine/{name}"
    with ExitStack() as stack:
        sender, reader = (stack.enter_context(ours.client(f"{name}-{which}")) for which in ("p", "r"))
        assert reader.subscribe(topic) == 1
        slow = {qos: stack.enter_context(stalled(ours, f"{name}-{qos}", topic, qos)) for qos in (0, 1, 2)}
        away = stalled(ours, f"{name}-away", topic, 1, clean=False)
        away.socket.close()
        before = resident(ours)
        flood(sender, reader, topic)
        grown = resident(ours) - before
        assert grown < BOUND, f"{grown >> 20} MiB"
        # Who misses what it was promised is told by the end of its session.
        assert slow[1].ended()
        assert not sender.is_closed.is_set()
        assert not reader.is_closed.is_set()
        with Raw(ours.port) as back:
            back.say(mqtt_raw.connect(f"{name}-away", *ours.account(f"{name}-away"), clean=False))
            assert back.answer() == (CONNACK, b"\0\0")


def test_who_is_silent_is_disconnected(ours: World | None, name: str) -> None:
    """One and a half times as long as it said (MQTT 3.1.1, 3.1.2.10)."""
    if ours is None:
        return
    with ours.client(f"{name}-w") as watcher, Raw(ours.port) as raw:
        assert watcher.subscribe(f"will/{name}") == 1
        raw.say(mqtt_raw.connect(name, *ours.account(name), keepalive=1))
        assert raw.answer() == (CONNACK, b"\0\0")
        assert raw.ended()


def test_a_client_can_come_back_while_its_old_connection_takes_nothing(ours: World | None, name: str) -> None:
    if ours is None:
        return
    topic = f"mine/{name}"
    with ours.client(f"{name}-p") as sender, stalled(ours, name, topic, 0, clean=False) as old:
        for number in range(60):
            sender.publish(topic, f"{number}".encode().ljust(SIZE)).wait_for_publish(WAIT)
        with ours.client(name, clean=False) as again:
            assert again.subscribe(f"own/{name}") == 1
            again.publish(f"own/{name}", {"n": 1})
            until(lambda: f"own/{name}" in [topic for topic, _ in again.so_far()], "the new connection is deaf")
            assert old.ended()


@pytest.mark.parametrize("clean", [False, True])
def test_a_client_that_comes_again_ends_its_older_connection(mqtt: World, name: str, clean: bool) -> None:
    """MQTT 3.1.1, 3.1.4-2; and the newer one works, as a device's that comes back after its network was away."""
    with mqtt.client(name, clean=clean) as old:
        assert old.subscribe(f"own/{name}") == 1
        with mqtt.client(name, clean=clean) as again:
            until(old.is_closed.is_set, "the older connection goes on")
            if clean:
                assert again.subscribe(f"own/{name}") == 1
            again.publish(f"own/{name}", {"n": 1})
            assert again.message() == (f"own/{name}", {"n": 1})


def test_nobody_misses_anything_while_others_subscribe(ours: World | None, name: str) -> None:
    if ours is None:
        return
    with ours.client(f"{name}-p") as sender, ours.client(f"{name}-r") as reader, ours.client(f"{name}-s") as other:
        assert other.subscribe("mine/+") == 1  # it is handed each message first
        assert reader.subscribe(f"mine/{name}") == 1
        for number in range(300):
            sender.publish(f"mine/{name}", {"n": number})
            other.paho.subscribe(f"mine/{name}/{number}", qos=1)
        assert [reader.message()[1]["n"] for _ in range(300)] == list(range(300))
