"""Lists of 100,000 devices over REST and WebSocket, end to end: median and 99th percentile of each form of a query.

    python -m benchmarks.devices [--devices 100000] [--rounds 50] [--target 50]

Starts a suite on PostgreSQL alone, fills it, asks one query after the other and writes the figures with machine and
commit to benchmarks/results/. Exits with 1 where a form has a median above the target (ms).
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import http.client
import json
import os
import statistics
import sys
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.run import RESULTS, commit, machine
from deploy import postgres
from tests.contract import fleet as fleets
from tests.system.suite import ROOT, Suite
from tests.system.traffic import Session, call

TAKE = 100
PASSWORD = "of-the-fleet-1"
Query = dict[str, object]


@dataclass
class Timed:
    caller: str
    form: str
    rest: list[float] = field(default_factory=list)
    websocket: list[float] = field(default_factory=list)


def forms(fleet: fleets.Fleet) -> dict[str, tuple[str, Query]]:
    """Path and query by what it is called."""
    page: Query = {"take": TAKE}
    made: dict[str, tuple[str, Query]] = {
        "a page": ("device", page),
        "skip=500": ("device", page | {"skip": 500}),
        "skip=50000": ("device", page | {"skip": 50_000}),
        "skip=50000, by name": ("device", page | {"skip": 50_000, "sortField": "name"}),
        "take=1000": ("device", {"take": 1000}),
    }
    for sort in ("name", "network", "deviceType", "status"):
        for order in ("ASC", "DESC"):
            made[f"by {sort} {order}"] = ("device", page | {"sortField": sort, "sortOrder": order})
    network = fleet.networks[6]
    filters: dict[str, Query] = {
        "name": {"name": "cellar-lamp-77"},
        "a pattern with a beginning": {"namePattern": "hall-meter-7%"},
        "a pattern with a beginning, by name": {"namePattern": "hall-m%", "sortField": "name"},
        "a pattern that many names have": {"namePattern": "%camera%"},
        "a pattern that few names have": {"namePattern": "%-7777%"},
        "a pattern that no name has": {"namePattern": "%nowhere%"},
        "networkId": {"networkId": network},
        "networkId, by name": {"networkId": network, "sortField": "name"},
        "the largest network, by name": {"networkId": fleet.networks[0], "sortField": "name"},
        "networkName": {"networkName": "networks of the fleet 7"},
        "networkId and a pattern": {"networkId": network, "namePattern": "%camera%"},
    }
    made |= {name: ("device", page | query) for name, query in filters.items()}
    made |= {
        "count": ("device/count", {}),
        "count of a network": ("device/count", {"networkId": network}),
        "count of a pattern": ("device/count", {"namePattern": "hall%"}),
        "networks": ("network", page),
        "networks by name": ("network", page | {"sortField": "name", "sortOrder": "DESC"}),
        "device types": ("devicetype", page),
    }
    return made


def users(fleet: fleets.Fleet) -> dict[str, tuple[str, Query]]:
    return {
        "users": ("user", {"take": TAKE}),
        "users by login": ("user", {"take": TAKE, "sortField": "login", "sortOrder": "DESC"}),
        "users of a pattern": ("user", {"take": TAKE, "loginPattern": "user-a%"}),
        "users of a status": ("user", {"take": TAKE, "status": 1}),
        "count of users": ("user/count", {}),
    }


def callers(suite: Suite, fleet: fleets.Fleet) -> dict[str, str]:
    """Access tokens."""
    scopes: dict[str, tuple[list[int], list[int] | None]] = {
        "client in 1 network": (fleet.networks[6:7], None),
        "client in 20 networks": (fleet.networks[::2][:20], None),
        "client in 20 networks with 3 device types": (fleet.networks[::2][:20], fleet.types[:3]),
    }
    made = {"administrator": suite.token()}
    for name, (networks, types) in scopes.items():
        login = name.replace(" ", "-")
        body = {"login": login, "password": PASSWORD, "role": 1, "allDeviceTypesAvailable": types is None}
        user = call("POST", f"{suite.rest}/user", body, suite.token())["id"]  # type: ignore[index]
        for network in networks:
            call("PUT", f"{suite.rest}/user/{user}/network/{network}", {}, suite.token())
        for device_type in types or []:
            call("PUT", f"{suite.rest}/user/{user}/devicetype/{device_type}", {}, suite.token())
        found = call("POST", f"{suite.rest}/token", {"login": login, "password": PASSWORD})
        made[name] = found["accessToken"]  # type: ignore[index]
    return made


class Rest:
    """One connection that stays open."""

    def __init__(self, suite: Suite, token: str) -> None:
        at = urllib.parse.urlsplit(suite.rest)
        self.connection, self.path = http.client.HTTPConnection(at.netloc, timeout=15), at.path
        self.headers = {"Authorization": f"Bearer {token}"}

    def ask(self, path: str, query: Query) -> None:
        self.connection.request("GET", f"{self.path}/{path}?{urllib.parse.urlencode(query)}", headers=self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} {query}: {answer.status} {text[:200]!r}")


async def timed(work: Callable[[], Awaitable[object]], rounds: int) -> list[float]:
    """ms of each round, after one that warms up."""
    took = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        await work()
        took.append((time.perf_counter() - began) * 1000)
    return took[1:]


async def measure(suite: Suite, fleet: fleets.Fleet, rounds: int) -> list[Timed]:
    rows = []
    for caller, token in callers(suite, fleet).items():
        asked = forms(fleet) | (users(fleet) if caller == "administrator" else {})
        rest, session = Rest(suite, token), await Session.open(suite.ws, token)
        for form, (path, query) in asked.items():
            action = path if "/" in path else f"{path}/list"
            message = {"action": action, **query}

            async def by_rest(path: str = path, query: Query = query, rest: Rest = rest) -> None:
                rest.ask(path, query)

            async def by_socket(message: Query = message, session: Session = session) -> None:
                await session.ask(message)

            row = Timed(caller, form, await timed(by_rest, rounds), await timed(by_socket, rounds))
            print(shown(row), flush=True)
            rows.append(row)
        rest.connection.close()
        await session.close()
    return rows


def shown(row: Timed) -> str:
    figures = "  ".join(f"{median(t):6.1f} {high(t):7.1f}" for t in (row.rest, row.websocket))
    return f"{row.caller:42}{row.form:38}{figures}"


def median(times: list[float]) -> float:
    return statistics.median(times)


def high(times: list[float]) -> float:
    """99th percentile; of fewer than 100 the highest."""
    return sorted(times)[min(len(times) - 1, int(len(times) * 0.99))]


def report(rows: list[Timed], options: argparse.Namespace, load: float) -> dict[str, object]:
    """load: what the machine had to do before; a run of its own adds 1 to 2."""

    def figures(times: list[float]) -> dict[str, float]:
        return {"median_ms": round(median(times), 1), "p99_ms": round(high(times), 1)}

    now = datetime.datetime.now(datetime.UTC)
    return {
        "at": now.isoformat(timespec="seconds"),
        "what": "lists of devices",
        "commit": commit(),
        "settings": {"devices": options.devices, "networks": 50, "device_types": 20, "users": 10_000,
                     "take": TAKE, "rounds": options.rounds, "engines": "light"},
        "machine": machine(),
        "load": [load, os.getloadavg()[0]],
        "runs": [
            {"caller": r.caller, "form": r.form, "rest": figures(r.rest), "websocket": figures(r.websocket)}
            for r in rows
        ],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--target", type=float, default=50, help="ms")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    suite = Suite("light")
    suite.start()
    try:
        url = postgres.server(suite.data, suite.secret("postgres_password")).url("skep")
        fleet = fleets.fill(url, options.devices)
        print(f"{'':80}{'REST':>14}{'WebSocket':>16}\n{'':80}{'median':>6} {'p99':>7}  {'median':>6} {'p99':>7}  ms")
        rows = asyncio.run(measure(suite, fleet, options.rounds))
    finally:
        suite.stop()
    made = report(rows, options, load)
    path = RESULTS / f"{str(made['at'])[:16].replace('T', '-').replace(':', '')}-devices.json"
    path.write_text(json.dumps(made, indent=1) + "\n")
    print(path.relative_to(ROOT))
    slow = [r for r in rows if max(median(r.rest), median(r.websocket)) > options.target]
    for row in slow:
        print(f"above {options.target:g} ms: {row.caller}, {row.form}")
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
