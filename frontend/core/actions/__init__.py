"""Actions of the WebSocket API: one module a topic, one entry an action, found by the JSON's `action`."""

from frontend.core.actions import commands, devices, info, notifications, subscriptions, table, tokens  # noqa: F401

__all__ = ["table"]
