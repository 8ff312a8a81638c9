"""Plugins, owners and random ones of both."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st

from skep import access
from skep.access import User
from skep.metadata.plugins import PluginState
from skep.metadata.rows import Plugin
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE
from skep.wire.plugins import Filter

TOPIC = "plugin_topic_1"
NETWORKS, TYPES = [1, 2, 3, 4], [11, 12, 13]
DEVICES, NAMES = ["d1", "d2"], ["heat", "light", "a/b"]
KINDS = [NOTIFICATION, COMMAND, UPDATE]

Message = tuple[int, int, int, str, str]
"""(kind, network, device type, device, name)"""

messages = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from(NETWORKS),
    st.sampled_from(TYPES),
    st.sampled_from(DEVICES),
    st.sampled_from(NAMES),
)


def _some(values: list, least: int = 1) -> st.SearchStrategy:
    return st.none() | st.lists(st.sampled_from(values), min_size=least, unique=True)


filters = st.builds(
    Filter,
    kinds=_some(KINDS),
    networks=_some(NETWORKS),
    device_types=_some(TYPES),
    device_id=st.none() | st.sampled_from(DEVICES),
    names=_some(NAMES),
)
users = st.none() | st.builds(
    User,
    id=st.just(7),
    login=st.just("x"),
    role=st.sampled_from([access.CLIENT, access.CLIENT, access.ADMIN]),
    status=st.sampled_from([access.ACTIVE, access.ACTIVE, access.ACTIVE, access.DISABLED, access.LOCKED_OUT]),
    networks=st.frozensets(st.sampled_from(NETWORKS)),
    device_types=st.frozensets(st.sampled_from(TYPES)),
    all_device_types=st.booleans(),
)


def state(
    wanted: Filter = Filter(),  # noqa: B008
    owner: User | None = None,
    networks: list[int] = NETWORKS,
    types: list[int] = TYPES,
    **columns: object,
) -> PluginState:
    """networks, types: those that exist."""
    row = {"id": 5, "name": "n", "description": None, "topic_name": TOPIC, "filter": "", "status": 2, "user_id": 7}
    plugin = Plugin(**row, parameters=None, wanted=msgspec.json.encode(wanted), **columns)  # type: ignore[arg-type]
    named = frozenset(wanted.networks or ()) & frozenset(networks)
    named_types = frozenset(wanted.device_types or ()) & frozenset(types)
    return PluginState(plugin, owner, networks=named, device_types=named_types)


def may_have(message: Message, wanted: Filter, owner: User | None) -> bool:
    """Whether the plugin should get the message: the rule once more, as a person would say it."""
    kind, network, device_type, device, name = message
    if owner is None or owner.status != access.ACTIVE:
        return False
    if owner.role != access.ADMIN:
        if network not in owner.networks:
            return False
        if not owner.all_device_types and device_type not in owner.device_types:
            return False
    asked = [
        (wanted.kinds, kind),
        (wanted.networks, network),
        (wanted.device_types, device_type),
        (wanted.device_id and [wanted.device_id], device),
        (wanted.names, name),
    ]
    return all(allowed is None or value in allowed for allowed, value in asked)
