"""Who sits where: the open sockets of plugins, their groups of the bus, and who has to leave. Pure.

A socket that names a group reads as `plugin-<plugin topic>.<group>`. One that names none takes the lowest free slot k
of its plugin and reads alone as `plugin-<plugin topic>.-<k>`, so that it gets everything, and who comes back goes on
where the slot's last reader stopped.
"""

from __future__ import annotations

import re
from collections import defaultdict

from msgspec.structs import replace

from skep import access
from skep.metadata.plugin_sockets import Arrangement, Hall, PluginGroup, PluginSocket
from skep.metadata.rows import PLUGIN_ACTIVE, Plugin
from skep.wire.plugins import Attend, Seat, Socket, stream

MISSING = "Plugin is not found"
NO_OWNER = "The plugin's owner is locked or disabled"
DISABLED = "Plugin is disabled"
TOO_MANY = "Too many sessions of this plugin"
BAD_GROUP = "A subscription group has 1 to 64 letters, digits, _ or -"
GROUPS = 64
"""Groups remembered of a plugin; past it those that were used least recently are forgotten."""

_SUFFIX = re.compile(r"[A-Za-z0-9_-]{0,64}")


def arrange(hall: Hall, told: Attend, limit: int) -> Arrangement:
    """limit: sockets of one plugin."""
    return _Arranging(hall, told, limit).done()


class _Arranging:
    def __init__(self, hall: Hall, told: Attend, limit: int) -> None:
        self._hall, self._told, self._limit = hall, told, limit
        self._result = Arrangement([])
        lapsed = {run for run, (silence, lease) in hall.proxies.items() if silence > lease}
        self._before = {socket.id: socket for socket in hall.sockets if socket.run == told.run}
        self._others: dict[int, list[PluginSocket]] = defaultdict(list)
        for socket in hall.sockets:
            if socket.run in lapsed:
                self._result.gone.append(socket)
            elif socket.run != told.run:
                self._others[socket.plugin_id].append(socket)
        self._own: dict[int, dict[int, PluginSocket]] = defaultdict(dict)
        self._groups = {(group.plugin_id, group.name): group for group in hall.groups}

    def done(self) -> Arrangement:
        # Those that sit keep their places, whatever order they are told in.
        refusals = {socket.id: self._refusal(socket) for socket in self._told.sockets}
        ordered = sorted(self._told.sockets, key=lambda s: (s.id not in self._before, s.since, s.id))
        for socket in ordered:
            if not refusals[socket.id]:
                refusals[socket.id] = self._enter(socket)
        for id, sat in self._before.items():
            if id not in self._own[sat.plugin_id]:
                self._result.gone.append(sat)
        for socket in ordered:
            self._place(socket)
        self._result.seats = [self._seat(socket, refusals[socket.id]) for socket in self._told.sockets]
        self._note()
        return self._result

    # -- who is let in ----------------------------------------------------------------------------------------------

    def _refusal(self, socket: Socket) -> str:
        if socket.topic not in self._hall.plugins:
            return MISSING
        plugin, owner = self._hall.plugins[socket.topic]
        if owner is None or owner.status != access.ACTIVE:
            return NO_OWNER
        if not plugin.enabled:
            return DISABLED
        if socket.group is not None and not _SUFFIX.fullmatch(socket.group):
            return BAD_GROUP
        return ""

    def _enter(self, socket: Socket) -> str:
        """Gives the refusal; without one and not among `_own`, the socket has to ask again."""
        plugin, _ = self._hall.plugins[socket.topic]
        own, before = self._own[plugin.id], self._before.get(socket.id)
        if before is not None and before.plugin_id == plugin.id:
            own[socket.id] = before
        elif len(own) + len(self._others[plugin.id]) < self._limit:
            now, address = self._hall.now, socket.address[:64]
            own[socket.id] = entered = PluginSocket(
                self._told.run, socket.id, plugin.id, None, None, address, socket.since, asked_at=now
            )
            self._result.entered.append(entered)
        elif not any(self._is_doubtful(other.run) for other in self._others[plugin.id]):
            return TOO_MANY
        return ""

    def _is_doubtful(self, run: str) -> bool:
        silence, lease = self._hall.proxies[run]
        return silence > lease / 2

    # -- where they sit ---------------------------------------------------------------------------------------------

    def _place(self, socket: Socket) -> None:
        plugin, _ = self._hall.plugins.get(socket.topic, (None, None))
        sitting = self._own[plugin.id].get(socket.id) if plugin is not None else None
        if plugin is None or sitting is None:
            return
        slot = sitting.slot if socket.group == "" else None
        if socket.group == "" and slot is None:
            slot = self._free_slot(plugin, sitting)
        placed = replace(sitting, suffix=socket.group, slot=slot)
        self._own[plugin.id][socket.id] = placed
        if placed != self._before.get(socket.id):
            self._result.sockets.append(placed)
            self._use(plugin, placed)

    def _free_slot(self, plugin: Plugin, sitting: PluginSocket) -> int | None:
        """None while a proxy that has a lower one has not been heard of since."""
        own = {other.slot for other in self._own[plugin.id].values()}
        others = {other.slot: other.run for other in self._others[plugin.id] if other.slot is not None}
        slot = next(k for k in range(len(own) + len(others) + 1) if k not in own and k not in others)
        since_asked = self._hall.now - sitting.asked_at
        if any(k < slot and self._hall.proxies[run][0] >= since_asked for k, run in others.items()):
            return None
        return slot

    def _use(self, plugin: Plugin, socket: PluginSocket) -> None:
        name = _group(plugin, socket)
        if not name:
            return
        known = self._groups.get((plugin.id, name))
        if known is None:
            others = [group for (id, _), group in self._groups.items() if id == plugin.id]
            known = PluginGroup(plugin.id, name, plugin.stream, is_first=not others, used_at=self._hall.now)
            self._forget(plugin, others)
        self._groups[plugin.id, name] = used = replace(known, used_at=self._hall.now)
        self._result.groups.append(used)

    def _forget(self, plugin: Plugin, groups: list[PluginGroup]) -> None:
        sitting = [*self._own[plugin.id].values(), *self._others[plugin.id]]
        in_use = {_group(plugin, socket) for socket in sitting}
        old = sorted((g for g in groups if g.name not in in_use), key=lambda group: group.used_at)
        for group in old[: max(0, len(groups) + 1 - GROUPS)]:
            self._result.forgotten.append(group)
            del self._groups[plugin.id, group.name]

    # -- what they are told -----------------------------------------------------------------------------------------

    def _seat(self, socket: Socket, refusal: str) -> Seat:
        if refusal:
            return Seat(socket.id, refusal=refusal)
        plugin, _ = self._hall.plugins[socket.topic]
        sitting = self._own[plugin.id].get(socket.id)
        if sitting is None:
            return Seat(socket.id)
        name = _group(plugin, sitting)
        group = self._groups.get((plugin.id, name))
        # A group that was there before this stream began misses nothing of it.
        earliest = group is not None and (group.is_first or group.stream < plugin.stream)
        return Seat(socket.id, stream(plugin.topic_name, plugin.stream), name, earliest)

    def _note(self) -> None:
        touched = {s.plugin_id for s in self._result.gone} | {
            s.plugin_id for s in self._result.sockets if s.id not in self._before
        }
        for plugin, _ in self._hall.plugins.values():
            is_active = bool(self._own[plugin.id] or self._others[plugin.id])
            late = is_active and plugin.enabled and plugin.status != PLUGIN_ACTIVE
            if plugin.id in touched or late:
                self._result.active[plugin.id] = is_active


def _group(plugin: Plugin, socket: PluginSocket) -> str:
    if socket.suffix is None or (socket.suffix == "" and socket.slot is None):
        return ""
    return f"plugin-{plugin.topic_name}.{socket.suffix or f'-{socket.slot}'}"
