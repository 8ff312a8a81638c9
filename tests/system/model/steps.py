"""What a run does next, chosen by numbers: each picks among what is there, modulo its count."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import pytest
from websockets.exceptions import InvalidStatus

from tests.system.model import asks, changes, sending, subscribing
from tests.system.model.client import Ask, Client
from tests.system.model.oracle import COMMAND, Message, Watch
from tests.system.model.rights import Place, Token, User
from tests.system.model.run import Run

T = TypeVar("T")
Title = tuple[str, int, int]
"""entity, device, name"""
Scope = tuple[str, int, int]
"""kind, place, names"""
Operation = tuple[Any, ...]
"""Its name, the socket, and what the rest of `Steps.together` takes."""
NAMES = 8
ANY = 12
"""Smaller numbers of places and devices are for what the caller may use, where there is any: refusals teach little."""


def pick(among: Sequence[T], number: int) -> T:
    return among[number % len(among)]


class Steps:
    def __init__(self, run: Run) -> None:
        self.run, self.world = run, run.world
        self._marks = 0

    # -- what there is -----------------------------------------------------------------------------------------------

    def client(self, number: int) -> Client:
        return pick(self.run.clients, number)

    def commands(self) -> list[Message]:
        return [m for m in self.run.messages.values() if m.entity == COMMAND and m.certain]

    def since(self, number: int | None) -> int | None:
        """None, the beginning of the run, or one of the times that are known; and of these the ms before."""
        times = sorted({event.time for event in self.run.events() if event.time})
        around = [time - before for time in times for before in (0, 1) if time - before > self.run.began]
        return None if number is None else pick([self.run.began, *around], number)

    def mark(self) -> str:
        self._marks += 1
        return f"s{self._marks}"

    def _device(self, client: Client, number: int) -> str:
        devices = self.world.devices
        usable = [d for d in devices if client.caller is None or asks.reach(self.run, client, d) is None]
        return pick(usable if usable and number < ANY else devices, number)

    def _place(self, client: Client, number: int) -> dict[str, Any]:
        places = self._places()
        usable = [p for p in places if client.caller is None or subscribing.reach_all(self.run, client, **p) is None]
        return pick(usable if usable and number < ANY else places, number)

    def _places(self) -> list[dict[str, Any]]:
        networks, types = self.world.networks, self.world.types
        return [
            {},
            *({"device": device} for device in self.world.devices),
            {"networks": networks[:1]},
            {"networks": networks[1:]},
            {"networks": networks},
            {"types": types[:1]},
            {"types": types[1:]},
            {"networks": networks[:1], "types": types[:1]},
            {"device": self.world.devices[0], "networks": networks[1:]},
        ]

    def _names(self, number: int) -> list[str] | None:
        a, b = self.run.names
        many = [a, *(f"{a}-{i}" for i in range(20))]
        return [None, None, [a], [b], [a, b], [], many, ["$device-update"]][number]

    # -- single requests ---------------------------------------------------------------------------------------------

    def publish(self, client: Client, title: Title, key: str | None, age: int | None = None) -> Ask:
        """age: its own timestamp is so many ms older than the newest one."""
        own = None if age is None else max((e.time or 0 for e in self.run.events()), default=self.run.began) - age
        entity, device, name = title
        to, called = self._device(client, device), self.run.names[name]
        return sending.publish(self.run, client, entity, to, called, own, key)

    def publish_by_rest(self, token: int, title: Title, key: str | None) -> Ask:
        entity, device, name = title
        caller = self.run.visitor(pick(self.world.tokens, token))
        to, called = self._device(caller, device), self.run.names[name]
        return sending.publish_by_rest(self.run, caller, entity, to, called, key)

    def update(self, client: Client, command: int, fields: str = "both") -> Ask:
        commands = self.commands()
        usable = [m for m in commands if client.caller is None or asks.reach(self.run, client, m.device) is None]
        return sending.update(self.run, client, pick(usable or commands, command), sending.written(self.mark(), fields))

    def subscribe(self, client: Client, scope: Scope, since: int | None, limit: int | None) -> Ask:
        kind, place, names = scope
        return subscribing.subscribe(
            self.run,
            client,
            kind,
            **self._place(client, place),
            names=self._names(names),
            since=self.since(since),
            limit=limit,
        )

    def unsubscribe(self, client: Client, entity: str, id: int | None) -> Ask:
        """id None, or nothing of it there: all of the entity."""
        own = [number for number, watch in client.watches.items() if not watch.ended and watch.entity == entity]
        return subscribing.unsubscribe(self.run, client, entity, pick(own, id) if own and id is not None else None)

    def together(self, chosen: list[Operation]) -> list[Ask]:
        step: list[Ask] = []
        ended: set[tuple[Client, str]] = set()
        for name, number, *rest in chosen:
            client = self.client(number)
            if name == "publish":
                step.append(self.publish(client, *rest))
            elif name == "update" and self.commands():
                step.append(self.update(client, *rest))
            elif name == "subscribe":
                step.append(self.subscribe(client, *rest, 0))
            elif name == "unsubscribe" and (client, rest[0]) not in ended:
                ended.add((client, rest[0]))  # a second one of the same would be refused, or not
                step.append(self.unsubscribe(client, *rest))
        return step

    # -- sockets -----------------------------------------------------------------------------------------------------

    async def open(self, number: int | None) -> None:
        token = None if number is None else pick(self.world.tokens, number)
        if token is not None and token.user.disabled:
            with pytest.raises(InvalidStatus, match="401"):
                await self.run.open(token)
        else:
            await self.run.open(token)

    async def authenticate(self, client: Client, token: Token) -> None:
        await self.run.settle()
        before = client.caller
        await self.run.perform([asks.authenticate(self.run, client, token)])
        await changes.follow(self.run, client, before)

    async def refresh(self, client: Client, number: int) -> None:
        """In with a fresh access token, asked for over this socket."""
        user = pick(list(self.world.refreshed), number)
        if user.disabled:
            return
        ask = asks.refresh(self.run, client, self.world.refreshed[user])
        await self.run.perform([ask])
        assert ask.reply is not None
        # What a login gives a client: its networks of that time, and all types or those of that time.
        token = self.world.logged_in[user]
        await self.authenticate(client, Token(ask.reply["accessToken"], user, token.networks, token.types))

    async def reconnect(self, client: Client, abort: bool, busy: bool) -> None:
        """busy: messages are under way when the socket goes. More are sent while it is away."""
        token, lost = client.caller, client.live()
        await self.run.perform(changes.flow(self.run) if busy else [], client if abort else None)
        if not abort:
            await self.run.close(client, abort=False)
        updates = [self.update(self.run.control, 0)] if self.commands() else []
        await self.run.perform(changes.flow(self.run) + updates)
        if not busy:
            await self.run.settle()  # all that was missed is stored, so that it must be replayed in order
        back = await self.run.open(token)
        await self.run.perform([self._resumed(back, watch) for watch in lost])

    def _resumed(self, client: Client, watch: Watch) -> Ask:
        asked, seen = watch.request, [event.time or 0 for event, due in watch.due.items() if due.taken]
        since = max(max(seen, default=watch.since or 0), self.run.began)
        place = asked["deviceId"], asked["networkIds"], asked["deviceTypeIds"]
        return subscribing.subscribe(self.run, client, watch.kind, *place, asked["names"], since, 0)

    # -- rights and places -------------------------------------------------------------------------------------------

    async def move(self, device: str, place: Place) -> None:
        await self.run.settle()
        await self.run.perform([sending.move(self.run, device, place)])

    async def assign_network(self, user: User, id: int) -> None:
        on = id not in user.networks
        note = user.networks.add if on else user.networks.discard
        tell = partial(self.world.member, user, id, on)
        await changes.change_rights(self.run, user, tell, partial(note, id), id if on else None)

    async def assign_type(self, id: int) -> None:
        user = self.world.ben
        assert user.types is not None
        on = id not in user.types
        note = user.types.add if on else user.types.discard
        await changes.change_rights(self.run, user, partial(self.world.typed, user, id, on), partial(note, id))

    async def disable(self, user: User) -> None:
        on = not user.disabled
        tell, note = partial(self.world.disable, user, on), partial(setattr, user, "disabled", on)
        if on:
            await changes.change_rights(self.run, user, tell, note)
            for client in self.run.clients:
                if client.token is not None and client.token.user is user:
                    client.token = None  # and stays out until it authenticates again
        else:
            tell()
            note()
