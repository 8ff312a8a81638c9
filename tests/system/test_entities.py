"""Networks, device types, users, configuration, raw: codes, bodies, texts. With clients: test_client_coverage.py."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.system.suite import Suite
from tests.system.traffic import Refused, Session

pytestmark = pytest.mark.system
DENIED = (403, {"error": 403, "message": "Access is denied"})
PASSWORD = "of-the-test"
MISSING = 10**12

Ask = Callable[..., tuple[int, object]]


def refusal(code: int, message: str) -> tuple[int, dict[str, object]]:
    return code, {"error": code, "message": message}


class Api:
    """Raw REST with one token: api("GET", "network") -> (status, decoded body or None)."""

    def __init__(self, rest: str, token: str) -> None:
        self.rest, self.token = rest, token

    def __call__(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"{self.rest}/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read()
        return status, json.loads(text) if text else None

    def new(self, path: str, **body: object) -> int:
        """The id of a new network, device type or user."""
        status, made = self("POST", path, body)
        assert status == 201, made
        return made["id"]  # type: ignore[index]


class World:
    """A client, member of one of two networks; each network has a device."""

    def __init__(self, suite: Suite, admin: Api) -> None:
        self.admin, self.suite = admin, suite
        self.mark = uuid.uuid4().hex[:8]
        self.own, self.foreign = (admin.new("network", name=f"{self.mark} {n}") for n in ("own", "foreign"))
        self.user = admin.new("user", login=f"user-{self.mark}", password=PASSWORD, role=1)
        assert admin("PUT", f"user/{self.user}/network/{self.own}") == (204, None)
        for network, device in ((self.own, self.device("own")), (self.foreign, self.device("foreign"))):
            assert admin("PUT", f"device/{device}", {"name": device, "networkId": network})[0] == 204
        self.client = self.login()

    def device(self, name: str) -> str:
        return f"{name}-{self.mark}"

    def login(self) -> Api:
        status, pair = self.admin("POST", "token", {"login": f"user-{self.mark}", "password": PASSWORD})
        assert status == 201, pair
        return Api(self.suite.rest, pair["accessToken"])  # type: ignore[index]

    def signed(self, user: int, **claims: object) -> Api:
        """With a token as auth would sign it: everything, unless claims say otherwise."""
        payload = {"u": user, "a": [0], "n": ["*"], "dt": ["*"], "t": 1, "e": int(time.time() * 1000) + 600_000}
        return Api(self.suite.rest, self.suite.sign(payload | claims))

    def erase(self) -> None:
        for network in (self.own, self.foreign):
            self.admin("DELETE", f"network/{network}?force=true")
        self.admin("DELETE", f"user/{self.user}")


@pytest.fixture(scope="session")
def admin(suite: Suite) -> Api:
    return Api(suite.rest, suite.token())


@pytest.fixture
def world(suite: Suite, admin: Api) -> Iterator[World]:
    made = World(suite, admin)
    yield made
    made.erase()


@pytest.mark.parametrize(("path", "noun"), [("network", "Network"), ("devicetype", "Device type")])
def test_containers_raw(admin, world, path, noun):
    name = f"raw {world.mark}"
    status, made = admin("POST", path, {"name": name, "description": "d", "id": 7, "unknown": []})
    assert status == 201
    id = made["id"]
    assert made == {"id": id} != {"id": 7}
    whole = {"id": id, "name": name, "description": "d"}
    assert admin("GET", f"{path}/{id}") == (200, whole | {"devices": []})
    assert admin("GET", f"{path}?name={name.replace(' ', '%20')}") == (200, [whole])
    assert admin("GET", f"{path}/count?namePattern=raw%20{world.mark}%25") == (200, {"count": 1})
    taken = f"{noun} cannot be created. {noun} with such name already exists"
    assert admin("POST", path, {"name": name}) == refusal(403, taken)
    assert admin("PUT", f"{path}/{id}", {"description": None, "name": None}) == (204, None)
    assert admin("GET", f"{path}/{id}")[1] == whole | {"devices": []}
    for body in ({}, {"name": ""}, {"name": "x" * 129}, {"name": "x", "description": "x" * 129}, {"name": []}):
        assert admin("POST", path, body)[0] == 400, body
    for query in ("sortField=description", "sortOrder=up", "take=-1", "skip=-1", "namePattern=%5C"):
        assert admin("GET", f"{path}?{query}") == refusal(400, "Invalid request parameters"), query
    device = world.device("own")
    column = "networkId" if path == "network" else "deviceTypeId"
    assert admin("PUT", f"device/{device}", {column: id}) == (204, None)
    inside = {"id": device, "name": device, "data": None, "isBlocked": False}
    assert admin("GET", f"{path}/{id}")[1] == whole | {"devices": [inside]}
    status, refused = admin("DELETE", f"{path}/{id}")
    assert status == 400
    assert device in refused["message"]
    assert admin("DELETE", f"{path}/{id}?force=true") == (204, None)
    missing = refusal(404, f"{noun} with id = {id} not found")
    assert [admin(method, f"{path}/{id}", body) for method, body in (("GET", None), ("PUT", {}), ("DELETE", None))] == [
        missing
    ] * 3
    assert admin("GET", f"{path}/abc") == refusal(404, "HTTP 404 Not Found")
    assert admin("POST", f"{path}/{id}", {})[0] == 405


def test_a_client_and_foreign_networks(world):
    """The same answer for foreign and missing, and nothing of either in a list."""
    client, mine = world.client, {"id": world.own, "name": f"{world.mark} own", "description": None}
    assert client("GET", "network") == (200, [mine])
    assert client("GET", "network/count") == (200, {"count": 1})
    assert [d["id"] for d in client("GET", f"network/{world.own}")[1]["devices"]] == [world.device("own")]
    for id in (world.foreign, MISSING):
        assert client("GET", f"network/{id}") == DENIED
    every = world.signed(world.user)  # an administrator may give a client's token every action
    for id in (world.foreign, MISSING):
        for method, path, body in (
            ("GET", f"network/{id}", None),
            ("PUT", f"network/{id}", {"name": "stolen"}),
            ("DELETE", f"network/{id}?force=true", None),
            ("PUT", f"user/{world.user}/network/{id}", None),
            ("DELETE", f"user/{world.user}/network/{id}", None),
        ):
            assert client(method, path, body) == DENIED, (method, path)
            assert every(method, path, body) == DENIED, (method, path)
    assert every("PUT", f"device/{world.device('own')}", {"networkId": world.foreign})[0] == 403
    assert world.admin("GET", f"network/{world.foreign}")[1]["name"] == f"{world.mark} foreign"
    assert client("GET", f"user/{world.user}/network/{world.own}") == (200, {"network": mine})
    for other in (1, MISSING):
        answer = client("GET", f"user/{other}/network/{world.own}")
        assert answer == refusal(404, f"User with id = {other} not found")


def test_an_assignment_counts_at_once(world):
    client = world.signed(world.user, a=[2, 3])
    assert client("GET", f"network/{world.foreign}") == DENIED
    assert world.admin("PUT", f"user/{world.user}/network/{world.foreign}") == (204, None)
    assert client("GET", f"network/{world.foreign}")[0] == 200
    assert client("GET", f"device/{world.device('foreign')}")[0] == 200
    assert world.admin("DELETE", f"user/{world.user}/network/{world.foreign}") == (204, None)
    assert client("GET", f"network/{world.foreign}") == DENIED
    assert client("GET", f"device/{world.device('foreign')}") == DENIED
    assert world.admin("PUT", f"user/{world.user}", {"status": 2}) == (204, None)
    assert client("GET", "network") == refusal(401, "Unauthorized")


def test_a_narrowed_token_of_an_administrator(world):
    other_type = world.admin.new("devicetype", name=f"type {world.mark}")
    assert world.admin("PUT", f"device/{world.device('own')}", {"deviceTypeId": other_type})[0] == 204
    narrow = world.signed(1, n=[str(world.own)], dt=["1"])
    assert [n["id"] for n in narrow("GET", "network")[1]] == [world.own]
    assert narrow("GET", f"network/{world.own}")[1]["devices"] == []
    assert narrow("GET", f"network/{world.foreign}") == DENIED
    assert narrow("GET", f"devicetype/{other_type}") == DENIED
    assert narrow("DELETE", f"network/{world.own}?force=true") == DENIED  # it would take a device it can't see
    assert narrow("PUT", f"user/{world.user}/devicetype/all") == DENIED
    assert narrow("GET", f"user/{world.user}")[1]["networks"] == [
        {"id": world.own, "name": f"{world.mark} own", "description": None}
    ]
    assert world.admin("DELETE", f"devicetype/{other_type}?force=true") == (204, None)


def test_device_types_of_a_client(world):
    type_id = world.admin.new("devicetype", name=f"type {world.mark}")
    at = f"user/{world.user}/devicetype"
    all_types = "Cannot assign device type to user with all device types allowed"
    assert world.client("GET", f"devicetype/{MISSING}") == refusal(404, f"Device type with id = {MISSING} not found")
    assert world.admin("PUT", f"{at}/{type_id}") == refusal(403, all_types)
    assert world.admin("DELETE", f"{at}/all") == (204, None)
    assert world.client("GET", "devicetype") == (200, [])
    assert world.admin("PUT", f"{at}/{type_id}") == (204, None)
    found = {"id": type_id, "name": f"type {world.mark}", "description": None}
    assert world.client("GET", "devicetype") == (200, [found])
    assert world.admin("GET", at) == (200, [found])
    assert world.client("GET", f"{at}/{type_id}") == (200, {"deviceType": found})
    for id in (1, MISSING):
        assert world.client("GET", f"devicetype/{id}") == DENIED
    nothing = f"Device type with id 1 for user with id {world.user} not found"
    assert world.client("GET", f"{at}/1") == refusal(404, nothing)
    assert world.client("GET", at) == DENIED
    assert world.admin("DELETE", f"{at}/{type_id}") == (204, None)
    assert world.admin("PUT", f"{at}/all") == (204, None)
    assert world.admin("DELETE", f"devicetype/{type_id}") == (204, None)


def test_users_raw(admin, world):
    login = f"raw-{world.mark}"
    body = {"login": f" {login} ", "password": 1111111, "role": 1, "data": {"a": [1]}, "introReviewed": True}
    status, made = admin("POST", "user", body)
    id = made["id"]
    flags = {"data": {"a": [1]}, "introReviewed": True, "allDeviceTypesAvailable": True}
    assert (status, made) == (201, {"id": id, "lastLogin": None, **flags})
    whole = {"id": id, "login": login, "role": 1, "status": 0, "lastLogin": None, **flags}
    assert admin("GET", f"user/{id}") == (200, whole | {"networks": []})
    assert admin("GET", f"user?login=nobody&loginPattern={login[:-1]}_") == (200, [whole])
    assert admin("GET", f"user/count?login={login}&role=1&status=0") == (200, {"count": 1})
    assert admin("GET", f"user/count?login={login}&role=0") == (200, {"count": 0})
    taken = refusal(403, "User with such login already exists. Please, select another one")
    assert admin("POST", "user", body) == taken
    assert admin("PUT", f"user/{id}", {"login": f"user-{world.mark}"}) == taken
    size = "Field cannot be empty. The length of login should be from 3 to 128 symbols."
    for change, text in (
        ({"role": None}, "User role is invalid or empty"),
        ({"role": 2}, "User role is invalid or empty"),
        ({"login": "ab"}, size),
        ({"login": None}, size),
        ({"password": "12345"}, "Password can contain only from 6 to 128 symbols!"),
        ({"password": None}, "Password can contain only from 6 to 128 symbols!"),
        ({"status": 3}, "Invalid request parameters"),
        ({"role": "x"}, "Invalid request parameters"),
        ({"data": [1]}, "'parameters' must be JSON Object!"),
    ):
        assert admin("POST", "user", body | {"login": f"x{login}"} | change) == refusal(400, text), change
    assert admin("PUT", f"user/{id}", {"password": "", "allDeviceTypesAvailable": False, "id": 1}) == (204, None)
    status, pair = admin("POST", "token", {"login": login, "password": "1111111"})
    assert status == 201
    own = Api(admin.rest, pair["accessToken"])
    now = own("GET", "user/current")[1]
    assert now["lastLogin"] is not None
    assert now | {"lastLogin": None} == whole | {"networks": []}
    oneself = "You can not delete a user or access key that you use to authenticate this request"
    assert admin("DELETE", "user/1") == refusal(403, oneself)
    assert admin("DELETE", f"user/{id}") == (204, None)
    missing = refusal(404, f"User with id = {id} not found")
    for method, path, sent in (
        ("GET", f"user/{id}", None),
        ("PUT", f"user/{id}", {"status": 1}),
        ("DELETE", f"user/{id}", None),
        ("GET", f"user/{id}/network/1", None),
        ("PUT", f"user/{id}/network/1", None),
        ("DELETE", f"user/{id}/network/1", None),
        ("GET", f"user/{id}/devicetype", None),
        ("GET", f"user/{id}/devicetype/1", None),
        ("PUT", f"user/{id}/devicetype/1", None),
        ("PUT", f"user/{id}/devicetype/all", None),
        ("DELETE", f"user/{id}/devicetype/all", None),
    ):
        assert admin(method, path, sent) == missing, (method, path)
    assert own("GET", "user/current") == refusal(401, "Unauthorized")
    network = refusal(404, f"Network with id = {MISSING} not found")
    assert admin("PUT", f"user/{world.user}/network/{MISSING}") == network
    not_member = refusal(404, f"Network with id {world.foreign} for user with id {world.user} was not found")
    assert admin("GET", f"user/{world.user}/network/{world.foreign}") == not_member
    assert admin("DELETE", f"user/{world.user}/network/{world.foreign}") == (204, None)


def test_a_client_makes_no_more_of_itself(world):
    client, every = world.client, world.signed(world.user)
    before = world.admin("GET", f"user/{world.user}")[1]
    admins_only = refusal(403, "Admin permissions required for this action")
    for body in ({"role": 0}, {"status": 0}, {"login": "dhadmin2"}, {"role": 1, "data": None}):
        assert client("PUT", "user/current", body) == admins_only
        assert every("PUT", f"user/{world.user}", body) == admins_only
    sneaky = {"id": 1, "allDeviceTypesAvailable": False, "loginAttempts": 5, "lastLogin": 7, "networks": [{"id": 1}]}
    assert client("PUT", "user/current", sneaky) == (204, None)
    assert world.admin("GET", f"user/{world.user}")[1] == before
    assert client("PUT", "user/current", {"data": {"x": 1}, "password": "another-one"}) == (204, None)
    assert client("GET", "user/current")[1]["data"] == {"x": 1}
    for method, path in (("GET", "user"), ("GET", f"user/{world.user}"), ("DELETE", f"user/{world.user}")):
        assert client(method, path) == DENIED
    assert [u["id"] for u in every("GET", "user")[1]] == [world.user]
    for other in (1, MISSING):
        missing = refusal(404, f"User with id = {other} not found")
        assert every("GET", f"user/{other}") == missing
        assert every("PUT", f"user/{other}", {"password": "taken-over"}) == missing
        assert every("DELETE", f"user/{other}") == missing
        assert every("PUT", f"user/{other}/network/{world.own}") == missing
    new = {"login": f"more-{world.mark}", "password": PASSWORD, "role": 0}
    assert every("POST", "user", new) == admins_only


def test_configuration_raw(admin, world):
    name = f"of {world.mark}/%"
    path = f"configuration/of%20{world.mark}%2F%25"
    assert admin("GET", path) == (404, None)
    assert admin("PUT", path, {"value": 5}) == (200, {"name": name, "value": "5", "entityVersion": 0})
    assert admin("PUT", path, {"value": "6"}) == (200, {"name": name, "value": "6", "entityVersion": 1})
    assert admin("GET", path) == (200, {"name": name, "value": "6", "entityVersion": 1})
    for body in ({}, {"value": ""}, {"value": None}, {"value": "x" * 129}):
        assert admin("PUT", path, body) == refusal(400, "Invalid request parameters")
    assert admin("PUT", f"configuration/{'x' * 33}", {"value": "x"}) == refusal(400, "Invalid request parameters")
    assert admin("PUT", path)[0] == 400
    assert world.client("GET", path) == DENIED
    assert world.client("PUT", path, {}) == DENIED
    assert admin("DELETE", path) == (204, None)
    assert admin("DELETE", path) == refusal(404, f"Requested config with name = {name} not found in the database")
    assert admin("GET", "configuration/jwt.secret") == (404, None)
    assert admin("PUT", "configuration/jwt.secret", {"value": "x" * 40}) == DENIED


@pytest.mark.parametrize(
    "path", ["network", "devicetype", "user", "user/current", "configuration/x", "user/1/network/1"]
)
def test_without_a_token(suite, path):
    request = urllib.request.Request(f"{suite.rest}/{path}")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=15)
    with caught.value as error:
        assert (error.code, json.loads(error.read())) == refusal(401, "Unauthorized")


async def refused_within_5_s(session: Session, request: dict[str, object]) -> str:
    """The refusal, asked for until it comes: an open socket reads its user's rights again behind the change."""
    async with asyncio.timeout(5):
        while True:
            try:
                await session.ask(request)
            except Refused as refusal:
                return str(refusal)


async def test_an_open_socket_follows_its_user(suite, world):
    """Rights that are given and taken count for the next request; a deleted user's socket knows nobody."""
    token = world.signed(world.user, a=[2]).token
    ask = {"action": "network/get", "networkId": world.foreign}
    member = {"userId": world.user, "networkId": world.foreign}
    session, boss = await Session.open(suite.ws, token), await Session.open(suite.ws, suite.token())
    try:
        with pytest.raises(Refused, match="403 Access is denied"):
            await session.ask(ask)
        await boss.ask({"action": "user/assignNetwork", **member})
        assert (await session.ask(ask))["network"]["id"] == world.foreign
        await boss.ask({"action": "user/unassignNetwork", **member})
        assert await refused_within_5_s(session, ask) == "network/get: 403 Access is denied"
        await boss.ask({"action": "user/delete", "userId": world.user})
        assert await refused_within_5_s(session, {"action": "network/list"}) == "network/list: 401 Unauthorized"
    finally:
        await session.close()
        await boss.close()
