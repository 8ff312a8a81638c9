"""Subscriptions of a run: what they are told, what may come of the past, and what must."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tests.system.model import times
from tests.system.model.asks import permit, reach
from tests.system.model.client import DENIED, Ask, Client, Refusal, Reply
from tests.system.model.oracle import COMMAND, NOTIFICATION, READS, UPDATE, Event, Mode, Watch
from tests.system.model.rights import GET_COMMAND, GET_NOTIFICATION, Token

if TYPE_CHECKING:
    from tests.system.model.run import Run

DEFAULT_LIMIT = 20


def subscribe(
    run: Run,
    client: Client,
    kind: str,
    device: str | None = None,
    networks: list[int] | None = None,
    types: list[int] | None = None,
    names: list[str] | None = None,
    since: int | None = None,
    limit: int | None = None,
) -> Ask:
    """limit: of a replay of commands; None is the API's default."""
    action = NOTIFICATION if kind == NOTIFICATION else COMMAND
    given = {"deviceId": device, "networkIds": networks, "deviceTypeIds": types, "names": names}
    body: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    if since is not None:
        body["timestamp"] = times.text(since)
    if kind == UPDATE:
        body["returnUpdatedCommands"] = True
    if kind != NOTIFICATION and limit is not None:
        body["limit"] = limit
    refusal = permit(client, READS[kind]) or reach_all(run, client, device, networks, types)
    ask = Ask(client, f"{action}/subscribe", body, refusal, frozenset({"subscriptionId"}), run.request_id())
    if refusal is not None:
        return ask
    caller = client.caller
    assert caller is not None
    within = caller.seen_networks() if networks is None else frozenset(networks)
    of_types = caller.seen_types() if types is None else frozenset(types)
    if device is None and (within == frozenset() or of_types == frozenset()):
        ask.refusal = Refusal(403, "No access to any device type or network")
        return ask
    follows = device is None and networks is None and types is None
    watch = Watch(kind, device, within, of_types, frozenset(names) if names else None, since, follows)
    watch.request = {"type": action, **given, "timestamp": None if since is None else times.text(since)}
    most = 0 if kind == NOTIFICATION else DEFAULT_LIMIT if limit is None else limit

    def begin() -> None:
        watch.rank, watch.index = run.step, ask.index
        client.wanted.append(watch)
        _allow_stored(run, watch, client.caller, most)

    def succeeded(reply: Reply) -> None:
        id = reply["subscriptionId"]
        assert 0 < id < 2**53, "no id for JavaScript"
        assert id not in client.watches, "no fresh id"
        client.watches[id] = watch
        client.wanted.remove(watch)

    ask.begin, ask.succeeded, ask.settle, ask.order = begin, succeeded, lambda: _owe_stored(watch, most), 0
    return ask


def _allow_stored(run: Run, watch: Watch, holder: Token | None, most: int) -> None:
    """What a replay brings, and what was sent but may not have passed the frontend yet."""
    stored = []
    for message in run.messages.values():
        if not watch.wants(message, holder):
            continue
        last = watch.event_of(message)
        for event in message.events[1:] if watch.kind == UPDATE else message.events[:1]:
            is_old = event is not last or watch.since is None or (event.time is not None and event.time <= watch.since)
            if not event.settled:
                watch.allow(event, Mode.LIVE if is_old and event is last else Mode.EITHER)
            elif not is_old:
                stored.append(event)
    for event in cut(stored, most):
        watch.allow(event, Mode.REPLAY)


def cut(events: list[Event], most: int) -> list[Event]:
    """The oldest, up to a limit (0: none); of those that tie at the limit, all."""
    oldest = sorted(events, key=lambda event: event.time or 0)
    if not most or len(oldest) <= most:
        return oldest
    return [event for event in oldest if (event.time or 0) <= (oldest[most - 1].time or 0)]


def _owe_stored(watch: Watch, most: int) -> None:
    if watch.ended or watch.since is None:
        return
    owed = [e for e in watch.due if e is watch.event_of(e.message) and e.exists and (e.time or 0) > watch.since]
    if most and len(owed) > most:  # of those that tie at the limit some come
        last = max(event.time or 0 for event in owed)
        owed = [event for event in owed if event.time != last]
    for event in owed:
        watch.owe(event)


def unsubscribe(run: Run, client: Client, entity: str, id: int | None) -> Ask:
    """id None: all of the entity, also those asked for before it in the same step."""
    refusal = permit(client, READS[entity])
    body = {} if id is None else {"subscriptionId": id}
    ask = Ask(client, f"{entity}/unsubscribe", body, refusal, request_id=run.request_id())
    if refusal is None and id is not None and not any(w.entity == entity for w in _with_id(client, id)):
        ask.refusal = Refusal(404, f"Subscription with id {id} was not found")
    if ask.refusal is not None:
        return ask
    ending: list[Watch] = []

    def begin() -> None:
        earlier = [w for w in client.wanted if w.entity == entity and w.index < ask.index]
        ending.extend(_with_id(client, id) if id is not None else [*client.live(entity), *earlier])

    def succeeded(reply: Reply) -> None:
        for watch in ending:
            watch.ended = True

    ask.begin, ask.succeeded, ask.settle, ask.order = begin, succeeded, lambda: _forgive(ending), 1
    return ask


def _with_id(client: Client, id: int) -> list[Watch]:
    return [watch for number, watch in client.watches.items() if number == id and not watch.ended]


def _forgive(ended: Iterable[Watch]) -> None:
    for watch in ended:
        watch.forgive()


def list_subscriptions(run: Run, client: Client, entity: str | None) -> Ask:
    refusal = permit(client, GET_COMMAND, GET_NOTIFICATION)
    body = {} if entity is None else {"type": entity}
    ask = Ask(client, "subscription/list", body, refusal, frozenset({"subscriptions"}), run.request_id())

    def succeeded(reply: Reply) -> None:
        caller = client.caller
        assert caller is not None
        expected = [
            {"subscriptionId": id, **watch.request}
            for id, watch in client.watches.items()
            if not watch.ended and READS[watch.entity] in caller.actions and entity in (None, watch.entity)
        ]
        found = sorted(reply["subscriptions"], key=lambda s: s["subscriptionId"])
        assert found == sorted(expected, key=lambda s: s["subscriptionId"]), f"expected {expected}"

    ask.succeeded = succeeded
    return ask


def reach_all(
    run: Run,
    client: Client,
    device: str | None = None,
    networks: list[int] | None = None,
    types: list[int] | None = None,
) -> Refusal | None:
    """Whether somebody with a permission may subscribe to that."""
    refusal = None if device is None else reach(run, client, device)
    return refusal or _contain(client, run, networks, types)


def _contain(client: Client, run: Run, networks: list[int] | None, types: list[int] | None) -> Refusal | None:
    caller = client.caller
    assert caller is not None
    for wanted, seen, known, noun in (
        (networks, caller.seen_networks(), run.world.networks, "Networks with such networkIds"),
        (types, caller.seen_types(), run.world.types, "Device types with such deviceTypeIds"),
    ):
        missing = [i for i in wanted or () if i not in known or (seen is not None and i not in seen)]
        if missing:
            text = f"{noun} wasn't found: {{[{', '.join(map(str, missing))}]}}"
            return Refusal(404, text) if caller.user.admin else DENIED
    return None
