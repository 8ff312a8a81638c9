"""Mass assignment (threat 16): what a client may not write stays as it is, whatever a body says.

The properties come from the routes: those of a PUT's body, of what a GET of the same path shows, and the columns of the
entity's table. Each is sent by itself, over REST and over WebSocket, and all metadata is compared.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import msgspec
import psycopg
import pytest

import frontend.api.rest
from skep.metadata import tables
from skep.web import Route
from tests.system.rights import callers, changes, matrix
from tests.system.rights import world as worlds
from tests.system.rights.callers import Caller
from tests.system.rights.cells import Cell
from tests.system.rights.operations import OPERATION
from tests.system.rights.wire import Answer, Http, Socket
from tests.system.rights.world import World

pytestmark = pytest.mark.system
TABLE = {
    "device": tables.devices,
    "network": tables.networks,
    "devicetype": tables.device_types,
    "user": tables.users,
    "configuration": tables.configuration,
}
WRITABLE = {
    "device/save": {"name", "data", "networkId", "deviceTypeId", "isBlocked"},
    "network/update": {"name", "description"},
    "devicetype/update": {"name", "description"},
    "user/update": {"password", "data", "introReviewed"},
    "user/updateCurrent": {"password", "data", "introReviewed"},
    "command/update": {"status", "result"},
    "configuration/put": {"value"},
}
"""By role 1, with every action in its token (reference 3.1 to 3.8)."""
NEEDED = {"configuration/put": {"value": "written"}}
BIG = 7_000_000_001
VALUES: list[Any] = [0, False, True, 1, BIG, "2020-01-01T00:00:00.000", {"mass": "assigned"}]
AIM = {"device": "device own", "network": "network own", "devicetype": "type own", "command": "device own"}
AIM |= {"user": "user self", "configuration": "name present"}


class Entity(NamedTuple):
    """operation: that writes. reads: the GET route's name."""

    operation: str
    route: str
    reads: str
    properties: list[str]


def entities() -> Iterator[Entity]:
    routes = {route.name: route for route in frontend.api.rest.routes}
    for name, route in routes.items():
        reads = routes.get(name.replace("PUT", "GET"))
        if route.method == "PUT" and route.body is not None and reads is not None:
            yield Entity(OPERATION[name], name, reads.name, sorted(_properties(route, reads)))


def _properties(route: Route, reads: Route) -> set[str]:
    assert route.body is not None
    kinds: list[Any] = [route.body.kind, reads.result]
    found = {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}
    table = TABLE.get(OPERATION[route.name].partition("/")[0])
    for column in table.columns if table is not None else ():
        head, *rest = column.name.split("_")
        found.add(head + "".join(map(str.title, rest)))
    return found | {"id", "userId", "role", "isAdmin"}


@pytest.fixture
def db(suite: Any) -> Iterator[psycopg.Connection[Any]]:
    with worlds.connect(suite) as connection:
        yield connection


@pytest.fixture
async def world(suite: Any, db: psycopg.Connection[Any]) -> AsyncIterator[World]:
    [made] = worlds.build(db, 1, suite.sign)
    await matrix.stock(matrix.Place(suite.rest, suite.auth, suite.plugin_manager, suite.ws), made)
    yield made
    worlds.erase(db, [made])


@pytest.fixture
async def manager(suite: Any, world: World) -> AsyncIterator[tuple[Caller, Http, Socket]]:
    """A client whose token has every action, on both transports."""
    caller, socket = callers.made("manager", world), await Socket.open(suite.ws)
    assert (await socket.ask({"action": "authenticate", "token": caller.token})).status == 200
    async with Http(suite.rest) as http:
        yield caller, http, socket
    await socket.close()


def test_every_entity_is_looked_at():
    found = {entity.operation: entity.properties for entity in entities()}
    assert found.keys() == WRITABLE.keys()
    assert all(WRITABLE[operation] - {"password"} <= set(names) for operation, names in found.items())
    assert {"role", "status", "login", "allDeviceTypesAvailable", "loginAttempts", "passwordHash"} <= set(
        found["user/updateCurrent"]
    )


@pytest.mark.parametrize("suite", ["light"], indirect=True)
@pytest.mark.parametrize("entity", list(entities()), ids=lambda entity: entity.operation)
async def test_what_a_client_may_not_write_stays(db, world, manager, entity):
    caller, http, socket = manager
    # -- one that may be written is written, so that the comparison compares
    written = next(iter(sorted(WRITABLE[entity.operation] - {"password", "networkId", "deviceTypeId", "isBlocked"})))
    cell = aimed(caller, world, entity.operation, entity.route)
    value = {"introReviewed": True, "data": {"a": 1}, "result": {"a": 1}}.get(written, "written")
    assert (await over_rest(http, cell, {written: value})).status < 300
    reads = aimed(caller, world, OPERATION[entity.reads], entity.reads)
    before, stored = await shown(http, reads), metadata(db)
    assert value in before.values()
    # -- and the rest is not
    for name in entity.properties:
        if name in WRITABLE[entity.operation]:
            continue
        for value in VALUES:  # the last that fits a column is none it has already
            body = NEEDED.get(entity.operation, {}) | {name: value}
            for answer in await asyncio.gather(over_rest(http, cell, body), over_socket(socket, cell, body)):
                assert answer.status in (200, 204, 400, 403), (body, answer)
            assert await shown(http, reads) == before, body
        assert metadata(db) == stored, name


def aimed(caller: Caller, world: World, operation: str, route: str) -> Cell:
    label = "" if "Current" in operation else AIM[operation.partition("/")[0]]
    return Cell("frontend", operation, route, caller, matrix.aimed(operation, label, caller, world), world)


async def over_rest(http: Http, cell: Cell, body: dict[str, Any]) -> Answer:
    return await http.ask(cell.method, cell.path, json.dumps(body).encode(), cell.caller.token)


async def over_socket(socket: Socket, cell: Cell, body: dict[str, Any]) -> Answer:
    noun = cell.operation.partition("/")[0]
    entity = {"devicetype": "deviceType"}.get(noun, noun)
    sent = {key: value for key, value in cell.message.items() if key not in (entity, "value")}
    return await socket.ask(body | sent if noun == "configuration" else sent | {entity: body})


async def shown(http: Http, cell: Cell) -> dict[str, Any]:
    """The entity as the API shows it, without what every update changes."""
    answer = await http.ask(cell.method, cell.path, None, cell.caller.token)
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(answer.body)
    for name in ("lastUpdated", "entityVersion"):
        assert found.pop(name, None) != BIG
    return found


def metadata(db: psycopg.Connection[Any]) -> set[changes.Row]:
    return {row for row in changes.rows(db) if row[0] != "configuration"}
