"""Requests that must be refused, with the words they are refused in (reference: 4, 5.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.system.model import asks, subscribing
from tests.system.model.client import Ask, Client, Refusal
from tests.system.model.oracle import COMMAND, NOTIFICATION
from tests.system.model.rights import CREATE_NOTIFICATION, UPDATE_COMMAND

if TYPE_CHECKING:
    from tests.system.model.run import Run

Mistake = Callable[["Run", Client, str], Ask]


def _ask(run: Run, client: Client, action: str, refusal: Refusal, **body: Any) -> Ask:
    return Ask(client, action, body, refusal, request_id=run.request_id())


def missing_device(run: Run, client: Client, device: str) -> Ask:
    refusal = asks.permit(client, CREATE_NOTIFICATION) or asks.reach(run, client, "nowhere")
    assert refusal is not None
    return _ask(run, client, "notification/insert", refusal, deviceId="nowhere", notification={"notification": "a"})


def missing_command(run: Run, client: Client, device: str) -> Ask:
    refusal = asks.permit(client, UPDATE_COMMAND) or asks.reach(run, client, device)
    refusal = refusal or Refusal(404, "Command with id = 1 not found")
    return _ask(run, client, "command/update", refusal, deviceId=device, commandId=1, command={"status": "s"})


def unknown_subscription(run: Run, client: Client, device: str) -> Ask:
    return subscribing.unsubscribe(run, client, COMMAND, 5)


def others_subscription(run: Run, client: Client, device: str) -> Ask:
    """The control socket has one."""
    return subscribing.unsubscribe(run, client, NOTIFICATION, next(iter(run.control.watches)))


def wrong_kind(run: Run, client: Client, device: str) -> Ask:
    """Of a subscription to commands, unsubscribed as one to notifications."""
    commands = [id for id, w in client.watches.items() if not w.ended and w.entity == COMMAND]
    return subscribing.unsubscribe(run, client, NOTIFICATION, commands[0] if commands else 6)


def empty_device(run: Run, client: Client, device: str) -> Ask:
    return subscribing.subscribe(run, client, NOTIFICATION, "")


def subscribe_to_missing_device(run: Run, client: Client, device: str) -> Ask:
    return subscribing.subscribe(run, client, COMMAND, "nowhere")


def subscribe_to_missing_network(run: Run, client: Client, device: str) -> Ask:
    return subscribing.subscribe(run, client, NOTIFICATION, networks=[987654, *run.world.networks[:1]])


def subscribe_to_missing_type(run: Run, client: Client, device: str) -> Ask:
    return subscribing.subscribe(run, client, COMMAND, types=[987654, 987655])


ALL: list[Mistake] = [
    missing_device, missing_command, unknown_subscription, others_subscription, wrong_kind, empty_device,
    subscribe_to_missing_device, subscribe_to_missing_network, subscribe_to_missing_type,
]  # fmt: skip
