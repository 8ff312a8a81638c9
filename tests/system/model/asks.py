"""The requests of a run: for each what it says, the reply it must get, and what it makes of the run's state.

Messages are in `sending.py`, subscriptions in `subscribing.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tests.system.model.client import DENIED, UNAUTHORIZED, Ask, Client, Refusal, Reply
from tests.system.model.oracle import UPDATE, Event, Mode
from tests.system.model.rights import Token

if TYPE_CHECKING:
    from tests.system.model.run import Run

NO_DEVICE_ID = Refusal(400, "Device id is wrong or empty")


# -- who may ---------------------------------------------------------------------------------------------------------


def permit(client: Client, *actions: int) -> Refusal | None:
    if client.caller is None:
        return UNAUTHORIZED
    return None if any(action in client.caller.actions for action in actions) else DENIED


def reach(run: Run, client: Client, device: str) -> Refusal | None:
    """Whether somebody with a permission may use the device."""
    assert client.caller is not None
    if not device:
        return NO_DEVICE_ID
    place = run.world.places.get(device)
    if place is None and client.caller.sees_everything:
        return Refusal(404, f"Device with such deviceId = {device} not found")
    return None if place is not None and client.caller.sees(place) else DENIED


# -- what comes of them ------------------------------------------------------------------------------------------------


def allow(run: Run, event: Event) -> None:
    """To every subscription that it matches, those on their way too."""
    is_update = event is not event.message.inserted
    for client, watch in run.watches():
        wanted = any(watch.wants(event.message, holder) for holder in client.holders())
        if (watch.kind == UPDATE) == is_update and wanted:
            watch.allow(event, Mode.EITHER if watch.rank == run.step else Mode.LIVE)


def owe(run: Run, event: Event) -> None:
    """To those subscriptions that were there before it was sent, and whose holders saw it all the time."""
    for client, watch in run.watches():
        sure = event.message.place not in watch.unsure
        wanted = all(watch.wants(event.message, holder) for holder in client.holders())
        if event in watch.due and watch.rank < event.rank and sure and wanted:
            watch.owe(event)


def check_sending_order(step: Iterable[Ask]) -> None:
    """One socket's messages of one device are stamped in the order they were sent."""
    last: dict[tuple[Client, str, str], int] = {}
    for ask in step:
        message = ask.message
        if message is None or message.own_time is not None or message.time is None or not ask.success:
            continue
        line = (ask.client, message.entity, message.device)
        assert message.time > last.get(line, 0), f"stamped out of order: {message!r}"
        last[line] = message.time


# -- others ------------------------------------------------------------------------------------------------------------


def ping(run: Run, client: Client) -> Ask:
    return Ask(client, "server/info", {}, gives=frozenset({"info"}), request_id=run.request_id())


def authenticate(run: Run, client: Client, token: Token | None, text: str | None = None) -> Ask:
    """token None: `text` is of no use."""
    refusal = Refusal(401, "Invalid credentials") if token is None or token.user.disabled else None
    body = {"token": text if text is not None or token is None else token.text}
    ask = Ask(client, "authenticate", body, refusal, request_id=run.request_id())

    def succeeded(reply: Reply) -> None:
        client.token = token

    ask.succeeded = succeeded
    return ask


def list_devices(run: Run, client: Client) -> Ask:
    """To see whether rights have arrived."""
    body = {"namePattern": f"{run.world.prefix}%"}
    return Ask(client, "device/list", body, request_id=run.request_id(), judged=False)


def refresh(run: Run, client: Client, refresh_token: str) -> Ask:
    return Ask(
        client,
        "token/refresh",
        {"refreshToken": refresh_token},
        gives=frozenset({"accessToken"}),
        request_id=run.request_id(),
    )
