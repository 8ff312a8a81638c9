"""The matrix sees a rule that is weaker than it should be.

A frontend and an auth service run inside the test, on the suite's database and bus, with one rule at a time replaced.
The same cells are right before and wrong then. Rules are the same on all engines, so this runs on the light ones.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import psycopg
import pytest

import auth.app
import auth.core.authority
import auth.settings
import frontend.api.rest.devices
import frontend.app
import frontend.core.configuration
import frontend.core.users
import frontend.settings
import plugin_manager.app
import plugin_manager.settings
import skep.metadata.containers
import skep.metadata.devices
import skep.metadata.plugins
import skep.web.exchange
from deploy import ports
from frontend.core.actions import table
from frontend.core.containers import Containers
from frontend.core.rights import Rights
from skep import access, errors, settings, tokens
from skep.access import Principal
from skep.tokens import Claims
from tests.system.rights import matrix
from tests.system.rights import world as worlds
from tests.system.rights.cells import Cell
from tests.system.rights.matrix import Place
from tests.system.rights.world import World

pytestmark = pytest.mark.system


class Weak(NamedTuple):
    """What is replaced by what; the callers whose answers are wrong then, and the operations."""

    name: str
    owner: Any
    attribute: str
    value: Any
    callers: tuple[str, ...]
    operations: str


def always(*_: Any) -> bool:
    return True


async def unchecked(rights: Rights, caller: Principal, device_id: str) -> Any:
    device = await rights._caches.device(device_id)
    if device is None:
        raise errors.Forbidden
    return device


async def foreign_is_missing(rights: Rights, caller: Principal, device_id: str) -> Any:
    if await rights._caches.device(device_id) is not None:
        raise errors.NotFound(f"Device with such deviceId = {device_id} not found")
    raise errors.Forbidden


async def any_place(rights: Rights, caller: Principal, networks: Any, device_types: Any) -> Principal:
    return caller


def permits_all(entry: table.Entry, session: Any) -> None:
    if entry.permissions:
        session.caller


def ignores_the_list(ids: list[str], allowed: frozenset[int] | None) -> frozenset[int] | None:
    return allowed


def verified(**changes: Any) -> Callable[[str, tokens.Keys], Claims]:
    real = tokens.verify

    def verify(token: str, keys: tokens.Keys) -> Claims:
        return msgspec.structs.replace(real(token, keys), **changes)

    return verify


def as_active(real: Callable[..., Principal]) -> Callable[..., Principal]:
    def principal(claims: Claims, user: access.User | None, *rest: Any) -> Principal:
        return real(claims, user and msgspec.structs.replace(user, status=access.ACTIVE), *rest)

    return principal


def as_asked(caller: Principal, target: access.User, wanted: access.Wanted) -> Claims:
    return access.as_asked(target, wanted)


NARROW, TYPED = ("root for a network", "client"), ("root for a type", "typed")


async def any_container(containers: Any, caller: Principal, id: int) -> Principal:
    return caller


def any_plugin(scope: Principal, plugin: Any) -> Any:
    if plugin is None:
        raise errors.Forbidden(skep.metadata.plugins.NO_PLUGIN)
    return plugin


class Anything:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


CONFIGURATION, USERS = frontend.core.configuration, frontend.core.users
CLIENT = access.CLIENT_ACTIONS
WEAK = [
    Weak("no network check", Principal, "sees_network", always, NARROW, "device/get user/getNetwork"),
    Weak("no device type check", Principal, "sees_device_type", always, TYPED, "device/get user/getDeviceType"),
    Weak("a device of anybody", Rights, "device", unchecked, (*NARROW, *TYPED), "device/get notification/list"),
    Weak("a network of anybody", Containers, "_seen", any_container, NARROW, "network/get network/delete"),
    Weak("no action over REST", Principal, "require", always, ("client, GetDevice",), "network/list user/list"),
    Weak("no action over WebSocket", table, "permit", permits_all, ("client, GetDevice",), "network/list user/list"),
    Weak("foreign is 404, missing 403", Rights, "_checked", foreign_is_missing, NARROW, "device/get"),
    Weak("missing is 404", Principal, "sees_everything", True, (*NARROW, *TYPED), "device/get command/insert"),
    Weak("a token's list ignored", access, "_both", ignores_the_list, NARROW[:1], "device/get network/list"),
    Weak("no actions are all", access, "_actions", lambda *_: CLIENT, ("root, no actions",), "device/list"),
    Weak("no networks are all", access, "_networks", lambda *_: None, ("root without networks",), "network/list"),
    Weak("disabled users", access, "principal", as_active(access.principal), ("disabled", "locked"), "device/list"),
    Weak("refresh tokens", tokens, "verify", verified(type=tokens.ACCESS), ("refresh",), "device/list"),
    Weak("expired tokens", tokens, "verify", verified(expires=2**52), ("expired",), "device/list"),
    Weak("devices not filtered", skep.metadata.devices, "within", lambda *_: True, NARROW, "device/list device/count"),
    Weak("networks not filtered", skep.metadata.containers, "within", lambda *_: True, NARROW, "network/list"),
    Weak("clients see users", USERS, "_only", lambda _: None, ("manager",), "user/list user/get"),
    Weak("places not checked", Rights, "containers", any_place, NARROW, "notification/subscribe command/poll"),
    Weak("secrets in configuration", CONFIGURATION, "_SECRET", re.compile("$^"), ("root",), "configuration/put"),
    Weak("token/create as asked", access, "narrowed", as_asked, ("client", "root for a type"), "token/create"),
    Weak("tokens for others", Principal, "is_admin", True, ("client",), "token/create"),
    Weak("a plugin's token everywhere", skep.web.exchange, "Action", SimpleNamespace(MANAGE_PLUGIN=Anything()),
         ("plugin",), "device/list server/info"),
    # One caller: a plugin can be deleted once.
    Weak("plugins of anybody", skep.metadata.plugins, "check_access", any_plugin, ("client",), "plugin/delete"),
    Weak("a stranger's password", Principal, "covers", always, ("root for both",),
         "user/update user/delete user/makeMqttPassword user/takeMqttPassword"),
    Weak("an administrator's own password", USERS, "_may_set_password", always, ("root for a network",),
         "user/makeOwnMqttPassword user/takeOwnMqttPassword"),
]  # fmt: skip


@pytest.fixture
async def weakened(suite: Any) -> AsyncIterator[Place]:
    """Services inside the test."""
    to_frontend, to_auth, to_plugins = ports.free(3)
    environment = {
        "SKEP_PROFILE": "development", "FRONTEND_PORT": str(to_frontend), "AUTH_PORT": str(to_auth),
        "PLUGIN_MANAGER_PORT": str(to_plugins),
        "DATABASE_URL": worlds.database_url(suite), "BUS_URLS": suite.bus, "BUS_SECRET": suite.secret("bus_secret"),
        "JWT_SECRET": suite.secret("jwt_secret"), "INSTANCE": "weakened-1",
    }  # fmt: skip
    apps: list[Any] = [
        frontend.app.App(settings.load(frontend.settings.Settings, environment)),
        auth.app.App(settings.load(auth.settings.Settings, environment)),
        plugin_manager.app.App(settings.load(plugin_manager.settings.Settings, environment)),
    ]
    for app in apps:
        await app.start()
    at = f"127.0.0.1:{to_frontend}/api"
    yield Place(
        f"http://{at}/rest",
        f"http://127.0.0.1:{to_auth}/auth/rest",
        f"http://127.0.0.1:{to_plugins}/plugin/rest",
        f"ws://{at}/websocket",
    )
    for app in apps:
        await app.stop()


@pytest.fixture
def db(suite: Any) -> Iterator[psycopg.Connection[Any]]:
    with worlds.connect(suite) as connection:
        yield connection


def cells(world: World, weak: Weak) -> list[Cell]:
    asked = (c for c in matrix.cells(world, weak.callers) if c.operation in weak.operations.split())
    return [cell for cell in asked if not matrix.spoils(cell)]


@pytest.mark.parametrize("suite", ["light"], indirect=True)
async def test_each_weakness_is_seen(suite, weakened, db):
    made = worlds.build(db, 1 + len(WEAK), suite.sign)
    try:
        for weak, world in zip([None, *WEAK], made, strict=True):
            if weak is None or "notification/" in weak.operations or "command/" in weak.operations:
                await matrix.stock(weakened, world)
        judged = await matrix.ask(weakened, [cell for weak in WEAK for cell in cells(made[0], weak)])
        assert [j for j in judged if j.complaint] == matrix.told_apart(judged) == []
        for weak, world in zip(WEAK, made[1:], strict=True):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(weak.owner, weak.attribute, weak.value)
                judged = await matrix.ask(weakened, cells(world, weak))
            assert not [j for j in judged if j.answer.status >= 500], weak.name  # weaker, not broken
            wrong = [j.cell for j in judged if j.complaint]
            assert {cell.caller.name for cell in wrong} == set(weak.callers), weak.name
            assert {cell.operation for cell in wrong} == set(weak.operations.split()), weak.name
            if weak.attribute == "_checked":
                assert matrix.told_apart(judged)
    finally:
        worlds.erase(db, made)
