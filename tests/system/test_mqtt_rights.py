"""What nobody may see or say over MQTT, on every broker: eavesdropping, spoofing, wills, others' ids, rights that end.

Brokers refuse in ways of their own (docs/mqtt.md): what is asked for here is that nothing foreign is seen and nothing
spoofed delivered; codes are compared where the broker has a choice of none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import time
import uuid
from collections.abc import Callable

import pytest

from tests.system.mqtt import MOSQUITTO, PASSWORD, RABBITMQ, User, World
from tests.system.mqtt_client import REFUSED, WAIT, Client, NotConnected, until

pytestmark = pytest.mark.system

ANONYMOUS, CLIENT, NARROWED = "anonymous", "client", "narrowed"
EAVESDROPPING = [
    "#", "+/#", "+/+/#", "dh/#", "dh/+/#", "dh/+/+/+/#", "dh/+/+/+/+/+", "+/notification/#", "+/request/+",
    "dh/notification/#", "dh/command/+/#", "dh/request", "dh/request/#", "dh/request/+", "dh/request/{victim}",
    "dh/insert/#", "dh/response/#", "dh/response/+", "dh/response/+/+", "dh/response/token@{victim}",
    "dh/notification/{foreign}/#", "dh/notification/+/+/{device}/#", "dh/command/{foreign}/1/{device}/#",
    "dh/command_update/{foreign}/1/#", "$SYS/#", "$SYS/broker/#",
]  # fmt: skip
SHARED = ["$share/g/#", "$share/g/dh/#", "$share/g/dh/request/#", "$share/g/dh/notification/{foreign}/#"]
"""Shared, or on a broker that does not share, filters for topics that nobody publishes to."""


LETS_IN: dict[str, tuple[str, ...]] = {RABBITMQ: (CLIENT, NARROWED), MOSQUITTO: (CLIENT,)}
"""Whom a broker lets in where that is not everybody: Mosquitto takes no tokens, and both take no nameless clients."""


@pytest.fixture
def name() -> str:
    return f"c-{uuid.uuid4().hex[:8]}"


def spy(world: World, who: str, client_id: str) -> Client:
    """Who may see nothing of `foreign`. Raises NotConnected where the broker lets nobody in without a name."""
    if who == NARROWED:
        token = world.token(n=[str(world.mine.network)], a=[4, 5])
        return Client(world.port, client_id, "any", token)
    return Client(world.port, client_id) if who == ANONYMOUS else world.client(client_id)


@pytest.mark.parametrize("who", [ANONYMOUS, CLIENT, NARROWED])
def test_eavesdropping(mqtt: World, name: str, who: str) -> None:
    victim, foreign = f"v-{name}", mqtt.foreign
    if who not in LETS_IN.get(mqtt.site.broker.name, (who,)):
        with pytest.raises(NotConnected):
            spy(mqtt, who, name)
        return
    places = {"victim": victim, "foreign": foreign.network, "device": foreign.device}
    for filter_ in EAVESDROPPING:
        # RabbitMQ closes the connection, too.
        with spy(mqtt, who, name) as refused:
            assert refused.subscribe(filter_.format(**places)) == REFUSED, filter_
    spies = [name, *(f"{name}-{number}" for number in range(len(SHARED)))]
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(spy(mqtt, who, id)) for id in spies]
        for listener, filter_ in zip(listeners, SHARED, strict=False):
            listener.subscribe(filter_.format(**places))
        with mqtt.client(victim, foreign) as owner:
            _life(mqtt, owner, victim)
        listeners[-1].subscribe("mine/#")
        listeners[-1].publish("mine/last", {"the": "end"})
        assert listeners[-1].message()[0] == "mine/last"
        assert not any(listener.so_far() for listener in listeners)


def _life(world: World, owner: Client, client_id: str) -> None:
    """Of each kind of topic one message, each of which its owner has got when this returns."""
    user = world.foreign
    place = f"{user.network}/1/{user.device}"
    for filter_ in (f"dh/notification/{place}/#", f"dh/command/{place}/#", f"dh/command_update/{place}/#"):
        assert owner.subscribe(filter_) == 1
    assert owner.subscribe(f"dh/response/token@{client_id}") == 1
    owner.ask(client_id, action="token", login=user.login, password=PASSWORD)
    owner.publish(f"dh/insert/notification/{user.device}/secret", {}).wait_for_publish(WAIT)
    assert owner.message()[0] == f"dh/notification/{place}/secret"
    status, made = world.admin("POST", f"device/{user.device}/command", {"command": "secret"})
    assert status == 201
    assert owner.message()[0] == f"dh/command/{place}/secret"
    path = f"device/{user.device}/command/{made['id']}"  # type: ignore[index]
    assert world.admin("PUT", path, {"status": "done"})[0] == 204
    assert owner.message()[0] == f"dh/command_update/{place}/secret"


@pytest.mark.parametrize("who", [ANONYMOUS, CLIENT, NARROWED])
def test_spoofing(mqtt: World, name: str, who: str) -> None:
    """A publish that is refused may cost the connection: each forgery has one of its own."""
    victim, user = f"v-{name}", mqtt.foreign
    place = f"{user.network}/1/{user.device}"
    forged = [
        f"dh/notification/{place}/x", f"dh/command/{place}/x", f"dh/command_update/{place}/x",
        f"dh/request/{victim}", f"dh/request/{victim}/x", f"dh/response/token@{victim}", "dh/x",
        f"dh/insert/notification/{user.device}/x", f"dh/insert/command/{user.device}/x", "$SYS/x",
        f"dh.notification.{place}.x".replace("/", "."), f"dh.request.{victim}",
    ]  # fmt: skip
    if who not in LETS_IN.get(mqtt.site.broker.name, (who,)):
        return  # it gets no connection: test_eavesdropping
    request = {"action": "token", "login": user.login, "password": PASSWORD}
    with mqtt.client(victim, user) as owner:
        for kind in ("notification", "command", "command_update"):
            assert owner.subscribe(f"dh/{kind}/{place}/#") == 1
        assert owner.subscribe(f"dh/response/token@{victim}") == 1
        for topic in forged:
            for retain in (False, True):
                with spy(mqtt, who, name) as forger:
                    forger.publish_unseen(topic, request, retain)
        mqtt.notify(user.device, "genuine")
        assert owner.message()[0] == f"dh/notification/{place}/genuine"
        assert not owner.so_far()
    with mqtt.client(victim, user) as owner:
        # Nor was one retained.
        assert owner.subscribe(f"dh/notification/{place}/#") == 1
        mqtt.notify(user.device, "later")
        assert owner.message()[0] == f"dh/notification/{place}/later"
        assert not owner.so_far()


def test_nothing_below_dh_is_retained(mqtt: World, name: str) -> None:
    network, device = mqtt.mine.network, mqtt.mine.device
    if mqtt.site.broker.name == MOSQUITTO:  # nothing is retained at all: who tries is disconnected
        for topic in (f"dh/insert/notification/{device}/kept", f"dh/request/{name}", f"kept/{name}"):
            with mqtt.client(name) as client:
                client.publish(topic, {}, retain=True)
                until(client.is_closed.is_set, f"{topic} is retained")
        return
    with mqtt.client(name) as client:
        client.publish_unseen(f"dh/insert/notification/{device}/kept", {}, True)
    with mqtt.client(name) as client:
        client.publish(f"kept/{name}", {"v": 1}, retain=True).wait_for_publish(WAIT)
    with mqtt.boss(f"{name}-2") as later:
        assert later.subscribe(f"dh/notification/{network}/#") == 1
        assert later.subscribe(f"kept/{name}") == 1
        assert later.message()[0] == f"kept/{name}"
        assert not later.so_far()


def test_wills(mqtt: World, name: str) -> None:
    """One that may not be published is refused with its client, or dropped."""
    user = mqtt.foreign
    place = f"{user.network}/1/{user.device}"
    with mqtt.client(f"v-{name}", user) as owner:
        assert owner.subscribe(f"dh/notification/{place}/#") == 1
        assert owner.subscribe(f"dh/response/token@v-{name}") == 1
        assert owner.subscribe(f"will/{name}") == 1
        request = json.dumps({"action": "token", "login": user.login, "password": PASSWORD})
        for topic in (f"dh/notification/{place}/x", f"dh/response/token@v-{name}", f"dh/request/v-{name}"):
            try:
                mqtt.client(name, will=(topic, request)).vanish()
            except NotConnected:
                assert mqtt.site.broker.name != RABBITMQ
        mqtt.client(name, will=(f"will/{name}", "{}")).vanish()
        assert owner.message()[0] == f"will/{name}"
        mqtt.notify(user.device, "genuine")
        assert owner.message()[0] == f"dh/notification/{place}/genuine"
        assert not owner.so_far()


def test_a_client_id_is_its_users(mqtt: World, name: str) -> None:
    with mqtt.client(name) as victim:
        attackers: list[Callable[[], Client]] = [
            lambda: Client(mqtt.port, name, *mqtt.account(mqtt.foreign.login, mqtt.foreign)),
            lambda: Client(mqtt.port, name),
            lambda: Client(mqtt.port, name, mqtt.mine.login, "wrong"),
            lambda: Client(mqtt.port, name, mqtt.mine.login, mqtt.token(u=mqtt.foreign.id)),
            lambda: Client(mqtt.port, name, mqtt.mine.login, mqtt.token(e=1)),
            lambda: Client(mqtt.port, name, "skep-bridge", "wrong"),
            lambda: Client(mqtt.port, "skep-bridge", mqtt.mine.login, PASSWORD),
            lambda: Client(mqtt.port, "skep-bridge", *mqtt.account(mqtt.mine.login)),
        ]
        for number, attacker in enumerate(attackers):
            try:
                attacker()
            except NotConnected:
                continue
            pytest.fail(f"attacker {number} got in")
        assert not victim.is_closed.is_set()
        assert victim.subscribe(f"dh/response/device/get@{name}") == 1
        assert victim.ask(name, action="device/get", deviceId=mqtt.mine.device)["status"] == "success"


def test_an_anonymous_client_logs_in(mqtt: World, name: str) -> None:
    if mqtt.site.broker.name in LETS_IN:
        with pytest.raises(NotConnected):
            Client(mqtt.port, name)
        return
    with Client(mqtt.port, name) as client:
        for action in ("token", "authenticate"):
            assert client.subscribe(f"dh/response/{action}@{name}") == 1
        assert client.subscribe(f"dh/response/device/get@{name}") == REFUSED
        tokens = client.ask(name, action="token", login=mqtt.mine.login, password=PASSWORD)
        assert client.ask(name, action="authenticate", token=tokens["accessToken"])["status"] == "success"
        assert client.subscribe(f"dh/response/device/get@{name}") == 1
        assert client.ask(name, action="device/get", deviceId=mqtt.mine.device)["status"] == "success"


# -- rights that end -------------------------------------------------------------------------------------------------


def test_a_disabled_user_loses_the_session(mqtt: World) -> None:
    user = User(mqtt.admin)
    with mqtt.client(user.login, user) as disabled:
        assert disabled.subscribe("ordinary/topic") == 1
        assert mqtt.admin("PUT", f"user/{user.id}", {"status": 2})[0] == 204
        until(disabled.is_closed.is_set, "the disabled user's session goes on", 5)
    with pytest.raises(NotConnected):
        mqtt.client(user.login, user)


def test_an_expired_token_loses_the_session(mqtt: World, name: str) -> None:
    if mqtt.site.broker.name == MOSQUITTO:
        return  # takes none: test_a_client_id_is_its_users
    soon = mqtt.token(e=int(time.time() * 1000) + 3_000)
    with mqtt.client(name) as stays, Client(mqtt.port, f"{name}-t", "any", soon) as expiring:
        assert expiring.subscribe("ordinary/topic") == 1
        until(expiring.is_closed.is_set, "the expired token's session goes on", 8)
        assert not stays.is_closed.is_set()


def test_rights_that_shrink_end_what_is_seen(mqtt: World, name: str) -> None:
    user, network = User(mqtt.admin), mqtt.mine.network
    own = user.login
    assert mqtt.admin("PUT", f"user/{user.id}/network/{network}", {})[0] in (200, 204)
    with mqtt.client(own, user) as client, mqtt.client(f"w-{name}") as witness:
        for each in (client, witness):
            assert each.subscribe(f"dh/notification/{network}/#") == 1
        assert client.subscribe(f"own/{own}") == 1
        mqtt.notify(mqtt.mine.device, "before")
        assert client.message()[0].endswith("/before")
        assert witness.message()[0].endswith("/before")
        assert mqtt.admin("DELETE", f"user/{user.id}/network/{network}")[0] == 204
        until(lambda: not _sees(mqtt, client, witness), "still seen after 5 s", 5)


def _sees(world: World, client: Client, witness: Client) -> bool:
    """Whether it gets a notification of `mine` that the witness gets, or has the connection at all."""
    world.notify(world.mine.device, "after")
    assert witness.message()[0].endswith("/after")
    client.publish(f"own/{client.id}", {})
    found = []
    while f"own/{client.id}" not in found:
        try:
            found.append(client.message(2)[0])
        except queue.Empty:
            assert client.is_closed.is_set()
            return False
    return len(found) > 1


def test_an_mqtt_password_that_is_replaced_or_taken_ends_its_session(mqtt: World) -> None:
    if mqtt.site.broker.name != MOSQUITTO:
        return  # the others ask for the user's own
    user = User(mqtt.admin)
    first = mqtt.account(user.login, user)
    with Client(mqtt.port, user.login, *first) as client:
        status, made = mqtt.admin("POST", f"user/{user.id}/mqtt")
        assert (status, made["login"], made["clientId"]) == (201, user.login, user.login)  # type: ignore[index]
        until(client.is_closed.is_set, "the session of the old password goes on", 5)
    with pytest.raises(NotConnected):
        Client(mqtt.port, user.login, *first)
    with Client(mqtt.port, user.login, user.login, made["password"]) as client:  # type: ignore[index]
        assert mqtt.admin("DELETE", f"user/{user.id}/mqtt")[0] == 204
        until(client.is_closed.is_set, "the session goes on without a password", 5)
    for password in (made["password"], PASSWORD):  # type: ignore[index]
        with pytest.raises(NotConnected):
            Client(mqtt.port, user.login, user.login, password)


async def test_what_happened_while_no_bridge_ran_reaches_the_broker(mqtt: World) -> None:
    if mqtt.site.broker.name != MOSQUITTO:
        return  # the others ask when there is a question
    gone, grows = User(mqtt.admin), User(mqtt.admin)
    filter_ = f"dh/notification/{mqtt.mine.network}/#"
    with mqtt.client(gone.login, gone) as ends, mqtt.client(grows.login, grows) as stays:
        assert stays.subscribe(filter_) == REFUSED
        back = asyncio.create_task(mqtt.suite.kill("mqtt-bridge"))
        await asyncio.sleep(0)  # it is killed
        assert mqtt.admin("DELETE", f"user/{gone.id}")[0] == 204
        assert mqtt.admin("PUT", f"user/{grows.id}/network/{mqtt.mine.network}", {})[0] == 204
        await back
        await asyncio.to_thread(until, ends.is_closed.is_set, "a deleted user's session goes on")
        await asyncio.to_thread(until, lambda: stays.subscribe(filter_) == 1, "a new network is not seen")
        assert not stays.is_closed.is_set()
