"""Messages of a run: inserts, updates of commands, saves of devices with the notification they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.system.model import times
from tests.system.model.asks import allow, owe, permit, reach
from tests.system.model.client import Ask, Client, Reply
from tests.system.model.oracle import COMMAND, NOTIFICATION, Event, Message, State
from tests.system.model.rights import CREATE_COMMAND, CREATE_NOTIFICATION, UPDATE_COMMAND, Place

if TYPE_CHECKING:
    from tests.system.model.run import Run

CLOSING = "closing"
FORMS = ["both", "status", "result", "clear"]
CREATES = {NOTIFICATION: CREATE_NOTIFICATION, COMMAND: CREATE_COMMAND}
CREATED = {NOTIFICATION: {"id", "timestamp"}, COMMAND: {"id", "timestamp", "lastUpdated", "userId"}}


def publish(
    run: Run,
    client: Client,
    entity: str,
    device: str,
    name: str,
    own_time: int | None = None,
    key: str | None = None,
) -> Ask:
    """An insert; with a key that the sender used for the device before, the same insert again."""
    key = None if key is None else f"{key} {run.began}"  # not one of an earlier run
    refusal = permit(client, CREATES[entity]) or reach(run, client, device)
    ask = Ask(client, f"{entity}/insert", {"deviceId": device}, refusal, frozenset({entity}), run.request_id())
    user = client.caller.user.id if client.caller is not None else None
    slot = (entity, user or 0, device, key or "")
    message = run.keys.get(slot) if key is not None and refusal is None else None
    fresh = message is None
    if message is None:
        run.world.number += 1
        number = run.world.number
        place = run.world.places.get(device, (0, 0))
        message = Message(entity, number, name, device, place, user, {"n": number}, own_time)
        if key is not None and refusal is None:
            run.keys[slot] = message
    ask.body |= {entity: _body(message)} | ({} if key is None else {"idempotencyKey": key})
    if refusal is None and fresh:
        _insert(run, ask, message)
    elif refusal is None:
        _repeat(run, ask, message)
    return ask


def _body(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {message.entity: message.name, "parameters": message.parameters}
    if message.own_time is not None:
        body["timestamp"] = times.text(message.own_time)
    return body


def _insert(run: Run, ask: Ask, message: Message) -> None:
    ask.message = message

    def begin() -> None:
        run.messages[message.number] = message
        allow(run, Event(message, run.step))

    def succeeded(reply: Reply) -> None:
        _check_created(message, reply)
        if message.entity == COMMAND:
            assert reply[COMMAND]["lastUpdated"] == reply[COMMAND]["timestamp"], "updated before it is there"
        message.inserted.exists = True

    def settle() -> None:
        message.inserted.state.updated = message.time
        owe(run, message.inserted)

    ask.begin, ask.succeeded, ask.settle = begin, succeeded, settle


def _repeat(run: Run, ask: Ask, message: Message) -> None:
    def begin() -> None:
        if message.events and message.inserted.exists is None:
            allow(run, message.inserted)  # nobody knows whether it has come through yet

    def succeeded(reply: Reply) -> None:
        _check_created(message, reply)

    ask.begin, ask.succeeded = begin, succeeded


def _check_created(message: Message, reply: Reply) -> None:
    made = reply[message.entity]
    assert made.keys() == CREATED[message.entity], "the wrong fields"
    message.identify(made["id"], made["timestamp"])
    assert message.entity == NOTIFICATION or made["userId"] == message.user, "another's command"


def written(mark: str, form: str) -> dict[str, Any]:
    """What an update says, in one of `FORMS`."""
    status, result = {"status": mark}, {"result": {"u": mark}}
    return {"both": status | result, "status": status, "result": result, "clear": {"status": None, **result}}[form]


def update(run: Run, client: Client, message: Message, changes: dict[str, Any]) -> Ask:
    """changes: status, result. The command is stored."""
    refusal = permit(client, UPDATE_COMMAND) or reach(run, client, message.device)
    body = {"deviceId": message.device, "commandId": message.id, "command": changes}
    ask = Ask(client, "command/update", body, refusal, request_id=run.request_id())
    if refusal is not None:
        return ask

    def begin() -> None:
        old = message.events[-1].state
        state = State(changes.get("status", old.status), changes.get("result", old.result))
        event = Event(message, run.step, state)
        ask.event = event
        allow(run, event)

    def succeeded(reply: Reply) -> None:
        assert ask.event is not None
        ask.event.exists = True

    def settle() -> None:
        assert ask.event is not None
        owe(run, ask.event)

    ask.begin, ask.succeeded, ask.settle = begin, succeeded, settle
    return ask


def get_command(run: Run, client: Client, message: Message) -> Ask:
    """Finds out which update was the last, and when it was."""
    body = {"deviceId": message.device, "commandId": message.id}
    ask = Ask(client, "command/get", body, gives=frozenset({COMMAND}), request_id=run.request_id())

    def succeeded(reply: Reply) -> None:
        shown = reply[COMMAND]
        at = times.ms(shown["lastUpdated"])
        fitting = [event for event in message.events if event.shows(shown["status"], shown["result"], at)]
        assert fitting, f"no state of {message!r}"
        last = fitting[-1]
        last.state.updated, last.exists = at, True
        lost = [event for event in message.events if event.exists is None and event.rank > last.rank]
        for event in lost:
            message.events.remove(event)
        if last is not message.inserted:
            message.events.remove(last)
            message.events.append(last)

    ask.succeeded = succeeded
    return ask


def move(run: Run, device: str, place: Place) -> Ask:
    """By the administrator; its `$device-update` is a notification like others."""
    run.world.number += 1
    number, name = run.world.number, f"{device} {run.world.number}"
    saved = {"name": name, "networkId": place[0], "deviceTypeId": place[1], "data": {"n": number}}
    ask = Ask(run.control, "device/save", {"deviceId": device, "device": saved}, request_id=run.request_id())
    shown = {"id": device, **saved, "isBlocked": False}
    message = Message(NOTIFICATION, number, "$device-update", device, place, None, shown)

    def begin() -> None:
        run.messages[number] = message
        allow(run, Event(message, run.step))

    def succeeded(reply: Reply) -> None:
        run.world.places[device] = place
        message.inserted.exists = True

    ask.message = message
    ask.begin, ask.succeeded, ask.settle = begin, succeeded, lambda: owe(run, message.inserted)
    return ask


def publish_by_rest(run: Run, caller: Client, entity: str, device: str, name: str, key: str | None) -> Ask:
    """Over HTTP, judged by the same rules. caller: of `Run.visitor`."""
    ask = publish(run, caller, entity, device, name, None, key)
    ask.by = lambda: _by_rest(run, ask, entity, device)
    return ask


def _by_rest(run: Run, ask: Ask, entity: str, device: str) -> Reply:
    token = ask.client.token
    assert token is not None
    headers = {"Idempotency-Key": ask.body["idempotencyKey"]} if "idempotencyKey" in ask.body else {}
    status, found = run.world.request("POST", f"device/{device}/{entity}", ask.body[entity], token.text, **headers)
    echo = {"action": ask.action, "requestId": ask.request_id}
    if status == 201:
        return {**echo, "status": "success", entity: found}
    return {**echo, "status": "error", "code": found["error"], "error": found["message"]}
