from typing import Any

import msgspec
import pytest

from skep.wire import views
from skep.wire.messages import COMMAND, NOTIFICATION, Command, Item, Notification, Stored

NOON = 1_767_268_800_000
NOTIFICATION_JSON = (
    b'{"id":9007199254740991,"notification":"t","deviceId":"d","networkId":1,"deviceTypeId":2,'
    b'"timestamp":"2026-01-01T12:00:00.000","parameters":{ "a" : 1.50 }}'
)
COMMAND_JSON = (
    b'{"id":5,"command":"on","timestamp":"2026-01-01T12:00:00.000","lastUpdated":"2026-01-01T12:00:00.001",'
    b'"userId":null,"deviceId":"d","networkId":1,"deviceTypeId":2,"parameters":null,"lifetime":null,"status":null,'
    b'"result":null}'
)


@pytest.mark.parametrize(
    ("view", "json"),
    [
        (views.notification(Notification(2**53 - 1, "t", "d", 1, 2, NOON, b'{ "a" : 1.50 }')), NOTIFICATION_JSON),
        (views.notification_created(Stored(5, NOON, NOON)), b'{"id":5,"timestamp":"2026-01-01T12:00:00.000"}'),
        (views.command(Command(5, "on", "d", 1, 2, NOON, NOON + 1, is_updated=True)), COMMAND_JSON),
        (
            views.command_created(Stored(5, NOON, NOON + 1), 7),
            b'{"id":5,"timestamp":"2026-01-01T12:00:00.000","lastUpdated":"2026-01-01T12:00:00.001","userId":7}',
        ),
        (views.ClusterInfo("a:1", ""), b'{"bootstrap.servers":"a:1","zookeeper.connect":""}'),
    ],
)
def test_json(view: Any, json: bytes) -> None:
    assert msgspec.json.encode(view) == json


def test_message_of_an_item() -> None:
    notification = Item(0, 0, NOTIFICATION, notification=Notification(5, "t", "d", 1, 2, NOON))
    command = Item(0, 0, COMMAND, command=Command(5, "on", "d", 1, 2, NOON, NOON + 1))
    assert isinstance(views.message(notification), views.NotificationView)
    assert msgspec.json.encode(views.message(command)) == COMMAND_JSON
    with pytest.raises(ValueError, match="without"):
        views.message(Item(0, 0, COMMAND))
