"""A plugin as the API shows it."""

from __future__ import annotations

from plugin_manager.core.positions import Position
from skep.metadata.plugin_sockets import Contact, PluginSocket
from skep.metadata.rows import PLUGIN_ACTIVE, PLUGIN_CREATED, PLUGIN_INACTIVE, Plugin
from skep.wire import timestamps
from skep.wire.plugin_api import PluginSocketView, PluginView
from skep.wire.views import raw

STATUS = {PLUGIN_ACTIVE: "ACTIVE", PLUGIN_INACTIVE: "INACTIVE", PLUGIN_CREATED: "CREATED"}


def plugin(row: Plugin, contact: Contact, position: Position | None) -> PluginView:
    """position: None where the bus did not say."""
    last = max(contact.at, row.last_contact or 0)
    return PluginView(
        id=row.id,
        name=row.name,
        description=row.description,
        topic_name=row.topic_name,
        filter=row.filter,
        status=STATUS[row.status],
        # A plugin has one subscription, which is called like it.
        subscription_id=row.id if row.status == PLUGIN_ACTIVE else None,
        user_id=row.user_id,
        parameters=raw(row.parameters),
        retention=row.retention // 1000,
        enabled=row.enabled,
        lag=None if position is None else position.lag,
        positions=[] if position is None else position.groups,
        last_contact=timestamps.format(last) if last else None,
        sockets=[_socket(socket) for socket in contact.sockets],
    )


def _socket(socket: PluginSocket) -> PluginSocketView:
    group = socket.suffix or (None if socket.slot is None else f"-{socket.slot}")
    return PluginSocketView(socket.address, timestamps.format(socket.since), group)
