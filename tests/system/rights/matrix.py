"""Asks all cells, judges all answers."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import auth.api.plugins
import auth.api.rest
import frontend.api.rest
import skep.web.plugins
from frontend.core.actions import table
from skep import web
from tests.system.rights import callers, oracle
from tests.system.rights.callers import CALLERS, Caller
from tests.system.rights.cells import Cell, Target, targets
from tests.system.rights.operations import OPERATION, changes
from tests.system.rights.wire import Answer, Http, Socket
from tests.system.rights.world import World

CONNECTIONS = 8
AT_A_TIME = 60
"""Requests of one socket; fewer than what an anonymous one may send in a second."""
OWN = ["GET /health", "GET /metrics", "GET /openapi.json"]
"""What every server answers by itself."""
BODILESS = ("configuration/get", "token/refresh")
"""Their refusals have no body over REST."""


class Place(NamedTuple):
    """Where the entries are."""

    frontend: str
    auth: str
    plugin_manager: str
    websocket: str


class Judged(NamedTuple):
    cell: Cell
    answer: Answer
    complaint: str


def routes() -> dict[str, list[str]]:
    """The names of all routes of each service."""
    of_services = {
        "frontend": frontend.api.rest.routes,
        "auth": [*web.collect(auth.api.rest, auth.api.plugins), web.info_route("")],
        "plugin_manager": [*web.collect(skep.web.plugins), web.info_route("")],
    }
    return {entry: [route.name for route in found] + OWN for entry, found in of_services.items()}


def entries() -> Iterator[tuple[str, str, str]]:
    """(entry, operation, route) of all that the product has. Raises KeyError for a route that is not known here."""
    for entry, names in routes().items():
        for name in names:
            yield entry, OPERATION[name], name
    for name in table.names():
        yield "websocket", name, ""


def cells(world: World, names: Iterable[str] = CALLERS) -> Iterator[Cell]:
    """All of a world. Raises KeyError for an operation without an aim."""
    asked = list(entries())
    for name in names:
        caller = callers.made(name, world)
        for entry, operation, route in asked:
            for target in targets(operation, caller, world):
                yield Cell(entry, operation, route, caller, target, world)


def moved(cell: Cell, world: World) -> Cell:
    """The same question in another world."""
    caller = callers.made(cell.caller.name, world)
    target = aimed(cell.operation, cell.target.label, caller, world)
    return Cell(cell.entry, cell.operation, cell.route, caller, target, world)


def aimed(operation: str, label: str, caller: Caller, world: World) -> Target:
    return next(target for target in targets(operation, caller, world) if target.label == label)


def spoils(cell: Cell) -> bool:
    """Whether it is allowed to change its world."""
    return changes(cell.operation) and expected(cell)[0] == 200


def expected(cell: Cell) -> tuple[int, str, frozenset[str]]:
    return oracle.expect(cell.operation, cell.caller, cell.target, cell.world)


async def stock(place: Place, world: World) -> None:
    """A notification and an updated command on each device."""
    token = callers.made("root", world).token
    async with Http(place.frontend) as http:

        async def made(method: str, path: str, **body: object) -> int:
            answer = await http.ask(method, path, json.dumps(body).encode(), token)
            assert answer.status in (201, 204), answer
            return int(json.loads(answer.body)["id"]) if answer.body else 0

        name = f"{world.mark}stored"
        for device, there in world.devices.items():
            at = f"/device/{device}"
            if there.blocked:
                await made("PUT", at, isBlocked=False, networkId=there.network)
            world.messages["notification", device] = await made("POST", f"{at}/notification", notification=name)
            world.messages["command", device] = id = await made("POST", f"{at}/command", command=name)
            await made("PUT", f"{at}/command/{id}", status="done")
            if there.blocked:
                await made("PUT", at, isBlocked=True, networkId=there.network)


async def unregister(place: Place, token: str, worlds: list[World]) -> None:
    """Through the API, so that their streams go too. token: an administrator's."""
    run = worlds[0].mark.partition("w")[0]
    async with Http(place.plugin_manager) as http:
        answer = await http.ask("GET", f"/plugin?namePattern={run}w%25-new", None, token)
        for plugin in json.loads(answer.body):
            gone = await http.ask("DELETE", f"/plugin?topicName={plugin['topicName']}", None, token)
            assert gone.status == 204, gone


async def ask(place: Place, asked: list[Cell], connections: int = CONNECTIONS) -> list[Judged]:
    """All of them, many at a time; those that read messages first, before these expire. connections: to each entry."""
    by_entry: dict[str, asyncio.Queue[Cell]] = defaultdict(asyncio.Queue)
    by_token: dict[str, list[Cell]] = defaultdict(list)
    for cell in sorted(asked, key=lambda cell: not cell.operation.startswith(("notification/", "command/"))):
        if cell.route:
            by_entry[cell.entry].put_nowait(cell)
        else:
            by_token[cell.caller.token].append(cell)
    sockets = asyncio.Queue[list[Cell]]()
    for of_one in by_token.values():
        # What shows the subscriptions comes before those that are made.
        of_one.sort(key=lambda cell: cell.operation.endswith("/subscribe"))
        for start in range(0, len(of_one), AT_A_TIME):
            sockets.put_nowait(of_one[start : start + AT_A_TIME])
    judged: list[Judged] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            for entry, waiting in by_entry.items():
                group.create_task(_ask_rest(getattr(place, entry), waiting, judged))
            group.create_task(_ask_sockets(place, sockets, judged))
    return judged


async def _ask_rest(base: str, waiting: asyncio.Queue[Cell], judged: list[Judged]) -> None:
    async with Http(base) as http:
        while not waiting.empty():
            cell = waiting.get_nowait()
            answer = await ask_rest(http, cell)
            judged.append(Judged(cell, answer, judge(cell, answer)))


async def ask_rest(http: Http, cell: Cell, method: str = "", **headers: str) -> Answer:
    """method: another than the cell's."""
    return await http.ask(method or cell.method, cell.path, cell.body, cell.caller.token or None, **headers)


async def _ask_sockets(place: Place, waiting: asyncio.Queue[list[Cell]], judged: list[Judged]) -> None:
    while not waiting.empty():
        asked = waiting.get_nowait()
        socket = await Socket.open(place.websocket)
        try:
            if asked[0].caller.token:
                await socket.ask({"action": "authenticate", "token": asked[0].caller.token})
            answers = await asyncio.gather(*(socket.ask(cell.message) for cell in asked))
        finally:
            await socket.close()
        judged += [Judged(cell, a, judge(cell, a)) for cell, a in zip(asked, answers, strict=True)]


def judge(cell: Cell, answer: Answer) -> str:
    """What is wrong with the answer, "" if nothing is."""
    status, text, shown = expected(cell)
    if not cell.route:
        status, text = _over_socket(cell, status, text)
    got = 200 if 200 <= answer.status < 300 else answer.status
    if got != status:
        return f"{answer.status} {answer.body[:120]}, not {status} {text}"
    if status != 200:
        bodiless = cell.operation in BODILESS and not answer.body
        return "" if answer.text == text or bodiless else f"{answer.text!r}, not {text!r}"
    if "count" in cell.operation:
        count = json.loads(answer.body)["count"]
        fits = count == len(shown) or (cell.target.label == "unfiltered" and count >= len(shown))
        return "" if fits else f"counts {count}, not {len(shown)}"
    seen = cell.world.names_in(answer.body)
    if cell.target.label == "unfiltered" and seen < shown:  # a list ends somewhere, and others make entities too
        seen = shown
    if seen != shown:
        return f"shows {sorted(seen)}, not {sorted(shown)}"
    return _widened(cell, answer) if cell.operation == "token/create" else ""


def _over_socket(cell: Cell, status: int, text: str) -> tuple[int, str]:
    """A token that is no good leaves the socket anonymous; `authenticate` says why."""
    bad = oracle.expect("authenticate", cell.caller, cell.target, cell.world)
    if bad[0] != 401 or cell.caller.claims is None:
        return status, text
    if cell.operation == "authenticate":
        return 401, bad[1] if bad[1] == "Token expired" else "Invalid credentials"
    anonymous = SimpleNamespace(claims=None, user=None)
    return oracle.expect(cell.operation, anonymous, cell.target, cell.world)[:2]


def _widened(cell: Cell, answer: Answer) -> str:
    """What the tokens allow that the caller is not allowed."""
    own = _rights(cell, cell.caller.claims)
    for token in json.loads(answer.body).values():
        if not isinstance(token, str) or token.count(".") != 2:
            continue
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["payload"]
        new = _rights(cell, claims)
        if claims["u"] != cell.target.user or not new.actions <= own.actions:
            return f"gives {claims}"
        for given, held in ((new.networks, own.networks), (new.types, own.types)):
            if held is not None and (given is None or not given <= held):
                return f"gives {claims}"
    return ""


def _rights(cell: Cell, claims: Any) -> Any:
    user = cell.world.users[claims["u"]]
    return oracle.Who(SimpleNamespace(claims=claims, user=user), set(), cell.target, cell.world)


def told_apart(judged: list[Judged]) -> list[str]:
    """Refusals that tell a caller who does not see everything whether something of others is there."""
    by_question = {
        (j.cell.entry, j.cell.route or j.cell.operation, j.cell.caller.name, j.cell.target.label): j for j in judged
    }
    found = []
    for (entry, name, who, label), asked in by_question.items():
        for word in ("foreign", "alien", "another"):
            missing = by_question.get((entry, name, who, re.sub(rf"\b{word}\b", "missing", label)))
            if (
                word not in label
                or missing is None
                or asked.answer.status < 400
                or not _is_limited(asked.cell, label, word)
            ):
                continue
            if _plain(asked) != _plain(missing):
                found.append(f"{asked.cell}: {_plain(asked)}, but of a missing one {_plain(missing)}")
    return found


def _is_limited(cell: Cell, label: str, word: str) -> bool:
    who: Any = oracle.Who(cell.caller, set(), cell.target, cell.world)
    if cell.caller.claims is None or cell.caller.user is None:
        return True
    if word == "another" or "plugin" in label:
        return not who.is_admin
    if "device" in label:
        return who.networks is not None or who.types is not None
    return (who.networks if "network" in label else who.types) is not None


def _plain(judged: Judged) -> tuple[int, str]:
    """The answer without what the caller named."""
    text, target = judged.answer.text, judged.cell.target
    for id in (target.device, target.network, target.type, target.user, target.name, target.plugin):
        text = text.replace(str(id), "ID")
    return judged.answer.status, text
