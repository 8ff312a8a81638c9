"""Subscribe and unsubscribe, for notifications and commands alike (reference 3.4, 5.5, 7.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from frontend.core import replay, scope
from frontend.core.actions.table import Then, time
from frontend.core.bodies import Time
from frontend.core.pushes import ACTIONS, Subscription
from frontend.core.services import now
from skep import errors
from skep.wire import timestamps
from skep.wire.messages import Item

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from frontend.core.session import Session

TRY_AGAIN = 1013
NO_SCOPE = "No access to any device type or network"


class Wanted(Protocol):
    @property
    def device_id(self) -> str | None: ...
    @property
    def network_ids(self) -> list[int] | None: ...
    @property
    def device_type_ids(self) -> list[int] | None: ...
    @property
    def names(self) -> list[str] | None: ...
    @property
    def timestamp(self) -> Time | None: ...


Answered = asyncio.Future[int | None]
"""Done right before the reply to a subscribe: the subscription's id, None for a refusal."""


def subscribe(session: Session, wanted: Wanted, kind: int, limit: int) -> Coroutine[Any, Any, Then]:
    """The reply once the subscription is in effect; what is stored follows the reply."""
    answered: Answered = asyncio.get_running_loop().create_future()
    session.subscribing[answered] = ACTIONS[kind].decode()
    return _subscribe(session, wanted, kind, limit, answered)


async def _subscribe(session: Session, wanted: Wanted, kind: int, limit: int, answered: Answered) -> Then:
    id = None
    try:
        then = await _subscribed(session, wanted, kind, limit)
        id = then.fields["subscriptionId"]
        return then
    finally:
        del session.subscribing[answered]
        answered.set_result(id)


async def _subscribed(session: Session, wanted: Wanted, kind: int, limit: int) -> Then:
    since = time(wanted.timestamp)
    places = await resolve(session, wanted, kind)
    if len(session.subscriptions) >= session.services.limits.subscriptions:
        raise errors.TooManyRequests("Too many subscriptions")
    outlet = session.outlet
    subscription = Subscription(
        session.services,
        session,
        places,
        _shown(wanted, kind, since),
        outlet.send,
        lambda: outlet.close(TRY_AGAIN, "messages may be missing"),
    )
    session.subscriptions[subscription.id] = subscription
    waiting = subscription.begin()
    try:
        if waiting is not None:
            await waiting
        pages, first = await _first_page(session, subscription, since, limit)
    except BaseException:
        if subscription.id in session.subscriptions:
            session.drop(subscription)
        raise
    return Then({"subscriptionId": subscription.id}, _replay(session, subscription, pages, first))


async def resolve(session: Session, wanted: Wanted, kind: int) -> scope.Scope:
    """Raises BadRequest, Forbidden, NotFound."""
    caller, rights = session.caller, session.services.rights
    if wanted.device_id is not None:
        if not wanted.device_id:
            raise errors.BadRequest("Device id is wrong or empty")
        await rights.messaging(caller, wanted.device_id)
    caller = await rights.containers(caller, wanted.network_ids, wanted.device_type_ids)
    asked = kind, wanted.device_id, wanted.network_ids, wanted.device_type_ids, wanted.names
    made = scope.of(caller, *asked) or scope.of(await rights.fresh(caller), *asked)
    if made is None:
        raise errors.Forbidden(NO_SCOPE)
    return made


def unsubscribe(session: Session, entity: str, id: int | None) -> Coroutine[Any, Any, None] | None:
    """Of this session and entity: one, or all, those that are on their way too. Raises NotFound."""
    ending = {s.id for s in session.subscriptions.values() if s.request["type"] == entity and id in (None, s.id)}
    if id is not None and not ending:
        raise errors.NotFound(f"Subscription with id {id} was not found")
    on_their_way = [answered for answered, of in session.subscribing.items() if of == entity]
    if id is None and on_their_way:
        return _unsubscribe_later(session, ending, on_their_way)
    _drop(session, ending)
    return None


async def _unsubscribe_later(session: Session, ending: set[int], on_their_way: list[Answered]) -> None:
    """When they are answered, so that the replies are in the order of the requests."""
    answered, _ = await asyncio.wait(on_their_way)
    _drop(session, ending.union(id for id in (a.result() for a in answered) if id is not None))


def _drop(session: Session, ending: set[int]) -> None:
    for id in ending & session.subscriptions.keys():
        session.drop(session.subscriptions[id])


async def _first_page(
    session: Session, subscription: Subscription, since: int | None, limit: int
) -> tuple[AsyncIterator[list[Item]] | None, list[Item]]:
    """Read before the reply, so that a store that is away makes the subscribe fail."""
    if since is None:
        return None, []
    reads, is_due = session.services.messages, subscription.is_due
    pages = replay.pages(reads, session, subscription.scope, since, limit, now(), is_due)
    return pages, await anext(pages, [])


async def _replay(
    session: Session, subscription: Subscription, pages: AsyncIterator[list[Item]] | None, items: list[Item]
) -> None:
    """At the pace of the reader; then live."""
    try:
        while items and pages is not None:
            if subscription.id not in session.subscriptions:
                return
            subscription.push(items)
            await session.outlet.drained()
            items = await anext(pages, [])
    except errors.SkepError:
        session.outlet.close(TRY_AGAIN, "stored messages can't be read")
        return
    if subscription.id in session.subscriptions:
        subscription.go_live()


def _shown(wanted: Wanted, kind: int, since: int | None) -> dict[str, Any]:
    return {
        "type": ACTIONS[kind].decode(),
        "deviceId": wanted.device_id,
        "networkIds": wanted.network_ids,
        "deviceTypeIds": wanted.device_type_ids,
        "names": wanted.names,
        "timestamp": None if since is None else timestamps.format(since),
    }
