"""Keeps Mosquitto's dynamic security in step with the users' rights, by its `$CONTROL` topic."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from mqtt_bridge.adapters.connection import Connection, Options
from mqtt_bridge.adapters.sessions import Dialler, Session, until_closed
from mqtt_bridge.core import dynsec
from mqtt_bridge.core.dynsec import Account, Client, Command, State
from mqtt_bridge.core.leading import Lease, led
from mqtt_bridge.core.packets import Lost, Packet, Refused
from mqtt_bridge.core.roles import Entry

log = logging.getLogger("mqtt_bridge")

ANSWER_SECONDS = 20.0
"""The broker writes its whole file for each command."""
BATCH = 10
"""Commands of one message: for so long nobody else is served."""
PAUSE_SECONDS = 0.2
"""Between two looks, however much changes."""
LOOK_SECONDS = 60.0
"""Between two looks without a change."""
NO_PLUGIN = "no answer from the broker's dynamic security: is its plugin loaded, and is the bridge's account its admin?"


class _Acl(Struct):
    acltype: str
    allow: bool
    topic: str = ""
    priority: int = 0


class _RoleName(Struct):
    rolename: str


class _Client(Struct):
    username: str
    clientid: str = ""
    textdescription: str = ""
    roles: list[_RoleName] = []


class _Role(Struct):
    rolename: str
    acls: list[_Acl] = []


class _Data(Struct):
    clients: list[_Client] = []
    roles: list[_Role] = []
    acls: list[_Acl] = []


class _Response(Struct, rename={"correlation": "correlationData"}):
    command: str = ""
    error: str = ""
    correlation: str = ""
    data: Raw = Raw(b"{}")


class _Responses(Struct):
    responses: list[_Response]


_responses = msgspec.json.Decoder(_Responses)
_data = msgspec.json.Decoder(_Data)


class Control:
    """Commands and their answers over one connection, a message of commands at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._name = secrets.token_hex(8)  # answers to others come here, too
        self._numbers = itertools.count(1)
        self._waiting: tuple[str, asyncio.Future[list[_Response]]] | None = None

    def receive(self, packet: Packet) -> None:
        self._connection.acknowledge(packet)
        try:
            found = _responses.decode(packet.payload).responses
        except msgspec.DecodeError:
            log.warning("an answer of the broker's dynamic security is malformed")
            return
        if self._waiting is not None and found and found[0].correlation == self._waiting[0]:
            answered = self._waiting[1]
            if not answered.done():
                answered.set_result(found)

    async def read(self) -> State:
        """Raises Refused, Lost."""
        whole = {"verbose": True, "count": -1, "offset": 0}
        clients, roles, defaults = await self._ask(
            [{"command": "listClients", **whole}, {"command": "listRoles", **whole}, {"command": "getDefaultACLAccess"}]
        )
        return State(
            {c.username: _client(c) for c in _data.decode(clients.data).clients},
            {r.rolename: frozenset(map(_entry, r.acls)) for r in _data.decode(roles.data).roles},
            {a.acltype: a.allow for a in _data.decode(defaults.data).acls},
        )

    async def do(self, commands: list[Command]) -> bool:
        """Whether all were done. Raises Refused, Lost."""
        refused = [answer for answer in await self._ask(commands) if answer.error]
        for answer in refused:
            log.error("the broker refuses %s: %s", answer.command, answer.error)
        return not refused

    async def _ask(self, commands: list[Command]) -> list[_Response]:
        name = f"{self._name}-{next(self._numbers)}"
        answered: asyncio.Future[list[_Response]] = asyncio.get_running_loop().create_future()
        self._waiting = name, answered
        named = [{**commands[0], "correlationData": name}, *commands[1:]]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._connection.publish(dynsec.TOPIC, msgspec.json.encode({"commands": named}))
                return await answered
        except TimeoutError:
            raise Refused(NO_PLUGIN) from None
        finally:
            self._waiting = None


class DynamicSecurity(Session):
    """One bridge at a time keeps it, by a lease. accounts: as they should be as of now; raises Unavailable."""

    def __init__(self, options: Options, accounts: Callable[[], Awaitable[list[Account]]], lease: Lease) -> None:
        super().__init__("rights")
        self._dialler, self._own = Dialler(options), options.username
        self._accounts, self._lease = accounts, lease
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Look at what should be."""
        self._changed.set()

    async def run(self) -> None:
        await self.keep(self._serve)

    async def _serve(self) -> None:
        if not await self._lease.take():
            return
        control: list[Control] = []
        connection = await self._dialler.connection(lambda packet: control[0].receive(packet))
        control.append(Control(connection))
        self.is_up = True
        try:
            await connection.subscribe([dynsec.RESPONSE])
            await until_closed(connection, self._follow(control[0]), led(self._lease))
        finally:
            await connection.close()

    async def _follow(self, control: Control) -> None:
        """Until the broker refuses something: then what it has is to be read again."""
        state = await control.read()
        told: list[str] = []
        while True:
            self._changed.clear()
            wanted = await self._accounts()
            before, told = told, dynsec.strangers(state, wanted)
            for username in set(told) - set(before):
                log.warning("client %r of the broker is not ours: the user of that login gets no account", username)
            commands = dynsec.commands(state, wanted, self._own)
            for batch in _batches(commands):
                await self._lease.insist()
                if not await control.do(batch):
                    raise Lost("the broker's clients are not what they were")
            if commands:
                log.info("the broker's clients are in step: %s commands", len(commands))
            state = dynsec.after(state, wanted, self._own)
            await asyncio.sleep(PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()


def _client(found: _Client) -> Client:
    return Client(found.clientid, found.textdescription, tuple(role.rolename for role in found.roles))


def _entry(found: _Acl) -> Entry:
    return Entry(found.acltype, found.topic, found.allow, found.priority)


def _batches(commands: list[Command]) -> Iterator[list[dict[str, Any]]]:
    for first in range(0, len(commands), BATCH):
        yield commands[first : first + BATCH]
