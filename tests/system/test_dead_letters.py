"""A record that makes the backend raise goes to `dead-letters`; its caller is told; its partition goes on."""

from __future__ import annotations

import asyncio
import json
import urllib.error

import msgspec
import pytest

from skep import bus
from skep.wire import messages, topics
from tests.system.traffic import call

pytestmark = pytest.mark.system
POISON = "poison"


async def read_one(suite, device: str) -> messages.DeadLetter:
    """The dead letter of that device, read as a tool reads any topic."""
    tool = bus.Bus([suite.bus], "tool", "tool-1", suite.secret("bus_secret"))
    await tool.start()
    try:
        letters = await tool.subscribe(topics.DEAD_LETTERS, start=bus.Start("earliest"))
        async with asyncio.timeout(20):
            while True:
                for event in await letters.next():
                    for record in event.records if isinstance(event, bus.Records) else ():
                        letter = msgspec.msgpack.decode(record.payload, type=messages.DeadLetter)
                        if letter.key == device.encode():
                            return letter
    finally:
        await tool.close()


async def test_a_record_that_raises_does_not_stop_its_partition(suite):
    async with suite.changed("backend", SKEP_FAULT=f"raise:{POISON}"):
        await check(suite)


async def check(suite):
    backend = suite.pid("backend")
    device = "with-a-bad-record"
    url, token = f"{suite.rest}/device/{device}", suite.token()
    call("PUT", url, {"name": device}, token)

    def insert(name: str) -> int:
        return call("POST", f"{url}/notification", {"notification": name, "parameters": {"n": 1}}, token)["id"]

    first = insert("good")
    with pytest.raises(urllib.error.HTTPError) as refused:
        insert(POISON)
    answer = json.loads(refused.value.read())
    second = insert("good")

    assert refused.value.code == answer["error"] == 500
    stored = call("GET", f"{url}/notification?notification=good&sortOrder=ASC", token=token)
    assert [n["id"] for n in stored] == [first, second]
    assert call("GET", f"{url}/notification?notification={POISON}", token=token) == []
    letter = await read_one(suite, device)
    assert (letter.topic, letter.tries) == (topics.REQUESTS, 3)
    assert "SKEP_FAULT" in letter.reason
    request = messages.decode_request(messages.decode_call(letter.payload).body)
    assert request.notification.name == POISON
    assert suite.pid("backend") == backend
