"""Sessions that somebody else comes back to, wills that outlive rights, and packets that no client sends, on every
broker: beside the lists of test_mqtt_rights.py."""

from __future__ import annotations

import contextlib
import uuid

import psutil
import pytest

from tests.system import mqtt_raw
from tests.system.mqtt import AMQTT, MOSQUITTO, PASSWORD, User, World
from tests.system.mqtt_client import WAIT, Client, NotConnected, until
from tests.system.mqtt_raw import CONNACK, Raw

pytestmark = pytest.mark.system


@pytest.fixture
def name() -> str:
    return f"i-{uuid.uuid4().hex[:8]}"


def back(world: World, client_id: str, *account: str) -> Client:
    """Connected to what there is of the client's session; a broker may let it in at a second try."""
    found: list[Client] = []

    def gets_in() -> bool:
        with contextlib.suppress(NotConnected):
            found.append(Client(world.port, client_id, *account, clean=False))
        return bool(found)

    until(gets_in, "it is not let in")
    return found[0]


def leave(world: World, client_id: str, *account: str) -> None:
    """A session that has seen a notification of `mine`, and for which another one waits."""
    device, filter_ = world.mine.device, f"dh/notification/{world.mine.network}/#"
    with Client(world.port, client_id, *account, clean=False) as client:
        assert client.subscribe(filter_) == 1
        world.notify(device, "seen")
        assert client.message()[0].endswith("/seen")
    with world.client(f"{client_id}-w") as witness:
        assert witness.subscribe(filter_) == 1
        world.notify(device, "waits")
        assert witness.message()[0].endswith("/waits")


def sees_nothing(world: World, client: Client, allowed: str = "") -> None:
    """Of `mine`, neither what waits nor what comes. allowed: a topic that it may see."""
    with world.client(f"{client.id}-v") as witness:
        assert witness.subscribe(f"dh/notification/{world.mine.network}/#") == 1
        world.notify(world.mine.device, "later")
        assert witness.message()[0].endswith("/later")
    assert client.subscribe(f"own/{client.id}") == 1
    client.publish(f"own/{client.id}", {})
    assert client.message()[0] == f"own/{client.id}"
    assert not client.so_far()


def test_a_narrowed_token_finds_nothing_of_the_session(mqtt: World, name: str) -> None:
    if mqtt.site.broker.name == MOSQUITTO:
        return  # it takes no tokens
    leave(mqtt, name, "any", mqtt.token())
    with back(mqtt, name, "any", mqtt.token(n=["999999"])) as narrowed:
        sees_nothing(mqtt, narrowed)


def test_the_same_rights_find_their_session(mqtt: World, name: str) -> None:
    """Though the token is another one."""
    if mqtt.site.broker.name == MOSQUITTO:
        return
    leave(mqtt, name, "any", mqtt.token(n=[str(mqtt.mine.network)]))
    with Client(mqtt.port, name, "any", mqtt.token(), clean=False) as client:
        assert client.message()[0].endswith("/waits")


def test_who_gets_an_id_anew_finds_nothing_of_the_session(mqtt: World) -> None:
    """A user is deleted, another one comes with the client id; at Mosquitto that is one with the same login."""
    user, network = User(mqtt.admin), mqtt.mine.network
    assert mqtt.admin("PUT", f"user/{user.id}/network/{network}", {})[0] in (200, 204)
    id = user.login
    leave(mqtt, id, *mqtt.account(id, user))
    assert mqtt.admin("DELETE", f"user/{user.id}")[0] == 204
    if mqtt.site.broker.name == MOSQUITTO:
        again = mqtt.admin.new("user", login=id, password=PASSWORD, role=1, status=0)
        account = mqtt._made(again, id)
    else:
        account = mqtt.account(id, mqtt.foreign)
    with back(mqtt, id, *account) as client:
        sees_nothing(mqtt, client)


def test_a_will_does_not_outlive_the_rights(mqtt: World) -> None:
    """It is judged when the client comes, and again when it is said."""
    user = User(mqtt.admin)
    topic = f"dh/insert/notification/{user.device}/will"
    with mqtt.boss(f"b-{user.login}") as boss:
        assert boss.subscribe(f"dh/notification/+/+/{user.device}/#") == 1
        client = Client(mqtt.port, user.login, *mqtt.account(user.login, user), will=(topic, "{}"))
        assert mqtt.admin("PUT", f"user/{user.id}", {"status": 2})[0] == 204
        until(client.is_closed.is_set, "the session goes on")
        client.close()
        boss.publish(f"dh/insert/notification/{user.device}/after", {})
        assert boss.message()[0].endswith("/after")


ODD = [
    b"dh/insert/notification/{device}/a\0b", b"dh/insert/notification/{device}/a%00b", b"dh/insert/notification/%00/x",
    b"dh/insert/notification/{device}/%FF", b"dh/insert/notification/{device}/a%2Fb", b"dh/insert/notification//x",
    b"dh/insert/notification/{device}/", b"dh//notification/x", b"/dh/request", b"dh/request/", b"dh",
    b"dh/insert/notification/{device}/" + b"n" * 60_000, b"dh/insert/notification/" + b"d" * 60_000 + b"/x",
    b"dh/insert/notification/{device}/\xff\xfe", b"dh/insert/notification/{device}/\xed\xa0\x80", b"\0", b"mine/\0",
]  # fmt: skip


def test_odd_topics_hold_nobody_up(mqtt: World, name: str) -> None:
    device = mqtt.mine.device
    account = mqtt.account(name)
    for topic in ODD:
        for data in (mqtt_raw.publish(topic.replace(b"{device}", device.encode())), mqtt_raw.subscribe(topic, 1)):
            with Raw(mqtt.port) as raw:
                raw.say(mqtt_raw.connect(name, *account))
                assert raw.answer() == (CONNACK, b"\0\0")
                raw.say(data)
                raw.answer()  # a PUBACK, a SUBACK or the end
    lives(mqtt, name)


def lives(world: World, name: str) -> None:
    with world.client(name) as client:
        assert client.subscribe(f"dh/notification/{world.mine.network}/1/{world.mine.device}/{name}") == 1
        client.publish(f"dh/insert/notification/{world.mine.device}/{name}", {}).wait_for_publish(WAIT)
        assert client.message()[1]["notification"]["notification"] == name


def test_packets_of_no_client(mqtt: World, name: str) -> None:
    """Each ends its connection (MQTT 3.1.1, 4.8), and costs the broker little."""
    if mqtt.site.broker.name != AMQTT:
        return  # what others do with them is theirs
    account = mqtt.account(name)
    connect = mqtt_raw.connect(name, *account)
    broken = {
        "QoS 3": connect + mqtt_raw.publish("mine/x", flags=6),
        "256 MB": connect + b"\x30\xff\xff\xff\x7f" + mqtt_raw.text("mine/x") + bytes(6_000_000),
        "another CONNECT": connect + connect,
        "a reserved type": connect + b"\xf0\0",
        "QoS 2 to a topic of the broker": connect + mqtt_raw.publish("$SYS/x", flags=4) + b"\x62\2\0\2",
    }
    for what, data in broken.items():
        before = resident(mqtt)
        with Raw(mqtt.port) as raw:
            with contextlib.suppress(ConnectionError):
                raw.say(data)
            try:
                raw.ended()
            except TimeoutError:
                pytest.fail(f"{what} does not end the connection")
        assert resident(mqtt) - before < 8 << 20, what
    lives(mqtt, name)


def resident(world: World) -> int:
    return int(psutil.Process(world.suite.pid("mqtt-broker")).memory_info().rss)
