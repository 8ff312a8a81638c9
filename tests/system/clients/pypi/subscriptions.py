"""Subscriptions: each scope gets what is its own, stored and live, and nothing else."""

import itertools
import time

from checks import raises, refused, same
from connection import Connection, until
from devicehive import SubscriptionError
from devicehive.api_request import ApiRequest, RemoveSubscriptionApiRequest

KINDS = ("notification", "insert", "update")


class Traffic:
    """Batches of a notification and an answered command for each device, and of another name for the first.

    Sent over WebSocket, which is quick, and no two in one millisecond: a poll asks for what is later than what the
    one before brought.
    """

    def __init__(self, world, api):
        self.world, self.api, self.numbers = world, api, itertools.count(1)

    def send(self, live):
        """Gives what everybody together is to get: [(kind, (network, type), name, number, status)]."""
        sent = []
        for place, name in (*((place, "a") for place in self.world.devices), ((1, 1), "b")):
            number, id = next(self.numbers), self.world.devices[place].id
            self._sent(self.api.send_notification(id, name, {"n": number}))
            command = self._sent(self.api.send_command(id, name, {"n": number}))
            command.status = f"done {number}"
            self._sent(command.save())
            # A stored command comes as it is now; whether a poll reads it before or after its answer nobody knows.
            inserted = "?" if live and self.world.is_http else None if live else command.status
            for kind, status in zip(KINDS, (None, inserted, command.status), strict=True):
                sent.append((kind, place, name, number, status))
        return sent

    def notify(self, place, name, number):
        return self._sent(self.api.send_notification(self.world.devices[place].id, name, {"n": number}))

    def mark(self):
        """A timestamp that is not before anything sent so far, and before what is sent from now on."""
        now = self.api.get_info()["server_timestamp"]
        until(lambda: self.api.get_info()["server_timestamp"] > now)
        return now

    @staticmethod
    def _sent(what):
        now = int(time.time() * 1000)
        until(lambda: int(time.time() * 1000) > now)
        return what


def subscriptions(world, credentials):
    with Connection(world.socket_url, **credentials) as sender:
        traffic = Traffic(world, sender)
        _scopes_by_themselves(traffic, credentials)
        with Connection(world.url, **credentials) as api:
            _ended(traffic, api, api.transport.handler.handler)
            _refusals(world, api)
        _default_timestamp(traffic, credentials)
        _twice(traffic, credentials)


def _scopes(world):
    """(who subscribes, its options, which (place, name) it is to get), on a connection of its own each."""
    network, device_type, other_type = world.networks[1].id, world.types[1].id, world.types[2].id
    device = world.device_id(1, 1)
    yield lambda api: api.get_device(device), {}, lambda place, name: place == (1, 1)
    yield lambda api: api.get_device(device), {"names": ["b"]}, lambda place, name: place == (1, 1) and name == "b"
    of_network = {"names": ["a"]}, lambda place, name: place[0] == 1 and name == "a"
    yield lambda api: api.get_network(network), *of_network
    of_type = {"names": ["a"]}, lambda place, name: place[1] == 1 and name == "a"
    yield lambda api: api.get_device_type(device_type), *of_type
    both = {"network_ids": [network], "device_type_ids": [device_type, other_type]}
    yield lambda api: api, both, lambda place, name: place[0] == 1
    crossed = {"network_ids": [world.networks[2].id], "device_type_ids": [device_type]}
    yield lambda api: api, crossed, lambda place, name: place == (2, 1)
    yield lambda api: api, {"device_id": device, "names": ["a", "b"]}, lambda place, name: place == (1, 1)
    yield lambda api: api, {"names": ["b", "c"]}, lambda place, name: name == "b"
    yield lambda api: api, {}, lambda place, name: True


def _scopes_by_themselves(traffic, credentials):
    """What is sent before the subscriptions comes from the store, what is sent after them comes live."""
    world, timestamp = traffic.world, traffic.mark()
    sent = traffic.send(live=False)
    begun = [_begun(world, credentials, timestamp, *scope) for scope in _scopes(world)]
    sent += traffic.send(live=True)
    for connection, _, options, wanted in begun:
        _expect(world, connection.inbox, options, [each for each in sent if wanted(each[1], each[2])])
    for connection, all_three, _, _ in begun:
        for subscription in all_three:
            subscription.remove()
            same(subscription.id, None)
        connection.close()


def _begun(world, credentials, timestamp, of, options, wanted):
    connection = Connection(world.url, **credentials)
    connection.inbox.devices = {device.id for device in world.devices.values()}
    subscribers = of(connection.api)
    all_three = [
        subscribers.subscribe_notifications(**options, timestamp=timestamp),
        subscribers.subscribe_insert_commands(**options, timestamp=timestamp),
        subscribers.subscribe_update_commands(**options, timestamp=timestamp),
    ]
    same([bool(subscription.id) for subscription in all_three], [True] * 3)
    return connection, all_three, options, wanted


def _expect(world, inbox, scope, expected):
    """Exactly these, and those of a device in the order they were sent."""
    came = [_seen(world, *event) for event in inbox.take(len(expected))]
    unknown = {each[:4] for each in expected if each[4] == "?"}
    came = [(*each[:4], "?") if each[:4] in unknown else each for each in came]
    same((scope, sorted(came, key=str)), (scope, sorted(expected, key=str)))
    for place, kind in itertools.product(world.devices, KINDS):
        numbers = [each[3] for each in came if (each[1], each[0]) == (place, kind)]
        same((scope, numbers), (scope, sorted(numbers)))


def _seen(world, kind, entity):
    """As `Traffic.send` gives it."""
    place = tuple(int(digit) for digit in entity.device_id.removeprefix(f"{world.prefix}-"))
    name, status = (entity.notification, None) if kind == "notification" else (entity.command, entity.status)
    return kind, place, name, entity.parameters["n"], status


def _ended(traffic, api, inbox):
    """After the end of one subscription its messages stay away, though the other one's come."""
    world, now = traffic.world, traffic.mark()
    ending = api.subscribe_notifications(world.device_id(1, 1), timestamp=now)
    staying = api.subscribe_notifications(world.device_id(2, 2), timestamp=now)
    ending.remove()
    traffic.notify((1, 1), "a", 1)
    traffic.notify((2, 2), "a", 2)
    same([_seen(world, *event) for event in inbox.take(1)], [("notification", (2, 2), "a", 2, None)])
    staying.subscribe()  # what the library does after it connected again
    staying.remove()
    raises(SubscriptionError, "Subscription does not exist.", staying.remove)


def _refusals(world, api):
    id = f"{world.prefix}-missing"
    for call in (api.subscribe_notifications, api.subscribe_insert_commands, api.subscribe_update_commands):
        refused(404, f"Device with such deviceId = {id} not found", call, id)
        missing = f"Networks with such networkIds wasn't found: {{[{10**12}]}}"
        refused(404, missing, call, network_ids=[world.networks[1].id, 10**12])
        missing = f"Device types with such deviceTypeIds wasn't found: {{[{10**12}]}}"
        refused(404, missing, call, device_type_ids=[10**12])
    removing, request = RemoveSubscriptionApiRequest(), ApiRequest(api)
    removing.subscription_id(1)
    removing.response_code(404)
    # Over HTTP the library answers itself.
    removing.response_error("Subscription with id 1 was not found")
    request.action("notification/unsubscribe")
    request.set("subscriptionId", 1)
    request.remove_subscription_request(removing)
    refused(404, "Subscription with id 1 was not found", request.execute, "Unsubscribe failure.")


def _default_timestamp(traffic, credentials):
    """Without a timestamp all comes that was sent since the connection was made."""
    traffic.notify((1, 2), "before", 1)
    with Connection(traffic.world.url, **credentials) as api:
        until(lambda: api.get_info()["server_timestamp"] > api.server_timestamp)
        sent = traffic.notify((1, 2), "after", 2)
        subscription = api.subscribe_notifications(sent.device_id)
        ((kind, came),) = api.transport.handler.handler.take(1)
        same([kind, came.id, came.timestamp, came.notification], ["notification", sent.id, sent.timestamp, "after"])
        subscription.remove()


def _twice(traffic, credentials):
    """A message of two subscriptions comes twice, also where the library made them again."""
    with Connection(traffic.world.url, **credentials) as api:
        api.subscribe_notifications(traffic.world.device_id(1, 2), names=["twice"])
        api.apply_subscription_calls()
        traffic.notify((1, 2), "twice", 3)
        same([n.parameters for _, n in api.transport.handler.handler.take(2)], [{"n": 3}] * 2)
