"""subscription/list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frontend.core.actions.table import Request, action
from frontend.core.subscriptions import action_of
from skep.access import Action

if TYPE_CHECKING:
    from frontend.core.session import Session


class ListSubscriptions(Request, tag="subscription/list"):
    type: str | None = None


@action(ListSubscriptions, Action.GET_DEVICE_COMMAND, Action.GET_DEVICE_NOTIFICATION)
def list_(session: Session, request: ListSubscriptions) -> dict[str, Any]:
    caller = session.caller
    shown = [
        {"subscriptionId": s.id, **s.request}
        for s in session.subscriptions.values()
        if caller.can(action_of(s.scope.kind)) and request.type in (None, s.request["type"])
    ]
    return {"subscriptions": shown}
