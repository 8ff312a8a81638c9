"""Lists of 100,000 devices, judged by PostgreSQL's plans and not by a clock: what a page costs is what it reads.

The same forms are timed by `make bench-devices`.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement, Executable

from skep import access, errors, tokens
from skep.metadata import Metadata
from skep.metadata.database import Transaction
from tests.contract import fleet as fleets
from tests.contract.metadata_support import NEVER, opened

DEVICES = 100_000
TAKE = 100
SORTS = ["name", "network", "deviceType", "status"]


class Explain(Executable, ClauseElement):
    inherit_cache = False

    def __init__(self, statement: Any) -> None:
        self.statement = statement


@compiles(Explain)
def _explain(element: Explain, compiler: Any, **options: Any) -> str:
    return "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + compiler.process(element.statement, **options)


class Plan:
    """All nodes of the plans of one list or count."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []

    def add(self, node: dict[str, Any]) -> None:
        self.nodes.append(node)
        for inner in node.get("Plans", []):
            self.add(inner)

    def read(self) -> int:
        """Entries and rows that were looked at."""
        return sum(
            round(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)))
            for node in self.nodes
            if "Scan" in node["Node Type"] and node["Node Type"] != "Subquery Scan"
        )

    def rows(self) -> int:
        """Rows of the table itself that were looked at, `data` and all."""
        fetched = 0.0
        for node in self.nodes:
            if node["Node Type"] == "Index Only Scan":
                fetched += node["Heap Fetches"]
            elif node["Node Type"] in ("Index Scan", "Bitmap Heap Scan"):
                fetched += node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        return round(fetched)

    def sorted(self) -> int:
        """Most rows that went into one sort."""
        inputs = [node["Plans"][0]["Actual Rows"] for node in self.nodes if node["Node Type"] == "Sort"]
        return round(max(inputs, default=0))

    def whole_tables(self) -> list[str]:
        return [n["Relation Name"] for n in self.nodes if n["Node Type"] == "Seq Scan"]


@pytest.fixture(scope="module")
def fleet(postgres_url):
    async def migrate() -> None:
        async with opened(postgres_url):
            pass

    asyncio.run(migrate())
    return fleets.fill(postgres_url, DEVICES)


@pytest.fixture
async def metadata(postgres_url, fleet):
    metadata = Metadata(postgres_url)
    await metadata.start()
    yield metadata
    await metadata.stop()


@pytest.fixture
def plan(monkeypatch) -> Plan:
    """What the statements of the repositories did, from here on."""
    made = Plan()
    run, value = Transaction.all, Transaction.value

    async def explained(transaction: Transaction, statement: Any) -> Any:
        (row,) = await run(transaction, Explain(statement))
        found = row[0] if isinstance(row[0], list) else json.loads(row[0])
        made.add(found[0]["Plan"])

    async def all(transaction: Transaction, statement: Any) -> Any:
        await explained(transaction, statement)
        return await run(transaction, statement)

    async def one(transaction: Transaction, statement: Any) -> Any:
        await explained(transaction, statement)
        return await value(transaction, statement)

    monkeypatch.setattr(Transaction, "all", all)
    monkeypatch.setattr(Transaction, "value", one)
    return made


def caller(fleet: fleets.Fleet, who: str) -> access.Principal:
    """Rights as of a token; nothing of it is stored."""
    networks, types = fleet.networks, fleet.types
    scopes: dict[str, tuple[list[int] | None, list[int] | None]] = {
        "admin": (None, None),
        "in 1 network": (networks[20:21], None),
        "in 20 networks": (networks[::2][:20], None),
        "with 2 types": (networks[:1], types[:2]),
        "in 20 networks with 3 types": (networks[::2][:20], types[:3]),
    }
    of_networks, of_types = scopes[who]
    role = access.ADMIN if who == "admin" else access.CLIENT
    user = access.User(10**9, "u", role, 0, frozenset(of_networks or ()), frozenset(of_types or ()), of_types is None)
    return access.principal(tokens.Claims(10**9, [0], ["*"], ["*"], NEVER), user, 0)


CALLERS = ["admin", "in 1 network", "in 20 networks", "with 2 types", "in 20 networks with 3 types"]
ORDERS = [
    {},
    {"skip": 500},
    *({"sort_field": field, "descending": descending} for field in SORTS for descending in (False, True)),
]
FILTERS: list[dict[str, Any]] = [
    {"name": "cellar-lamp-77"},
    {"name_pattern": "cellar-l%"},
    {"name_pattern": "hall-meter-77%"},
    {"name_pattern": "%camera%"},
    {"name_pattern": "%a%e%r%a%"},
    {"network": 20},
    {"network": 0},
    {"network_name": 20},
    {"network": 0, "name_pattern": "%-77%"},
]
SEARCHES = ["%-7777%", "%nowhere%", "_____-lamp-77", "%9%9%9%9%9%"]


async def listed(
    metadata: Metadata, fleet: fleets.Fleet, plan: Plan, who: str, form: dict[str, Any], **more: Any
) -> list[Any]:
    form = dict(form)
    if "network" in form:
        form["network_id"] = fleet.networks[form.pop("network")]
    if "network_name" in form:
        named = await metadata.networks.get(fleet.networks[form["network_name"]])
        assert named is not None
        form["network_name"] = named.name
    plan.nodes.clear()
    return await metadata.devices.list(caller(fleet, who), take=TAKE, **form, **more)


@pytest.mark.parametrize("who", CALLERS)
async def test_a_page_reads_little_more_than_itself(metadata, fleet, plan, who):
    """An index in the order of the list, or the entries of the caller's own networks or types, of a name's
    beginning."""
    for form in [*ORDERS, *FILTERS]:
        found = await listed(metadata, fleet, plan, who, form)
        assert "devices" not in plan.whole_tables(), form
        assert plan.rows() == len(found), form
        assert plan.read() <= DEVICES / 6, form
        assert plan.sorted() <= DEVICES / 20, form


async def test_a_page_of_all_devices_is_read_off_an_index(metadata, fleet, plan):
    for form in ORDERS:
        assert len(await listed(metadata, fleet, plan, "admin", form)) == TAKE
        assert plan.read() == form.get("skip", 0) + 2 * TAKE, form  # entries, then rows
        assert plan.sorted() <= TAKE, form


@pytest.mark.parametrize("who", CALLERS)
async def test_a_deep_page_is_read_off_an_index_too(metadata, fleet, plan, who):
    """What is skipped is looked at, but neither fetched nor sorted."""
    for form in ({}, {"sort_field": "name"}):
        found = await listed(metadata, fleet, plan, who, {"skip": DEVICES // 2, **form})
        assert "devices" not in plan.whole_tables(), form
        assert plan.rows() == len(found), form
        assert plan.sorted() <= DEVICES / 12, form


@pytest.mark.parametrize("pattern", SEARCHES)
@pytest.mark.parametrize("who", ["admin", "in 1 network"])
async def test_a_search_without_a_beginning_looks_at_each_name_once(metadata, fleet, plan, pattern, who):
    """What an index can't do: it is a scan, but of no more devices than the caller sees."""
    found = await listed(metadata, fleet, plan, who, {"name_pattern": pattern})
    seen = await metadata.devices.count(caller(fleet, who))
    assert plan.read() <= 2 * seen + 2 * len(found)  # the count's own as well
    assert plan.sorted() <= TAKE


@pytest.mark.parametrize("who", CALLERS)
async def test_pages_are_parts_of_the_whole(metadata, fleet, who):
    """Whatever order: no device twice, none left out, and only what the caller sees."""
    principal = caller(fleet, who)
    for field in (None, *SORTS):
        pages = [
            await metadata.devices.list(principal, sort_field=field, take=TAKE, skip=skip)
            for skip in range(0, 5 * TAKE, TAKE)
        ]
        whole = await metadata.devices.list(principal, sort_field=field, take=5 * TAKE)
        assert [device for page in pages for device in page] == whole
        assert len({device.id for device in whole}) == len(whole)
        assert all(principal.sees(device.network_id, device.device_type_id) for device in whole)


async def test_a_list_that_takes_too_long_is_given_up(postgres_url, fleet):
    """The caller is told 503, and the server does not go on with it."""
    async with opened(postgres_url, timeout=0.3) as metadata:
        with psycopg.connect(postgres_url) as other:
            other.execute("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(errors.Unavailable):
                await metadata.devices.list(caller(fleet, "admin"), take=TAKE)
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%devices%'"
            async with asyncio.timeout(3):
                while other.execute(waiting).fetchone() != (0,):  # noqa: ASYNC110 - the server does it
                    await asyncio.sleep(0.01)


async def test_lists_of_networks_types_and_users(metadata, fleet, plan):
    """Users are many too; networks and types are few."""
    forms: list[dict[str, Any]] = [{}, {"sort_field": "login"}, {"descending": True}, {"login_pattern": "user-a%"}]
    for form in forms:
        plan.nodes.clear()
        assert len(await metadata.users.list(take=TAKE, **form)) == TAKE
        assert plan.whole_tables() == [], form
        assert plan.read() <= len(fleet.users) / 5, form
    for who in CALLERS:
        for repository in (metadata.networks, metadata.device_types):
            for field in ("id", "name"):
                assert await repository.list(caller(fleet, who), take=TAKE, sort_field=field)
