"""Actions of the WebSocket API: one module a topic, one entry an action, found by the JSON's `action`."""

from frontend.core.actions import (  # noqa: F401
    commands,
    configuration,
    containers,
    devices,
    info,
    memberships,
    notifications,
    plugins,
    subscriptions,
    table,
    tokens,
    users,
)

__all__ = ["table"]
