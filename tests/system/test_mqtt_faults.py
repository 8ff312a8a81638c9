"""What the broker acknowledged is not lost: 50 devices, 200 QoS 1 messages/s, services and the broker killed.

Some seconds of it in `make test`. A minute of kills, PostgreSQL's included, by hand: `MQTT_FLOW_SECONDS=60
.venv/bin/pytest -rA tests/system/test_mqtt_faults.py -k "rabbitmq and killed"`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid

import pytest

from tests.system.mqtt import AMQTT, RABBITMQ, RabbitMq, World
from tests.system.mqtt_client import WAIT, until
from tests.system.mqtt_flow import flowing, rounds

pytestmark = pytest.mark.system
SECONDS = float(os.environ.get("MQTT_FLOW_SECONDS", "0"))
"""For how long things are killed again and again; at least once each."""
KILLED = ("mqtt-bridge", "backend", "proxy", *(["postgres"] if SECONDS else []))


async def test_killed_services_lose_nothing(mqtt: World) -> None:
    async with flowing(mqtt) as flow:
        await flow.caught_up()
        for _ in rounds(SECONDS):
            for service in KILLED:
                began = time.monotonic()
                await (mqtt.suite.kill(service) if service == "backend" else flow.struck(mqtt.suite.kill(service)))
                back = time.monotonic()
                await flow.caught_up()
                print(f"{service}: back after {back - began:.1f} s, caught up {time.monotonic() - back:.1f} s later")
        outcome = await flow.judged()
    print(outcome.summary())
    assert outcome.verdict.findings() == {}, outcome.summary()
    assert outcome.reading.findings() == {}, outcome.summary()
    assert outcome.answers.findings() == {}, outcome.summary()
    assert flow.sessions_lost == 0
    assert outcome.verdict.acknowledged >= 1_000


async def test_a_killed_broker(mqtt: World) -> None:
    """With durable queues nothing is lost; the others lose what they were about, and no more. What was answered is
    there everywhere."""
    broker = mqtt.site.broker
    async with flowing(mqtt) as flow:
        for number in rounds(SECONDS):
            if number:
                await flow.caught_up()
            # That there are subscribers, and that nothing waits any more: what waited at the last save comes again as
            # if it were new.
            await asyncio.to_thread(broker.saved)
            await flow.caught_up()
            # Once with requests that are under way for certain, then at any moment.
            await (flow.kill_broker() if number else flow.struck(flow.kill_broker()))
        await flow.caught_up()
        outcome = await flow.judged()
    print(outcome.summary())
    assert outcome.answers.findings() == {}, outcome.summary()
    if broker.name == RABBITMQ:
        assert outcome.verdict.findings() == {}, outcome.summary()
        assert outcome.reading.findings() == {}, outcome.summary()
        return
    found = set(outcome.verdict.findings()) | set(outcome.reading.findings())
    assert found <= {"lost", "missing"}, outcome.summary()
    assert outcome.undue == set(), outcome.summary()


@pytest.mark.parametrize("mqtt", [AMQTT], indirect=True)
async def test_our_broker_lets_nobody_in_before_the_bridge(mqtt: World) -> None:
    """It has no session of the bridge when it starts: what it acknowledged would be for nobody."""
    device, mark = mqtt.mine.device, uuid.uuid4().hex[:8]
    async with mqtt.suite.paused("mqtt-bridge"):
        await mqtt.site.broker.kill()
        coming = asyncio.create_task(asyncio.to_thread(mqtt.client, f"s-{mark}"))
        assert await asyncio.wait([coming], timeout=1) == (set(), {coming})
    with await coming as sender:
        sender.publish(f"dh/insert/notification/{device}/{mark}", {}).wait_for_publish(WAIT)
        path = f"device/{device}/notification?notification={mark}"
        await asyncio.to_thread(until, lambda: mqtt.admin("GET", path)[1] != [], "it is lost")


@pytest.mark.parametrize("mqtt", [RABBITMQ], indirect=True)
async def test_the_bridge_may_be_there_before_the_broker(mqtt: World) -> None:
    """The fixture's broker came first, with nobody to ask. Now one comes new to a bridge that has long been there."""
    broker, device, mark = mqtt.site.broker, mqtt.mine.device, uuid.uuid4().hex[:8]
    assert isinstance(broker, RabbitMq)
    before = mqtt.site.subscribed()
    await broker.replace()
    await asyncio.to_thread(until, lambda: mqtt.site.subscribed() > before, "the bridge does not come")
    with mqtt.client(f"r-{mark}") as reader, mqtt.client(f"s-{mark}") as sender:
        assert reader.subscribe(f"dh/notification/{mqtt.mine.network}/1/{device}/{mark}") == 1
        sender.publish(f"dh/insert/notification/{device}/{mark}", {}).wait_for_publish(WAIT)
        assert (await asyncio.to_thread(reader.message))[1]["notification"]["notification"] == mark


@pytest.mark.parametrize("waits", ["backend", "proxy"])
async def test_a_packet_that_comes_again_keeps_its_id(mqtt: World, waits: str) -> None:
    """The bridge is killed with packets that the backend has before it, or not even the bus, and the broker does not
    know to be done."""
    device, mark = mqtt.mine.device, uuid.uuid4().hex[:8]
    topic = f"dh/insert/notification/{device}/{mark}"
    with mqtt.client(f"r-{mark}") as reader, mqtt.client(f"s-{mark}") as sender:
        assert reader.subscribe(f"dh/notification/{mqtt.mine.network}/1/{device}/{mark}") == 1
        sender.publish(topic, {"n": -1}).wait_for_publish(WAIT)
        assert (await asyncio.to_thread(reader.message))[1]["notification"]["parameters"] == {"n": -1}
        bridge, waiting = mqtt.suite.pid("mqtt-bridge"), mqtt.suite.pid(waits)
        async with mqtt.suite.paused(waits):
            before = mqtt.packets()
            for n in range(20):
                # Twice the same: they are two messages.
                sender.publish(topic, {"n": n // 2}).wait_for_publish(WAIT)
            deadline = time.monotonic() + WAIT
            while mqtt.packets() < before + 20:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            os.kill(bridge, signal.SIGKILL)
            if waits == "proxy":  # and what it has not read with it
                os.kill(waiting, signal.SIGKILL)
                await mqtt.suite.back(waits, waiting)
        await mqtt.suite.back("mqtt-bridge", bridge)
        sender.publish(topic, {"n": 10}).wait_for_publish(WAIT)  # behind all that comes again
        came: list[tuple[int, int]] = []
        while not came or came[-1][1] < 10:  # it may get what it had a second time
            notification = (await asyncio.to_thread(reader.message))[1]["notification"]
            found = notification["id"], notification["parameters"]["n"]
            if found not in came and found[1] >= 0:
                came.append(found)
        assert [n for _, n in came] == [n // 2 for n in range(21)]
    status, stored = mqtt.admin("GET", f"device/{device}/notification?notification={mark}&take=100")
    assert status == 200
    assert len(stored) == 22  # type: ignore[arg-type]
