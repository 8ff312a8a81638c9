"""Every caller at every operation of REST and WebSocket, aimed at what is his, a foreigner's, and not there at all.

The cells come from the product's own tables of routes and actions, the judgement from `rights/oracle.py`, which knows
nothing of Skep. With the full engines, whose rights are the same code, a share is asked.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from tests.system.rights import callers, changes, matrix, oracle
from tests.system.rights import world as worlds
from tests.system.rights.matrix import Judged, Place
from tests.system.rights.operations import AIMS, OPERATION
from tests.system.rights.wire import Http, Socket
from tests.system.rights.world import World

pytestmark = pytest.mark.system
CELLS = 3_000
SHARE = 7
"""On the full engines every how many-th cell is asked; prime to the number of targets."""


def every(suite: Any) -> int:
    return SHARE if suite.engines == "full" else 1


def place(suite: Any) -> Place:
    return Place(suite.rest, suite.auth, suite.plugin_manager, suite.ws)


@pytest.fixture
def db(suite: Any) -> Iterator[psycopg.Connection[Any]]:
    with worlds.connect(suite) as connection:
        yield connection


@pytest.fixture
async def world(suite: Any, db: psycopg.Connection[Any]) -> AsyncIterator[World]:
    [made] = worlds.build(db, 1, suite.sign)
    await matrix.stock(place(suite), made)
    yield made
    worlds.erase(db, [made])


def complaints(judged: list[Judged]) -> str:
    wrong = [j for j in judged if j.complaint]
    kinds = Counter(f"{j.cell.entry} {j.cell.operation}" for j in wrong)
    return "\n".join(
        [f"{len(wrong)} of {len(judged)} wrong: {kinds}", *(f"{j.cell}: {j.complaint}" for j in wrong[:20])]
    )


def test_every_operation_is_in_the_matrix():
    """And the matrix has none that is not there any more."""
    there = list(matrix.entries())
    assert {operation for _, operation, _ in there} == set(AIMS) == set(oracle.RULES)
    assert {route for _, _, route in there if route} == set(OPERATION)


async def test_every_route_is_one_that_is_served(suite):
    """As the services' own documents tell it."""
    for entry, names in matrix.routes().items():
        async with Http(getattr(place(suite), entry)) as http:
            document = json.loads((await http.ask("GET", "/openapi.json")).body)
        served = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
        assert {name for name in served if name.split()[0] in ("GET", "POST", "PUT", "DELETE")} == set(names), entry


async def test_refusals_and_reads(suite, db, world):
    """What changes nothing shares a world, and leaves it as it was."""
    asked = [cell for cell in matrix.cells(world) if not matrix.spoils(cell)][:: every(suite)]
    before = changes.rows(db)
    judged = await matrix.ask(place(suite), asked)
    assert len(judged) == len(asked) > CELLS / every(suite)
    assert not [j for j in judged if j.complaint], complaints(judged)
    assert matrix.told_apart(judged) == []
    assert changes.rows(db) == before


async def test_other_ways_to_ask_the_same(suite, world):
    """A POST that says it is something else, and a HEAD, need what the method needs that they stand for."""
    names = ("client", "root for a network", "anonymous", "plugin of nobody")
    asked = [cell for cell in matrix.cells(world, names) if cell.entry == "frontend" and not matrix.spoils(cell)]
    async with Http(suite.rest) as http:
        for cell in asked[:: every(suite)]:
            if cell.method in ("PUT", "DELETE"):
                answer = await matrix.ask_rest(http, cell, "POST", **{"X-HTTP-Method-Override": cell.method})
                assert matrix.judge(cell, answer) == "", str(cell)
            elif cell.method == "GET":
                answer = await matrix.ask_rest(http, cell, "HEAD")
                assert answer.status in (matrix.expected(cell)[0], 204), str(cell)


async def test_allowed_changes(suite, db, world):
    """Each in a world of its own, of which nothing else changes."""
    asked = [cell for cell in matrix.cells(world) if matrix.spoils(cell)][:: every(suite)]
    own = worlds.build(db, len(asked), suite.sign)
    try:
        before = changes.rows(db)
        moved = [matrix.moved(cell, to) for cell, to in zip(asked, own, strict=True)]
        # A registration makes a stream and waits for every backend: not many of them at a time.
        judged = await matrix.ask(place(suite), [cell for cell in moved if not cell.operation.startswith("plugin/")])
        judged += await matrix.ask(place(suite), [cell for cell in moved if cell.operation.startswith("plugin/")], 1)
        assert not [j for j in judged if j.complaint], complaints(judged)
        assert changes.unasked(moved, changes.rows(db) ^ before) == []
    finally:
        await matrix.unregister(place(suite), suite.token(), own)
        worlds.erase(db, own)


async def test_pushes(suite, world):
    """Replayed and live, each subscriber gets what he sees of the devices, and a witness says when all is out."""
    names = {"old": f"{world.mark}stored", "new": f"{world.mark}live"}
    sockets = {name: await Socket.open(suite.ws) for name in callers.CALLERS if name not in callers.NO_USERS}
    try:
        expected = {}
        for name, socket in sockets.items():
            caller = callers.made(name, world)
            assert (await socket.ask({"action": "authenticate", "token": caller.token})).status == 200
            wanted = {"action": "notification/subscribe", "names": list(names.values()), "timestamp": 1}
            answer = await socket.ask(wanted)
            target = matrix.aimed("notification/subscribe", "", caller, world)
            assert answer.status == oracle.expect("notification/subscribe", caller, target, world)[0], name
            expected[name] = oracle.expect("notification/poll", caller, target, world)[2]
        assert any(expected.values())
        talking = {device.id for device in world.devices.values() if not device.blocked}
        async with Http(suite.rest) as http:
            for device in talking:
                body = json.dumps({"notification": names["new"]}).encode()
                made = await http.ask("POST", f"/device/{device}/notification", body, callers.made("root", world).token)
                assert made.status == 201
        async with asyncio.timeout(10):
            while len(sockets["root"].pushed) < len(world.devices) + len(talking):
                await sockets["root"].ask({"action": "server/info"})
        for name, socket in sockets.items():
            assert (await socket.ask({"action": "server/info"})).status == 200  # behind what was pushed
            pushed = [json.loads(text)["notification"] for text in socket.pushed]
            got = {key: sorted(p["deviceId"] for p in pushed if p["notification"] == names[key]) for key in names}
            assert got == {"old": sorted(expected[name]), "new": sorted(expected[name] & talking)}, name
    finally:
        for socket in sockets.values():
            await socket.close()
