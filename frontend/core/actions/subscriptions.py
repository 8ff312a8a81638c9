"""subscription/list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from frontend.core.actions.table import Request, action
from frontend.core.subscriptions import action_of
from skep.access import Action
from skep.wire.fields import Timestamp

if TYPE_CHECKING:
    from frontend.core.session import Session


class SubscriptionView(Struct, rename="camel"):
    """What was asked for, null where nothing was given. type: `command` or `notification`."""

    subscription_id: int
    type: str
    device_id: str | None
    network_ids: list[int] | None
    device_type_ids: list[int] | None
    names: list[str] | None
    timestamp: Timestamp | None


class ListSubscriptions(Request, tag="subscription/list"):
    type: str | None = None


@action(
    ListSubscriptions,
    Action.GET_DEVICE_COMMAND,
    Action.GET_DEVICE_NOTIFICATION,
    answers={"subscriptions": list[SubscriptionView]},
)
def list_(session: Session, request: ListSubscriptions) -> dict[str, Any]:
    caller = session.caller
    shown = [
        {"subscriptionId": s.id, **s.request}
        for s in session.subscriptions.values()
        if caller.can(action_of(s.scope.kind)) and request.type in (None, s.request["type"])
    ]
    return {"subscriptions": shown}
