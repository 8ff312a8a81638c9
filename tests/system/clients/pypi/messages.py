"""Stored notifications and commands: sent, listed with every filter, answered."""

from datetime import datetime, timedelta

from checks import refused, same
from devicehive.command import Command
from devices import MALFORMED

NO_OBJECT = "'parameters' must be JSON Object!"


class Clock:
    """Timestamps as the API writes them, seconds after a minute ago."""

    def __init__(self, api):
        self.start = datetime.fromisoformat(api.get_info()["server_timestamp"]) - timedelta(minutes=1)

    def __call__(self, second):
        return (self.start + timedelta(seconds=second)).isoformat(timespec="milliseconds")


def messages(world):
    device = world.api.put_device(f"{world.prefix}-messages")
    (added,) = device.list_notifications()
    whole = {"id": device.id, "name": device.id, "data": None, "networkId": 1}
    whole |= {"deviceTypeId": 1, "isBlocked": False}
    same([added.notification, added.device_id, added.parameters], ["$device-add", device.id, whole])
    clock = Clock(world.api)
    _notifications(world, device, clock)
    _commands(world, device, clock)
    _answers(world, device)
    _refusals(world, device)
    device.remove()


def _notifications(world, device, clock):
    sent = []
    for i, name in enumerate("abaab", 1):
        parameters = {"n": i, "deep": {"list": [1.5, "ü", None]}}
        sent.append(device.send_notification(name, parameters, clock(i)))
        same([sent[-1].device_id, sent[-1].notification, sent[-1].parameters], [device.id, name, parameters])
        same([type(sent[-1].id), sent[-1].timestamp], [int, clock(i)])
    found = device.list_notifications(notification="a", sort_field="timestamp", sort_order="ASC")
    same(
        [(n.id, n.device_id, n.timestamp) for n in found],
        [(n.id, device.id, n.timestamp) for n in sent[:1] + sent[2:4]],
    )
    same([n.parameters for n in found[:1]], [sent[0].parameters])

    def listed(**options):
        return [n.parameters["n"] for n in device.list_notifications(**{"end": clock(30)} | options)]

    # Without a field REST sorts newest first, WebSocket oldest first.
    same(listed(), [5, 4, 3, 2, 1] if world.is_http else [1, 2, 3, 4, 5])
    _windows(listed, clock)
    same(listed(notification="b", sort_field="timestamp"), [5, 2])
    same(sorted(listed(sort_field="notification", take=2)), [2, 5])
    same(sorted(listed(sort_field="notification", sort_order="ASC", take=3)), [1, 3, 4])
    same(listed(notification="A"), [])
    # Of one millisecond, in the order they came.
    for i in (7, 6):
        device.send_notification("tie", {"n": i}, timestamp=clock(6))
    for skip, expected in ((None, 7), (1, 6)):
        same(listed(notification="tie", sort_field="timestamp", sort_order="ASC", take=1, skip=skip), [expected])
    live = device.send_notification("now")
    same([live.parameters, len(live.timestamp)], [None, len("2026-01-01T00:00:00.000")])
    same([n.parameters for n in world.api.list_notifications(device.id, notification="now")], [None])


def _windows(listed, clock):
    """start, end, sortOrder, take, skip: the same of notifications and commands numbered 1 to 5 at these seconds."""
    same(listed(sort_field="timestamp", sort_order="ASC"), [1, 2, 3, 4, 5])
    same(listed(sort_field="Timestamp", sort_order="desc"), [5, 4, 3, 2, 1])
    same(listed(sort_field="timestamp", sort_order="ASC", take=2, skip=1), [2, 3])
    same(listed(sort_field="timestamp", sort_order="DESC", take=2, skip=1), [4, 3])
    same(listed(sort_field="timestamp", sort_order="ASC", skip=3), [4, 5])
    same(listed(sort_field="timestamp", sort_order="ASC", start=clock(1), end=clock(5)), [2, 3, 4])
    same(listed(sort_field="timestamp", start=clock(3) + "Z"), [5, 4])
    epoch = datetime.fromisoformat(clock(3) + "+00:00").timestamp() * 1000
    same(listed(sort_field="timestamp", start=round(epoch)), [5, 4])
    same(listed(start=clock(3), end=clock(3)), [])


def _commands(world, device, clock):
    me = world.api.get_current_user().id
    for i, name in enumerate("abaab", 1):
        # Its status is none, s1 or s2; the fourth and fifth have a lifetime, the fifth a result.
        options = {"parameters": {"n": i}, "timestamp": clock(i), "status": [None, "s1", "s2"][i % 3]}
        options |= {"lifetime": 600 if i > 3 else None, "result": {"r": i} if i > 4 else None}
        sent = device.send_command(name, **options)
        expected = [
            device.id,
            me,
            name,
            {"n": i},
            options["lifetime"],
            clock(i),
            clock(i),
            options["status"],
            options["result"],
        ]
        same(_fields(sent), expected)
        (found,) = device.list_commands(start=clock(i - 1), end=clock(i + 1))
        same([found.id, *_fields(found)], [sent.id, *expected])

    def listed(**options):
        return [c.parameters["n"] for c in device.list_commands(**{"end": clock(30)} | options)]

    same(listed(), [5, 4, 3, 2, 1] if world.is_http else [1, 2, 3, 4, 5])
    _windows(listed, clock)
    same(listed(command="a", sort_field="timestamp", sort_order="ASC"), [1, 3, 4])
    same(listed(status="s1", sort_field="timestamp", sort_order="ASC"), [1, 4])
    same(listed(command="b", status="s2"), [2, 5][::-1] if world.is_http else [2, 5])
    same(listed(command="a", status="s2"), [])
    same(sorted(listed(sort_field="command", take=2)), [2, 5])
    same(sorted(listed(sort_field="command", sort_order="ASC", take=3)), [1, 3, 4])
    same(sorted(listed(sort_field="status", take=2)), [2, 5])
    from_api = world.api.list_commands(device.id, end=clock(4), sort_field="timestamp", take=1, skip=1)
    same([c.parameters["n"] for c in from_api], [2])


def _fields(command):
    fields = [command.device_id, command.user_id, command.command, command.parameters, command.lifetime]
    return [*fields, command.timestamp, command.last_updated(), command.status, command.result]


def _answers(world, device):
    command = device.send_command("answer me", {"x": 1})
    command.status, command.result = "done", {"y": [2]}
    command.save()
    (found,) = device.list_commands(command="answer me")
    same(_fields(found)[:6], _fields(command)[:6])
    same([found.id, found.status, found.result], [command.id, "done", {"y": [2]}])
    same(found.last_updated() > found.timestamp, True)
    found.status = "again"
    found.save()
    (again,) = device.list_commands(command="answer me", status="again")
    same([again.status, again.result, again.last_updated() > found.last_updated()], ["again", {"y": [2]}, True])
    missing = dict.fromkeys(("userId", "command", "parameters", "lifetime", "timestamp", "lastUpdated"))
    unknown = Command(world.api, missing | {"deviceId": device.id, "id": 1, "status": "x", "result": None})
    refused(404, "Command with id = 1 not found", unknown.save)


def _refusals(world, device):
    api = world.api
    bad_time = "Unparseable timestamp" if world.is_http else MALFORMED[False]
    for call in (device.list_notifications, device.list_commands):
        for options in ({"sort_order": "up"}, {"take": -1}, {"skip": -1}):
            refused(400, "Invalid request parameters", call, **options)
        refused(400, bad_time, call, start="yesterday")
        refused(400, bad_time, call, end="yesterday")
    refused(400, "Invalid request parameters", device.send_notification, None)
    refused(400, NO_OBJECT, device.send_notification, "x", [1])
    refused(400, NO_OBJECT, device.send_command, "x", [1])
    refused(400, NO_OBJECT, device.send_command, "x", result="text")
    refused(400, MALFORMED[world.is_http], device.send_command, "x", lifetime="soon")
    refused(400, MALFORMED[world.is_http], device.send_notification, "x", timestamp="yesterday")
    missing, text = f"{world.prefix}-missing", f"Device with such deviceId = {world.prefix}-missing not found"
    for call in (api.list_notifications, api.list_commands):
        refused(404, text, call, missing)
    refused(404, text, api.send_notification, missing, "x")
    refused(404, text, api.send_command, missing, "x")
