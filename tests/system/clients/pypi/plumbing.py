"""What a program rarely touches: handlers, transports, requests put together by hand."""

import threading
import warnings

from checks import raises, refused, same
from connection import PAUSES, TRANSPORT_PAUSES, Connection, until
from devicehive import ApiResponseError, DeviceHive, DeviceHiveApi, Handler
from devicehive.api_event import ApiEvent
from devicehive.api_request import ApiRequest, AuthApiRequest, AuthSubscriptionApiRequest
from devicehive.data_formats.data_format import DataFormat
from devicehive.data_formats.json_data_format import JsonDataFormat
from devicehive.handler import HandlerWarning
from devicehive.handlers.handler import Handler as TransportHandler
from devicehive.transports.transport import Transport, TransportError


def plumbing(world, credentials):
    _requests(world, credentials)
    _handlers(world)
    _transports(world)
    _pushed(world, credentials["access_token"])
    _abstract(world)
    api = DeviceHiveApi(world.url, **credentials, **PAUSES)
    # It ends the connection it has just made.
    api.disconnect()


def _requests(world, credentials):
    """The API of one device's polls and subscriptions, which no method of the client asks for."""
    device = world.devices[2, 1]
    with Connection(world.url, **credentials) as api:
        same([api.connected, api.transport.connected], [True, True])
        begin = api.get_info()["server_timestamp"]
        polls, request = AuthSubscriptionApiRequest(api), ApiRequest(api)
        polls.action("notification/insert")
        polls.method("GET")
        polls.url("device/{deviceId}/notification/poll", deviceId=device.id)
        polls.header("X-Any", "value")
        polls.param("timestamp", begin)
        polls.set("names", "unused")
        polls.params_timestamp_key("timestamp")
        polls.response_timestamp_key("timestamp")
        polls.response_subscription_id_key("subscriptionId")
        polls.response_key("notification")
        request.action("notification/subscribe")
        request.set("deviceId", device.id)
        request.set("timestamp", begin)
        request.response_subscription_id_key("subscriptionId")
        request.subscription_request(polls)
        same(bool(request.execute("x")["subscriptionId"]), True)
        sent = device.send_notification("by hand", {"n": 1})
        ((_, came),) = api.transport.handler.handler.take(1)
        same([came.id, came.device_id, came.notification], [sent.id, device.id, "by hand"])
    _poll_of_commands(world, device, begin)


def _poll_of_commands(world, device, begin):
    request = AuthApiRequest(world.api)
    same(request.http_transport, not request.websocket_transport)
    sent = device.send_command("by hand", {"n": 1})
    request.url("device/{deviceId}/command", deviceId=device.id)
    request.action("command/list")
    request.header("X-Any", "value")
    request.param("start", begin)
    request.param("command", "by hand")
    request.response_key("commands")
    (found,) = request.execute("x")
    keys = ["id", "command", "timestamp", "lastUpdated", "userId", "deviceId", "networkId", "deviceTypeId"]
    same(list(found), [*keys, "parameters", "lifetime", "status", "result"])
    same([found["id"], found["networkId"], found["deviceTypeId"]], [sent.id, device.network_id, device.device_type_id])
    unknown = ApiRequest(world.api)
    unknown.url("no/such/path")
    unknown.action("no/such")
    refused(
        *((404, "HTTP 404 Not Found") if world.is_http else (400, "Illegal argument: no/such")), unknown.execute, "x"
    )
    try:
        unknown.execute("It failed.")
    except ApiResponseError as error:
        same(error.transport_name, world.api.transport.name)


def _handlers(world):
    class Plain(Handler):
        pass

    plain = Plain(world.api)
    same(plain.api is world.api, True)
    raises(NotImplementedError, "", plain.handle_connect)
    command = world.devices[1, 1].send_command("x")
    for call in (plain.handle_command_insert, plain.handle_command_update, plain.handle_notification):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call(command)
        same([w.category for w in caught], [HandlerWarning])


class Silent(TransportHandler):
    """Keeps what a transport by itself hands over."""

    def __init__(self, transport):
        super().__init__(transport)
        self.seen, self.event = [], threading.Event()

    def handle_connect(self):
        self.seen.append("connected")

    def handle_event(self, event):
        self.seen.append(event)
        self.event.set()

    def handle_disconnect(self):
        self.seen.append("disconnected")


def _transports(world):
    """A request whose answer nobody waits for: it comes as an event."""
    same([DeviceHive.transport_name(url) for url in ("https://x", "wss://x", "x")], ["http", "websocket", None])
    kind = type(world.api.transport)
    transport = kind(JsonDataFormat, {}, Silent, {})
    same([transport.name, transport.connected], [world.api.transport.name, False])
    raises(transport.error, "Connection has not created.", transport.send_request, "1", "server/info", {})
    transport.connect(world.url, **TRANSPORT_PAUSES[transport.name])
    until(lambda: transport.handler.seen == ["connected"])
    # Over WebSocket the transport keeps an answer with a request id for the one who waits for it.
    transport.send_request(
        "" if transport.name == "websocket" else "1", "server/info", {}, url="info", response_key="info"
    )
    transport.handler.event.wait(30)
    answer = transport.handler.seen[1]
    same([answer["action"], answer["status"], answer["info"]["apiVersion"]], ["server/info", "success", "3.5.0"])
    transport.disconnect()
    transport.join(30)
    same([transport.is_alive(), transport.exception_info], [False, None])
    same(transport.handler.seen[2:], ["disconnected"])


def _pushed(world, token):
    """What is pushed names the subscription it belongs to."""
    kind, device = type(world.api.transport), world.devices[2, 1]
    transport = kind(JsonDataFormat, {}, Silent, {})
    transport.connect(world.url, **TRANSPORT_PAUSES[transport.name])
    until(lambda: transport.handler.seen == ["connected"])
    if transport.name == "websocket":
        transport.request("1", "authenticate", {"token": token})
    polls = AuthSubscriptionApiRequest(world.api)
    polls.action("notification/insert")
    polls.url("device/notification/poll")
    for key, value in (("deviceId", device.id), ("names", "pushed"), ("timestamp", world.api.server_timestamp)):
        polls.param(key, value)
    polls.response_key("notification")
    request = {"deviceId": device.id, "names": ["pushed"], "timestamp": world.api.server_timestamp}
    answer = transport.request("2", "notification/subscribe", request, **_over_http(transport, polls))
    sent = device.send_notification("pushed", {"n": 1})
    transport.handler.event.wait(30)
    event = ApiEvent(transport.handler.seen[1])
    same([event.action, event.subscription_id], ["notification/insert", answer["subscriptionId"]])
    whole = ["id", "notification", "deviceId", "networkId", "deviceTypeId", "timestamp", "parameters"]
    same([list(event.event), list(event.event["notification"])], [["notification"], whole])
    same(event.event["notification"]["id"], sent.id)
    transport.disconnect()
    transport.join(30)


def _over_http(transport, polls):
    return {"subscription_request": polls.extract("subscription", "3")} if transport.name == "http" else {}


def _abstract(world):
    """What the library leaves to others refuses to work."""
    bare = Transport("x", TransportError, JsonDataFormat, {}, TransportHandler, {})
    for call in (bare.send_request, bare.request):
        raises(NotImplementedError, "", call, "1", "action", {})
    handler = TransportHandler(bare)
    for call, arguments in (
        (handler.handle_connect, ()),
        (handler.handle_event, ({},)),
        (handler.handle_disconnect, ()),
    ):
        raises(NotImplementedError, "", call, *arguments)
    data = DataFormat("json", DataFormat.TEXT_DATA_TYPE)
    same([data.name, data.data_type, data.text_data_type, data.binary_data_type], ["json", "text", True, False])
    for call in (data.encode, data.decode):
        raises(NotImplementedError, "", call, "{}")
