"""The rules of the runs, for hypothesis to choose from."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar

from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.system.model import asks, mistakes, sending, subscribing
from tests.system.model.client import Ask, Client
from tests.system.model.oracle import COMMAND, NOTIFICATION, UPDATE
from tests.system.model.run import WITHIN, WITHIN_AGAIN, Run, Slow
from tests.system.model.steps import ANY, NAMES, Operation, Scope, Steps, Title, pick
from tests.system.model.world import World
from tests.system.suite import Suite

T = TypeVar("T")
SOCKETS = 4
RUNS_OF_A_WORLD = 50

which = st.integers(0, 7)
tokens = st.sampled_from([0, 3, 5, 1, 4, 0, 3, 5, 2, 6])
"""Of `World.tokens`; the last two may read notifications only."""
entities = st.sampled_from([NOTIFICATION, COMMAND])
kinds = st.sampled_from([NOTIFICATION, COMMAND, UPDATE])
devices = st.sampled_from([0, 0, 1, 1, 2, 3, ANY, ANY + 2])
messages = st.tuples(entities, devices, st.sampled_from([0, 0, 1]))
keys = st.sampled_from([None, None, None, None, "k1", "k2"])
scopes = st.tuples(kinds, st.sampled_from([0, *range(12), ANY, ANY + 5]), st.sampled_from(range(NAMES)))
sinces = st.sampled_from([None, None, None, 0, 0, 1, 2, 3, 5, 8, 13])
subscriptions = st.sampled_from([0, 1, 2, 3, None])
written = st.sampled_from(sending.FORMS)
whole = st.sampled_from(["both", "clear"])
"""What is under way together has no order; so each of them says all that an update can say."""
operations = st.one_of(
    st.tuples(st.just("publish"), which, messages, keys),
    st.tuples(st.just("publish"), which, messages, keys),
    st.tuples(st.just("update"), which, which, whole),
    st.tuples(st.just("subscribe"), which, scopes, sinces),
    st.tuples(st.just("unsubscribe"), which, entities, subscriptions),
)
several = st.lists(operations, min_size=2, max_size=8)
limits = st.sampled_from([None, 0, 0, 0, 1, 2])
ages = st.sampled_from([None, None, 0, 1, 40])


class WebSocketModel(RuleBasedStateMachine):
    """suite and runner: set by the test. worlds: the one that runs share. findings: what was wrong, in order."""

    suite: Suite
    runner: asyncio.Runner
    worlds: ClassVar[list[World]]
    findings: ClassVar[list[BaseException]]

    def __init__(self) -> None:
        super().__init__()
        self.sound = True
        self.run = Run(self._world(), WITHIN_AGAIN if self.findings else WITHIN)
        self.steps = Steps(self.run)
        self.do(self.run.start())

    def _world(self) -> World:
        """A new one now and then: an interest stays in effect for a while after its last subscriber has left, so in
        a world that is known few subscriptions need one that is not in effect yet."""
        last = self.worlds[-1] if self.worlds else None
        if last is None or last.runs % RUNS_OF_A_WORLD == 0:
            self.worlds[:] = [World(self.suite, last)]
        self.worlds[-1].runs += 1
        return self.worlds[-1]

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self.runner.run(work)
        except Slow:
            self.sound = False
            reject()
        except BaseException as error:
            self.sound = False
            self.findings.append(error)
            raise

    def perform(self, step: list[Ask], drop: Client | None = None) -> None:
        self.do(self.run.perform(step, drop))

    def teardown(self) -> None:
        try:
            if self.sound:
                self.do(self.run.conclude())
        finally:
            self.runner.run(self.run.stop())
            self.run.world.restore()

    # -- sockets -----------------------------------------------------------------------------------------------------

    @initialize(token=tokens, other=tokens, chosen=st.lists(scopes, max_size=4))
    def begin(self, token: int, other: int, chosen: list[Scope]) -> None:
        self.do(self.steps.open(token))
        self.do(self.steps.open(other))
        self.perform(self.steps.together([("subscribe", n, scope, None) for n, scope in enumerate(chosen)]))

    @precondition(lambda self: len(self.run.clients) < SOCKETS)
    @rule(token=st.one_of(st.none(), tokens, tokens, tokens))
    def open(self, token: int | None) -> None:
        """With the token in the handshake, or with none."""
        self.do(self.steps.open(token))

    @precondition(lambda self: self.run.clients)
    @rule(number=which, token=tokens, how=st.sampled_from(["token", "token", "refresh", "nonsense"]))
    def authenticate(self, number: int, token: int, how: str) -> None:
        """nonsense: whoever was in stays in."""
        client = self.steps.client(number)
        if how == "token":
            self.do(self.steps.authenticate(client, pick(self.run.world.tokens, token)))
        elif how == "refresh":
            self.do(self.steps.refresh(client, token))
        else:
            self.perform([asks.authenticate(self.run, client, None, "nonsense")])

    @precondition(lambda self: self.run.clients)
    @rule(number=which, abort=st.booleans(), busy=st.booleans())
    def reconnect(self, number: int, abort: bool, busy: bool) -> None:
        """Close, come back with the same token, and resume each subscription behind the last that it brought."""
        self.do(self.steps.reconnect(self.steps.client(number), abort, busy))

    # -- one request -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.run.clients)
    @rule(number=which, scope=scopes, since=sinces, limit=limits, settled=st.booleans())
    def subscribe(self, number: int, scope: Scope, since: int | None, limit: int | None, settled: bool) -> None:
        if settled or (since is not None and limit != 0):
            self.do(self.run.settle())  # else it depends what of that counts
        self.perform([self.steps.subscribe(self.steps.client(number), scope, since, limit)])

    @precondition(lambda self: self.run.clients)
    @rule(number=which, entity=entities, id=subscriptions, settled=st.booleans())
    def unsubscribe(self, number: int, entity: str, id: int | None, settled: bool) -> None:
        if settled:
            self.do(self.run.settle())
        self.perform([self.steps.unsubscribe(self.steps.client(number), entity, id)])

    @precondition(lambda self: self.run.clients)
    @rule(number=which, message=messages, age=ages, key=keys, rest=st.sampled_from([False, False, True]))
    def publish(self, number: int, message: Title, age: int | None, key: str | None, rest: bool) -> None:
        """rest: over HTTP."""
        if rest:
            self.perform([self.steps.publish_by_rest(number, message, key)])
        else:
            self.perform([self.steps.publish(self.steps.client(number), message, key, age)])

    @precondition(lambda self: self.run.clients and self.steps.commands())
    @rule(number=which, command=which, fields=written)
    def update(self, number: int, command: int, fields: str) -> None:
        self.perform([self.steps.update(self.steps.client(number), command, fields)])

    @precondition(lambda self: self.run.clients)
    @rule(number=which, device=which, mistake=st.sampled_from(mistakes.ALL))
    def err(self, number: int, device: int, mistake: mistakes.Mistake) -> None:
        self.perform([mistake(self.run, self.steps.client(number), pick(self.run.world.devices, device))])

    @precondition(lambda self: self.run.clients)
    @rule(number=which, entity=st.sampled_from([None, NOTIFICATION, COMMAND]))
    def list_subscriptions(self, number: int, entity: str | None) -> None:
        self.perform([subscribing.list_subscriptions(self.run, self.steps.client(number), entity)])

    # -- many at once ------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.run.clients)
    @rule(chosen=several)
    def together(self, chosen: list[Operation]) -> None:
        """Nobody waits for anybody's reply."""
        self.perform(self.steps.together(chosen))

    @precondition(lambda self: self.run.clients)
    @rule(chosen=several)
    def together_again(self, chosen: list[Operation]) -> None:
        """The same; so it is drawn more often."""
        self.perform(self.steps.together(chosen))

    @precondition(lambda self: self.run.clients)
    @rule(chosen=several, drop=which)
    def together_with_a_loss(self, chosen: list[Operation], drop: int) -> None:
        """And a socket is gone before it has read its replies."""
        self.perform(self.steps.together(chosen), self.steps.client(drop))

    # -- rights and places -------------------------------------------------------------------------------------------

    @rule(what=st.sampled_from(["move", "move", "network", "network", "type", "user"]), one=which, two=which)
    def change(self, what: str, one: int, two: int) -> None:
        """A device moves, a user gets a network or a device type or loses it, is disabled or enabled."""
        world = self.run.world
        user = pick([world.anna, world.ben], one)
        if what == "move":
            place = pick(world.networks, two), pick(world.types, two // 2)
            self.do(self.steps.move(pick(world.devices, one), place))
        elif what == "network":
            self.do(self.steps.assign_network(user, pick(world.networks, two)))
        elif what == "type":
            self.do(self.steps.assign_type(pick(world.types, two)))
        else:
            self.do(self.steps.disable(user))
