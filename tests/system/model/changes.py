"""Changes of rights and places while messages flow: what was seen all along keeps coming, nothing foreign comes."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.system.model import asks, sending, subscribing
from tests.system.model.client import Ask, Client
from tests.system.model.oracle import COMMAND, NOTIFICATION, UPDATE, Event, Watch
from tests.system.model.rights import Token, User

if TYPE_CHECKING:
    from tests.system.model.run import Run

WITHIN = 5.0
"""Seconds in which rights reach what is open."""


async def change_rights(
    run: Run, user: User, tell: Callable[[], None], note: Callable[[], None], given: int | None = None
) -> None:
    """tell: the platform, by REST. note: in the model. given: a network, which may be subscribed to at once."""
    await run.settle()
    concerned = [client for client in run.clients if client.token is not None and client.token.user is user]
    for client in concerned:
        client.before = _frozen(client.caller)
    flowing = flow(run)

    def change() -> None:
        tell()
        note()
        for ask in flowing:
            assert ask.message is not None
            asks.allow(run, ask.message.inserted)

    await run.perform(flowing, meanwhile=change)
    welcome = (
        [] if given is None else [subscribing.subscribe(run, c, NOTIFICATION, networks=[given]) for c in concerned]
    )
    await run.perform([*welcome, *flow(run)])
    for client in concerned:
        await _adopted(run, client)
    for client in concerned:
        before, client.before = client.before, None
        await follow(run, client, before)


async def follow(run: Run, client: Client, before: Token | None) -> None:
    """Subscriptions that name no place are for all that is seen now, as soon as new interests are in effect."""
    after, places = client.caller, set(run.world.places.values())
    moved = [watch for watch in client.live() if watch.follows]
    for watch in moved:
        watch.unsure = {p for p in places if watch.reaches(after, p) and not watch.reaches(before, p)}
    wanted = [(w, d) for w in moved for d, place in run.world.places.items() if place in w.unsure]
    async with asyncio.timeout(WITHIN):
        while wanted:
            wanted = await _come(run, wanted)
    for watch in moved:
        watch.unsure = set()


async def _come(run: Run, wanted: list[tuple[Watch, str]]) -> list[tuple[Watch, str]]:
    """Publish something for each; those to whom nothing has come."""
    probes = [_probe(run, watch, device) for watch, device in wanted]
    await run.perform(probes)
    messages = [probe.message for probe in probes if probe.message is not None]
    updated = [m for m, (watch, _) in zip(messages, wanted, strict=True) if watch.kind == UPDATE]
    await run.perform([sending.update(run, run.control, message, {"status": "probe"}) for message in updated])
    await run.settle()
    events = [message.events[-1] for message in messages]
    return [each for each, event in zip(wanted, events, strict=True) if not _taken(each[0], event)]


def _taken(watch: Watch, event: Event) -> bool:
    return event in watch.due and watch.due[event].taken


def _frozen(token: Token | None) -> Token | None:
    if token is None:
        return None
    frozen = copy.copy(token)
    frozen.user = copy.deepcopy(token.user)
    return frozen


def flow(run: Run) -> list[Ask]:
    """A message of each kind for each device."""
    return [
        sending.publish(run, run.control, entity, device, run.names[0])
        for entity in (NOTIFICATION, COMMAND)
        for device in run.world.devices
    ]


async def _adopted(run: Run, client: Client) -> None:
    """Until the socket lists what its holder sees now."""
    caller = client.caller
    async with asyncio.timeout(WITHIN):
        while True:
            listing = asks.list_devices(run, client)
            await run.perform([listing])
            reply = listing.reply
            assert reply is not None
            if caller is None:
                if reply["status"] == "error":
                    return
            elif {d["id"] for d in reply["devices"]} == {d for d, p in run.world.places.items() if caller.sees(p)}:
                return


def _probe(run: Run, watch: Watch, device: str) -> Ask:
    usable = [name for name in run.names if not watch.names or name in watch.names]
    if not usable:
        if watch.entity == NOTIFICATION and "$device-update" in watch.names:
            return sending.move(run, device, run.world.places[device])
        usable = sorted(watch.names or ())
    return sending.publish(run, run.control, watch.entity, device, usable[0])
