"""The API of plugins: codes and texts of REST, by plugin_manager and by the frontend, of WebSocket, and of tokens."""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.plugin_owner import Owner, path
from tests.system.suite import Suite
from tests.system.test_entities import DENIED, Api, refusal
from tests.system.traffic import Refused, Session

pytestmark = pytest.mark.system
NO_PLUGIN = refusal(403, "No access to plugin")


@pytest.fixture(params=["plugin_manager", "frontend"])
def both(suite: Suite, request: pytest.FixtureRequest) -> Iterator[Owner]:
    made = Owner(suite, suite.plugin_manager if request.param == "plugin_manager" else suite.rest)
    yield made
    made.erase()


@pytest.fixture
def owner(suite: Suite) -> Iterator[Owner]:
    made = Owner(suite, suite.plugin_manager)
    yield made
    made.erase()


# -- REST: codes and texts


def test_a_plugin_from_registration_to_deletion(both: Owner):
    network = both.networks[0]
    body = {"name": "my.plugin@1", "description": "does it", "parameters": {"deep": [1, {"a": None}]}}
    query = {"networkIds": f"{network},", "names": "heat,light", "returnNotifications": "TRUE"}
    status, made = both.api("POST", path(**query), body)
    assert status == 201
    assert set(made) == {"accessToken", "refreshToken", "proxyEndpoint", "topicName"}
    assert made["proxyEndpoint"] == both.suite.plugins
    assert made["topicName"].startswith("plugin_topic_")
    [shown] = both.api("GET", path(topicName=made["topicName"]))[1]
    assert shown.pop("id") > 0
    assert shown == {
        "name": "my.plugin@1", "description": "does it", "topicName": made["topicName"],
        "filter": f"notification/{network}/*/*/heat,light", "status": "CREATED", "subscriptionId": None,
        "userId": both.id, "parameters": {"deep": [1, {"a": None}]}, "retention": 3600, "enabled": True,
        "lag": 0, "positions": [], "lastContact": None, "sockets": [],
    }  # fmt: skip
    change = path(
        topicName=made["topicName"], status="active", name="renamed", description="more", parameters='{"b":1}',
        deviceTypeIds="1", returnCommands="true", returnUpdatedCommands="true", retention=120,
    )  # fmt: skip
    assert both.api("PUT", change) == (204, None)
    [shown] = both.api("GET", path(topicName=made["topicName"]))[1]
    names = ("name", "description", "filter", "status", "parameters", "retention")
    assert [shown[name] for name in names] == [
        "renamed", "more", "command,command_update/*/1/*/*", "ACTIVE", {"b": 1}, 120,
    ]  # fmt: skip
    assert shown["subscriptionId"] is not None
    assert both.api("PUT", path(topicName=made["topicName"], status="INACTIVE")) == (204, None)
    [shown] = both.api("GET", path(topicName=made["topicName"]))[1]
    assert (shown["status"], shown["enabled"], shown["subscriptionId"]) == ("INACTIVE", False, None)
    assert both.api("DELETE", path(topicName=made["topicName"])) == (204, None)
    assert both.api("GET", path(topicName=made["topicName"])) == (200, [])
    assert both.api("DELETE", path(topicName=made["topicName"])) == NO_PLUGIN


def test_registrations_that_are_refused(both: Owner):
    own, foreign = both.networks[0], both.foreign
    bad_name = refusal(400, "Field name should be from 3 to 128 letters, digits or symbols @ . _ -")
    for name in (None, "ab", "x" * 129, "a b", "a/b", "ümlaut", "x\n"):
        assert both.api("POST", "plugin", {"name": name}) == bad_name, name
    assert both.api("POST", "plugin", {"name": "abc", "description": "x"})[0] == 400
    assert both.api("POST", "plugin", {"name": "abc", "parameters": [1]}) == refusal(
        400, "'parameters' must be JSON Object!"
    )
    assert both.api("POST", "plugin", {"name": "abc", "parameters": {"a": "x" * 4096}}) == refusal(
        400, "Field parameters can not be longer than 4096 bytes"
    )
    nothing = refusal(400, "Requested subscription is not valid. Please, set at least one 'return*' parameter to true.")
    three = {"returnCommands": "false", "returnUpdatedCommands": "false", "returnNotifications": "false"}
    assert both.api("POST", path(**three), {"name": "abc"}) == nothing
    assert both.api("POST", path(returnCommands="false"), {"name": "abc"}) == nothing
    for retention in (59, 604_801, -1):
        assert both.api("POST", path(retention=retention), {"name": "abc"})[0] == 400
    for query in ({"networkIds": foreign}, {"networkIds": 10**12}, {"deviceTypeIds": 10**12}, {"deviceId": "nobody"}):
        assert both.api("POST", path(**query), {"name": "abc"}) == DENIED, query
    theirs = both.device(foreign)
    assert both.api("POST", path(deviceId=theirs), {"name": "abc"}) == DENIED
    missing = refusal(404, "Networks with such networkIds wasn't found: {[1000000000000]}")
    assert both.everything("POST", path(networkIds=f"{own},{10**12}"), {"name": "abc"}) == missing
    assert both.everything("POST", path(deviceId="nobody"), {"name": "abc"})[0] == 404
    assert both.api("GET", path(userId=both.id)) == (200, [])


def test_who_may_do_what(both: Owner):
    made = both.register()
    topic = made["topicName"]
    other = Owner(both.suite, both.api.rest)
    try:
        for method, where in (("PUT", path(topicName=topic, name="stolen")), ("DELETE", path(topicName=topic))):
            assert other.api(method, where) == NO_PLUGIN
            assert other.api(method, path(topicName="missing")) == NO_PLUGIN
            assert both.everything(method, path(topicName="missing")) == refusal(404, "Plugin is not found")
            assert Api(both.api.rest, both.signed(a=[3, 4]))(method, where) == DENIED
        assert other.api("GET", path(userId=both.id)) == NO_PLUGIN
        assert other.api("GET", path("plugin/count", userId=both.id)) == NO_PLUGIN
        assert other.api("GET", "plugin") == (200, [])
        assert both.shown(made)["name"] == "of-the-test"
        assert both.everything("PUT", path(topicName=topic, name="by-admin")) == (204, None)
        assert both.shown(made)["name"] == "by-admin"
    finally:
        other.erase()
    for method in ("GET", "POST", "PUT", "DELETE"):
        request = urllib.request.Request(f"{both.api.rest}/plugin", method=method, data=b"{}")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        with refused.value as answer:
            assert (answer.code, answer.headers["X-Content-Type-Options"]) == (401, "nosniff")


def test_a_plugins_own_token_acts_on_its_plugin_alone(both: Owner):
    network = both.networks[0]
    made, other = both.register(networkIds=network), both.register()
    itself = Api(both.api.rest, made["accessToken"])
    assert itself("PUT", path(topicName=other["topicName"], name="renamed")) == (204, None)
    assert [both.shown(one)["name"] for one in (made, other)] == ["renamed", "of-the-test"]
    assert itself("POST", "plugin", {"name": "another"}) == DENIED
    assert len(itself("GET", "plugin")[1]) == 2
    assert itself("PUT", path(networkIds=both.networks[1], status="INACTIVE")) == DENIED
    assert itself("PUT", path(names="heat")) == (204, None)
    assert both.shown(made)["filter"] == f"*/{network}/*/*/heat"
    assert itself("PUT", path(status="INACTIVE")) == (204, None)
    assert itself("PUT", path(status="ACTIVE")) == DENIED
    for where in ("user/current", "network", "device", "info"):
        assert Api(both.suite.rest, made["accessToken"])("GET", where)[0] == 401
    assert itself("DELETE", "plugin") == (204, None)
    assert itself("GET", "plugin")[0] == 401


def test_lists(both: Owner):
    made = [both.register(name) for name in ("charlie", "alpha", "bravo", "alpha")]
    assert both.api("PUT", path(topicName=made[0]["topicName"], status="ACTIVE"))[0] == 204

    def names(**query: Any) -> list[str]:
        status, found = both.api("GET", path(**query))
        assert status == 200, found
        count = both.api("GET", path("plugin/count", **query))[1]["count"]
        assert "take" in query or count == len(found)
        return [plugin["name"] for plugin in found]

    assert names() == ["charlie", "alpha", "bravo", "alpha"]
    assert names(sortField="Name") == ["alpha", "alpha", "bravo", "charlie"]
    assert names(sortField="id", sortOrder="desc") == ["alpha", "bravo", "alpha", "charlie"]
    assert names(sortField="name", take=2, skip=1) == ["alpha", "bravo"]
    assert names(name="alpha") == ["alpha", "alpha"]
    assert names(namePattern="%a_h%") == []
    assert names(namePattern="%l_h%") == ["alpha", "alpha"] == names(name="alpha", namePattern="al%")
    assert names(status=0) == ["charlie"]
    assert names(status=2) == ["alpha", "bravo", "alpha"]
    assert names(status=9) == []
    assert names(userId=both.id, topicName=made[2]["topicName"]) == ["bravo"]
    assert both.api("GET", path(sortField="userId"))[0] == 400
    assert both.api("GET", path(take=-1))[0] == 400
    assert both.api("GET", path(status="x"))[0] == 404
    everybodys = both.everything("GET", path(userId=both.id, sortField="id"))[1]
    assert [plugin["topicName"] for plugin in everybodys] == [plugin["topicName"] for plugin in made]


def test_changes_that_are_refused(both: Owner):
    made = both.register()
    topic = made["topicName"]
    assert both.api("PUT", path(topicName=topic, status="ACTIVE")) == (204, None)
    active = refusal(400, "Plugin's subscription filter can't be updated if plugin is ACTIVE")
    for query in ({"names": "x"}, {"networkIds": both.networks[0]}, {"returnCommands": "true"}, {"deviceId": "d"}):
        assert both.api("PUT", path(topicName=topic, **query)) == active, query
        assert both.api("PUT", path(topicName=topic, status="ACTIVE", **query)) == active, query
    assert both.api("PUT", path(topicName=topic, name="fine")) == (204, None)
    for status in ("CREATED", "DISABLED", "0", ""):
        assert both.api("PUT", path(topicName=topic, status=status)) == refusal(
            400, "Plugin status can be set to ACTIVE or INACTIVE"
        )
    assert both.api("PUT", path(topicName=topic, status="INACTIVE", networkIds=both.foreign)) == DENIED
    three = {"returnCommands": "false", "returnUpdatedCommands": "false", "returnNotifications": "false"}
    assert both.api("PUT", path(topicName=topic, status="INACTIVE", **three))[0] == 400
    for query in ({"parameters": "[1]"}, {"parameters": "{"}, {"name": "a b"}, {"description": ""}, {"retention": 1}):
        assert both.api("PUT", path(topicName=topic, **query))[0] == 400, query
    assert both.api("PUT", "plugin") == NO_PLUGIN
    shown = both.shown(made)
    assert (shown["filter"], shown["status"], shown["name"]) == ("*/*/*/*/*", "ACTIVE", "fine")
    assert both.api("PUT", path(topicName=topic, status="INACTIVE", names="x")) == (204, None)
    assert both.api("PUT", path(topicName=topic, names="y")) == (204, None)
    assert both.shown(made)["filter"] == "*/*/*/*/y"


def test_a_narrowed_tokens_plugin_stays_narrow(owner: Owner):
    """And opens no other plugin's stream, though it may manage them."""
    [own, other] = owner.networks
    wide = owner.register()
    narrow = Api(owner.api.rest, owner.signed(n=[str(own)]))
    status, made = narrow("POST", "plugin", {"name": "narrow"})
    assert status == 201
    assert owner.shown(made)["filter"] == f"*/{own}/*/*/*"
    assert narrow("POST", path(networkIds=other), {"name": "narrow"}) == DENIED
    auth = Api(owner.suite.auth, narrow.token)
    assert auth("POST", "token/plugin/create", {"tpc": wide["topicName"]}) == DENIED
    assert auth("POST", "token/plugin/create", {"tpc": made["topicName"]})[0] == 201


# -- WebSocket


async def test_websocket(suite: Suite, owner: Owner):
    session = await Session.open(suite.ws, owner.api.token)
    made = await session.ask(
        {"action": "plugin/insert", "plugin": {"name": "by-ws", "parameters": {"a": 1}}, "networkIds": owner.networks,
         "names": ["x"], "returnNotifications": True}
    )  # fmt: skip
    topic = made["plugin"]["topicName"]
    assert set(made["plugin"]) == {"accessToken", "refreshToken", "proxyEndpoint", "topicName"}
    [listed] = (await session.ask({"action": "plugin/list", "topicName": topic}))["plugins"]
    assert listed["filter"] == "notification/{}/*/*/x".format(",".join(map(str, owner.networks)))
    assert (await session.ask({"action": "plugin/count", "status": 2}))["count"] == 1
    changes = {"status": "ACTIVE", "name": "renamed"}
    await session.ask({"action": "plugin/update", "topicName": topic, "plugin": changes})
    found = (await session.ask({"action": "plugin/get", "topicName": topic}))["plugin"]
    assert (found["name"], found["status"], found["parameters"]) == ("renamed", "ACTIVE", {"a": 1})
    for request, text in (
        ({"action": "plugin/insert"}, "Plugin is required"),
        ({"action": "plugin/update", "topicName": topic, "names": ["y"]}, "can't be updated"),
        ({"action": "plugin/get", "topicName": "missing"}, "Plugin is not found"),
        ({"action": "plugin/delete", "topicName": "missing"}, "No access to plugin"),
    ):
        with pytest.raises(Refused, match=text):
            await session.ask(request)
    await session.ask({"action": "plugin/delete", "topicName": topic})
    assert (await session.ask({"action": "plugin/list"}))["plugins"] == []
    await session.close()


# -- tokens


@pytest.mark.parametrize("through", ["auth", "rest"])
def test_tokens(suite: Suite, owner: Owner, through: str):
    made = owner.register()
    api = Api(getattr(suite, through), owner.api.token)

    def says(token: str) -> tuple[int, Any]:
        return api("GET", path("token/plugin/authenticate", token=token))

    status, claims = says(made["accessToken"])
    assert (status, set(claims)) == (200, {"a", "e", "t", "tpc"})
    assert (claims["a"], claims["t"], claims["tpc"]) == ([16], 1, made["topicName"])
    assert says("") == refusal(401, "Token is empty")
    assert says("x.y.z") == says(owner.api.token) == refusal(401, "Token is not valid")
    assert says(made["refreshToken"]) == refusal(401, "Invalid token type")
    signed = {"a": [16], "t": 1, "tpc": made["topicName"], "e": 1_000}
    assert says(suite.sign(signed)) == refusal(401, "Token has expired")
    unknown = suite.sign({**signed, "e": 2**52, "tpc": "plugin_topic_x"})
    assert says(unknown) == refusal(401, "Plugin is not found")

    create = "token/plugin/create"
    expires = int(time.time() + 3_000) * 1000
    status, pair = api("POST", create, {"tpc": made["topicName"], "e": expires, "a": [16], "t": 0})
    assert (status, set(pair)) == (201, {"accessToken", "refreshToken"})
    assert payload(pair["accessToken"]) == {"a": [16], "e": expires, "t": 1, "tpc": made["topicName"]}
    assert payload(pair["refreshToken"]) == {"a": [16], "e": expires, "t": 0, "tpc": made["topicName"]}
    assert api("POST", create, {"tpc": made["topicName"], "e": expires + 10**12}) == DENIED
    narrow = Api(api.rest, owner.signed(a=[16, 3]))
    assert payload(narrow("POST", create, {"tpc": made["topicName"], "a": [0]})[1]["accessToken"])["a"] == [3, 16]
    assert narrow("POST", create, {"tpc": made["topicName"], "a": [12]}) == DENIED
    assert Api(api.rest, owner.signed(a=[3]))("POST", create, {"tpc": made["topicName"]}) == DENIED
    no_topic = refusal(403, "No permisions or invalid topic name")
    admin = Api(api.rest, suite.token())
    for topic in ("*", "missing", "", None):
        assert api("POST", create, {"tpc": topic}) == no_topic == admin("POST", create, {"tpc": topic})
    assert admin("POST", create, {"tpc": made["topicName"]}) == refusal(
        403, f"User with id {owner.id} is not a plugin creator"
    )
    assert Api(api.rest, made["accessToken"])("POST", create, {"tpc": made["topicName"]})[0] == 401

    status, fresh = api("POST", "token/refresh", {"refreshToken": made["refreshToken"]})
    assert (status, says(fresh["accessToken"])[0]) == (201, 200)
    assert owner.api("PUT", path(topicName=made["topicName"], status="INACTIVE"))[0] == 204
    disabled = refusal(401, "Plugin is disabled")
    assert says(made["accessToken"]) == disabled == api("POST", "token/refresh", {"refreshToken": made["refreshToken"]})
    assert owner.api("DELETE", path(topicName=made["topicName"]))[0] == 204
    gone = refusal(401, "Plugin is not found")
    assert says(made["accessToken"]) == gone == api("POST", "token/refresh", {"refreshToken": made["refreshToken"]})


def payload(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))["payload"]
