import json

import pytest

from backend.core import deliveries
from backend.core.batches import Delivery
from backend.core.store import LARGEST, decode_item, encode_item, retagged
from skep.wire import proxy
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE, Command, Item, Notification, decode_events
from skep.wire.proxy import Source

MADE = Notification(1, "temperature", "d1", 2, 3, 1_527_242_400_000, b'{"v":1}')
ASKED = Command(4, "go", "d1", 2, 3, 1_527_242_400_000, 1_527_242_400_001, None, None, None, "ok", b"[1]", True)


def delivery(offset: int, size: int = 10, log: str = "log") -> Delivery:
    made = Notification(offset, "n", "d", 1, 1, 0, b"x" * size)
    return Delivery(NOTIFICATION, encode_item(Item(0, offset, NOTIFICATION, made)), made, Source(log, 0, offset))


def test_events_of_a_batch_are_one_record() -> None:
    (payload,) = deliveries.events([delivery(i) for i in range(3)])
    events = decode_events(payload)
    assert (events.incarnation, [i.offset for i in events.items]) == ("log", [0, 1, 2])


def test_events_are_split_by_size_and_by_log() -> None:
    sizes = [700_000, 700_000, 10, 10]
    made = [delivery(i, size, "log" if i < 3 else "new") for i, size in enumerate(sizes)]
    found = [decode_events(p) for p in deliveries.events(made)]
    assert [(e.incarnation, [i.offset for i in e.items]) for e in found] == [
        ("log", [0]), ("log", [1, 2]), ("new", [3])
    ]  # fmt: skip


def test_the_largest_item_fits_every_record_it_travels_in() -> None:
    item = delivery(2**40, LARGEST - 40, "x" * 64)
    assert LARGEST - 20 <= len(item.body) <= LARGEST
    (payload,) = deliveries.events([item])
    assert len(payload) <= proxy.MAX_BODY
    (derived,) = deliveries.derived("mqtt.out", [item])
    assert len(derived.payload) <= proxy.MAX_BODY
    name = "\0" * 128  # six bytes each in JSON
    made = Notification(2**53, name, name, 2**31, 2**31, 2**41, b'"' + b"x" * LARGEST)
    while len(body := encode_item(Item(7, 2**40, NOTIFICATION, made))) > LARGEST:
        made.parameters = made.parameters[: LARGEST - len(body)] if made.parameters else None
    widest = Delivery(NOTIFICATION, body, made, Source("log", 7, 2**40))
    (derived,) = deliveries.derived(f"plugin_topic_{'x' * 36}.100", [widest])
    assert LARGEST < len(derived.payload) <= proxy.MAX_BODY


def test_an_mqtt_record_is_one_message_with_its_source() -> None:
    (found,) = deliveries.derived("mqtt.out", [delivery(7)])
    assert (found.topic, found.key, found.source) == ("mqtt.out", b"d", Source("log", 0, 7))
    assert [i.offset for i in decode_events(found.payload).items] == [7]


@pytest.mark.parametrize(
    ("kind", "message", "body"),
    [
        (
            NOTIFICATION,
            MADE,
            {
                "notification": {
                    "id": 1, "notification": "temperature", "deviceId": "d1", "networkId": 2, "deviceTypeId": 3,
                    "timestamp": "2018-05-25T10:00:00.000", "parameters": {"v": 1},
                },
                "a": 10,
            },
        ),
        (
            UPDATE,
            ASKED,
            {
                "command": {
                    "id": 4, "command": "go", "timestamp": "2018-05-25T10:00:00.000",
                    "lastUpdated": "2018-05-25T10:00:00.001", "userId": None, "deviceId": "d1", "networkId": 2,
                    "deviceTypeId": 3, "parameters": None, "lifetime": None, "status": "ok", "result": [1],
                    "isUpdated": True,
                },
                "a": 23,
            },
        ),
    ],
)  # fmt: skip
def test_a_plugin_message_has_every_field(kind: int, message: Notification | Command, body: object) -> None:
    for topic in ("plugin_topic_1", "plugin_topic_1.1", "plugin_topic_1.17"):
        text = deliveries.plugin_message(topic, kind, message)
        assert json.loads(text) == {"b": body, "cId": "1", "l": False, "err": 0, "fld": False}


@pytest.mark.parametrize("partition", [0, 127, 128, 40_000])
@pytest.mark.parametrize("offset", [0, 127, 128, 255, 256, 65_536, 2**32, 2**40, 2**62])
def test_retagging_changes_the_kind_alone(partition: int, offset: int) -> None:
    item = Item(partition, offset, COMMAND, command=ASKED)
    body = retagged(encode_item(item), UPDATE)
    item.kind = UPDATE
    assert body == encode_item(item)
    assert decode_item(retagged(body, COMMAND)).kind == COMMAND
