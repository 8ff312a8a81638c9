"""One run: sockets, what was sent, what is subscribed to; steps of requests that are under way together.

A step is begun by all its requests (what may come is allowed), sent, answered, and settled by all of them (what must
come is owed). Nothing sleeps: `settle` publishes closing messages and waits for them, which come behind everything
else of their devices.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator

from tests.system.model import asks, sending, subscribing, times
from tests.system.model.client import Ask, Client, shown
from tests.system.model.oracle import COMMAND, NOTIFICATION, Event, Message, Watch
from tests.system.model.rights import Token
from tests.system.model.world import World

WITHIN, WITHIN_AGAIN = 15.0, 4.0
"""Seconds after which something does not come at all; and where that was seen before, in a longer run."""


class Slow(Exception):
    """The machine is so slow that sockets without authentication were closed."""


class Run:
    """`control` is an administrator's socket with a subscription to the closing messages of each device."""

    control: Client

    def __init__(self, world: World, within: float = WITHIN) -> None:
        self.world = world
        self.within = within
        self.messages: dict[int, Message] = {}
        self.keys: dict[tuple[str, int, str, str], Message] = {}
        self.failures: list[str] = []
        self.changed = asyncio.Event()
        self.clients: list[Client] = []
        self.names = [f"a{world.runs}", f"b{world.runs}"]
        """Of messages; new ones, because an interest stays in effect for a while after its last subscriber."""
        self.step = 0
        self.began = 0
        """Later than whatever is stored of earlier runs, ms."""
        self._names = itertools.count(1)
        self._requests = itertools.count(1)

    async def start(self) -> None:
        self.control = await self._opened("control", self.world.tokens[0])
        info = Ask(self.control, "server/info", {}, gives=frozenset({"info"}))
        await self.perform([info])
        assert info.reply is not None
        self.began = max(times.ms(info.reply["info"]["serverTimestamp"]), self.world.highest)
        names = [sending.CLOSING]
        await self.perform(
            [subscribing.subscribe(self, self.control, NOTIFICATION, d, names=names) for d in self.world.devices]
        )

    async def stop(self) -> None:
        for client in self.everybody:
            await client.close()
        seen = [event.time for event in self.events() if event.time is not None]
        self.world.highest = max([self.world.highest, *seen])

    @property
    def everybody(self) -> list[Client]:
        return [self.control, *self.clients]

    def events(self) -> Iterator[Event]:
        return (event for message in self.messages.values() for event in message.events)

    def watches(self) -> Iterator[tuple[Client, Watch]]:
        """Subscriptions in effect or asked for."""
        return ((c, w) for c in self.everybody for w in [*c.watches.values(), *c.wanted] if not w.ended)

    def request_id(self) -> object:
        """Text, numbers and objects: whatever it is, it is echoed."""
        number = next(self._requests)
        return (f"r{number}", number, {"r": [number, None]})[number % 3]

    # -- sockets -----------------------------------------------------------------------------------------------------

    async def open(self, token: Token | None) -> Client:
        """token: for the handshake."""
        client = await self._opened(f"socket {next(self._names)}", token)
        self.clients.append(client)
        return client

    def visitor(self, token: Token) -> Client:
        """Somebody without a socket."""
        return Client("REST", self.messages, self.failures, self.changed, token)

    async def _opened(self, name: str, token: Token | None) -> Client:
        client = Client(name, self.messages, self.failures, self.changed)
        await client.open(self.world.suite.ws, token)
        return client

    async def close(self, client: Client, abort: bool) -> None:
        self.clients.remove(client)
        await client.close(abort)
        self.check()

    # -- steps -------------------------------------------------------------------------------------------------------

    async def perform(
        self, step: list[Ask], drop: Client | None = None, meanwhile: Callable[[], None] | None = None
    ) -> None:
        """All that is asked is under way together. drop: this socket goes as soon as everything is sent. meanwhile:
        done between sending and reading."""
        self.step += 1
        for index, ask in enumerate(step):
            ask.index = index
        for ask in sorted(step, key=lambda a: a.order):
            ask.begin()
        for ask in step:
            await ask.send()
        if meanwhile is not None:
            meanwhile()
        if drop is not None:
            for message in [ask.message for ask in step if ask.client is drop and ask.message is not None]:
                message.certain = False
            await self.close(drop, abort=True)
        await self.until(lambda: all(ask.done for ask in step), "a reply")
        updates = [ask.event for ask in step if ask.event is not None]
        if drop is not None and updates:
            await self.settle()  # what that socket had sent is done by then, or never
        for message in {event.message for event in updates}:
            await self._learn_updates(message)
        for ask in step:
            if ask.success:
                ask.settle()
        asks.check_sending_order(step)

    async def _learn_updates(self, message: Message) -> None:
        """When the command was last updated; and by which update, where there were several."""
        get = sending.get_command(self, self.control, message)
        await get.send()
        await self.until(lambda: get.done, "a reply")

    async def until(self, true: Callable[[], bool], what: str) -> None:
        """Raises AssertionError for whatever was found wrong meanwhile."""
        try:
            async with asyncio.timeout(self.within):
                while not (self.failures or true() or any(c.overslept for c in self.clients)):
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            self.failures.append(f"{what} does not come")
        self.check()

    def check(self) -> None:
        """Raises AssertionError for what was found wrong, `Slow` where the run says nothing."""
        if self.failures:
            raise AssertionError("\n".join([*self.failures, shown(self.everybody)]))
        if any(client.overslept for client in self.everybody):
            raise Slow

    # -- the end of what is under way --------------------------------------------------------------------------------

    def missing(self) -> list[tuple[Client, Event]]:
        return [(client, event) for client, watch in self.watches() for event in watch.missing()]

    async def settle(self) -> None:
        """All that must come has come, and nothing that was sent is under way any more."""
        before = list(self.events())
        await self.perform(
            [sending.publish(self, self.control, NOTIFICATION, d, sending.CLOSING) for d in self.world.devices]
        )
        await self._complete()
        # What was written to a socket is read when the answer to something later is.
        await self.perform([asks.ping(self, client) for client in self.clients])
        for event in before:
            event.settled = event.exists is not None

    async def _complete(self) -> None:
        with contextlib.suppress(AssertionError):
            await self.until(lambda: not self.missing(), "something")
        if self.failures:
            self.failures += [f"{client.name} did not get {event!r}" for client, event in self.missing()]
        self.check()

    async def conclude(self) -> None:
        """A closing message of each kind and name, which every subscription must see behind what it had."""
        control, devices = self.control, self.world.devices
        step = [
            sending.publish(self, control, entity, device, name)
            for entity in (NOTIFICATION, COMMAND)
            for device in devices
            for name in self.names
        ]
        first = self.world.number
        await self.perform(step)
        commands = [m for number, m in self.messages.items() if number > first - len(step) and m.entity == COMMAND]
        forms = itertools.cycle(sending.FORMS)
        await self.perform(
            [sending.update(self, control, m, sending.written("closing", next(forms))) for m in commands]
        )
        await self.settle()
