"""What the API of plugins does."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import uuid

import msgspec
from msgspec.structs import replace

from plugin_manager.core import attendance, filters, plans, requests, views
from plugin_manager.core.changes import Changes
from plugin_manager.core.ports import Bus
from plugin_manager.core.positions import Positions
from plugin_manager.core.requests import Existing
from plugin_manager.core.streams import Streams
from plugin_manager.settings import Settings
from skep import access, errors, logs
from skep.access import Principal
from skep.metadata.lists import descending
from skep.metadata.plugin_sockets import Contact, PluginSockets
from skep.metadata.plugins import Plugins, PluginState, check_access, too_many
from skep.metadata.rows import PLUGIN_ACTIVE, PLUGIN_CREATED, NewPlugin, Plugin, PluginChanges, given
from skep.wire import messages, topics
from skep.wire.plugin_api import (
    FilterQuery,
    ListQuery,
    PluginRegistered,
    PluginView,
    Registration,
    Selection,
    UpdateQuery,
)
from skep.wire.plugins import TOPIC, Attend, Attendance, Filter

FILTER_OF_ACTIVE = "Plugin's subscription filter can't be updated if plugin is ACTIVE"
TOO_WIDE = "The filter is too large: {} combinations of kind, network, device type and name, of at most {}"

TIMEOUT = 10.0
"""Seconds for a registration, which makes a topic, and waits for auth and for every backend."""

log = logs.get("plugin_manager")

_decode_tokens = msgspec.msgpack.Decoder(messages.Tokens).decode
_decode_filter = msgspec.json.Decoder(Filter).decode


class Manager:
    """`skep.web.plugins.Plugins`, and the answers to plugin proxies. All methods raise `SkepError`."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        plugins: Plugins,
        sockets: PluginSockets,
        existing: Existing,
        streams: Streams,
        changes: Changes,
    ) -> None:
        self._settings, self._bus, self._plugins, self._sockets = settings, bus, plugins, sockets
        self._existing, self._streams, self._changes = existing, streams, changes
        self._positions = Positions(bus)

    # -- reading ------------------------------------------------------------------------------------------------------

    async def list(self, caller: Principal, token: str, query: ListQuery) -> builtins.list[PluginView]:
        """A plugin's token lists the plugins of its owner."""
        found = await self._plugins.list(
            caller,
            query.name,
            query.name_pattern,
            query.topic_name,
            query.status,
            query.user_id,
            query.sort_field,
            descending(query.sort_order),
            query.take,
            query.skip,
        )
        contacts, positions = await asyncio.gather(
            self._sockets.contacts([plugin.id for plugin in found]), self._positions.of(found)
        )
        nobody = Contact([], 0)
        return [views.plugin(p, contacts.get(p.id, nobody), positions.get(p.id)) for p in found]

    async def count(self, caller: Principal, token: str, query: Selection) -> int:
        return await self._plugins.count(
            caller, query.name, query.name_pattern, query.topic_name, query.status, query.user_id
        )

    # -- registering --------------------------------------------------------------------------------------------------

    async def register(self, caller: Principal, token: str, query: FilterQuery, body: Registration) -> PluginRegistered:
        """Answered when what matches is collected."""
        if caller.topic is not None:
            raise errors.Forbidden
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._register(caller, token, query, body)
        except TimeoutError:
            raise errors.Unavailable from None

    async def _register(
        self, caller: Principal, token: str, query: FilterQuery, body: Registration
    ) -> PluginRegistered:
        name, description, parameters = requests.registration(body)
        retention = requests.retention(query)
        plugin = Plugin(
            id=0,
            name=name,
            description=description,
            topic_name=f"{TOPIC}{uuid.uuid4()}",
            filter="",
            status=PLUGIN_CREATED,
            user_id=caller.user_id,
            parameters=parameters,
            wanted=msgspec.json.encode(await requests.wanted(caller, query, self._existing)),
            retention=retention or self._settings.retention * 1000,
        )
        state = _state(plugin, caller.user)
        self._check_extent(state)
        await self._check_count(caller)
        plugin = replace(plugin, stream=await self._streams.reserve(plugin.topic_name, plugin.retention))
        state = replace(state, plugin=plugin)
        try:
            await self._insert(caller, state)
            await self._streams.in_effect()
            pair = await self._tokens(token, plugin.topic_name)
        except (errors.SkepError, asyncio.CancelledError):
            with contextlib.suppress(errors.Forbidden, errors.NotFound):  # it may not have come so far
                await self.delete(caller, token, plugin.topic_name)  # nobody was told of it
            raise
        return PluginRegistered(pair.access_token, pair.refresh_token, self._settings.proxy_endpoint, plugin.topic_name)

    async def _insert(self, caller: Principal, state: PluginState) -> None:
        plugin = state.plugin
        extent = filters.extent(state)
        interests = extent.interests()
        new = NewPlugin(
            name=plugin.name,
            description=plugin.description,
            topic_name=plugin.topic_name,
            filter=filters.text(_decode_filter(plugin.wanted), extent),
            user_id=caller.user_id,
            parameters=plugin.parameters,
            wanted=plugin.wanted,
            retention=plugin.retention,
            interests=filters.pack(interests),
            collecting=True,
            stream=plugin.stream,
        )
        await self._plugins.insert(new, self._settings.plugins, plans.held(plugin, interests))

    async def _check_count(self, caller: Principal) -> None:
        """Who has enough plugins already makes no more topics; the transaction that inserts counts once more."""
        if await self._plugins.count_of(caller.user_id) >= self._settings.plugins:
            raise too_many(self._settings.plugins)

    async def _tokens(self, token: str, topic_name: str) -> messages.Tokens:
        request = msgspec.json.encode({"tpc": topic_name, "a": [int(access.Action.MANAGE_PLUGIN)]})
        body = messages.CreatePluginToken(token, request)
        try:
            return _decode_tokens(await self._bus.request(topics.AUTH_REQUESTS, body))
        except errors.Unavailable as error:
            if error.status != errors.Unavailable.status:
                raise
            raise errors.Unavailable("Authentication service is not available") from error

    # -- changing -----------------------------------------------------------------------------------------------------

    async def update(self, caller: Principal, token: str, query: UpdateQuery) -> None:
        """Answered when it is in effect."""
        topic_name = caller.topic or query.topic_name or ""
        plugin = check_access(caller, await self._plugins.by_topic(topic_name))
        changes = requests.changes(query)
        retention = requests.retention(query)
        if retention is not None:
            changes = replace(changes, retention=retention)
        if caller.topic is not None and not plugin.enabled and changes.enabled is True:
            raise errors.Forbidden  # who was stopped does not start itself
        if requests.names_filter(query):
            _check_filter_may_change(plugin, changes)
            present = _decode_filter(plugin.wanted) if caller.topic is not None else None
            asked = await requests.wanted(caller, query, self._existing, present)
            changes = replace(changes, wanted=msgspec.json.encode(asked))

        def edit(state: PluginState) -> PluginChanges:
            check_access(caller, state.plugin)
            if changes.wanted is not msgspec.UNSET:
                _check_filter_may_change(state.plugin, changes)
                self._check_extent(_state(plans.edited(state.plugin, changes), state.owner))
            return changes

        changed = check_access(caller, await self._changes.make(topic_name, edit))
        if retention is not None:
            await self._streams.renew(topic_name, changed.stream, changed.retention)
        await self._streams.in_effect()

    def _check_extent(self, state: PluginState) -> None:
        """Raises Forbidden where nothing is left of what was asked for, BadRequest where it is too much."""
        size, most = len(filters.extent(state)), self._settings.filters
        if not size:
            raise errors.Forbidden
        if size > most:
            raise errors.BadRequest(TOO_WIDE.format(size, most))

    async def delete(self, caller: Principal, token: str, topic_name: str | None) -> None:
        topic_name = caller.topic or topic_name or ""
        await self._plugins.delete(caller, topic_name, plans.farewell)
        self._streams.kick()

    # -- plugin proxies -----------------------------------------------------------------------------------------------

    async def attend(self, told: Attend) -> Attendance:
        limit = self._settings.sockets
        done = await self._sockets.attend(told, lambda hall: attendance.arrange(hall, told, limit))
        for socket in done.entered:
            # A stolen token shows itself by where it is used.
            log.info("plugin %d has a socket from %s", socket.plugin_id, socket.address)
        return Attendance(done.seats)


def _state(plugin: Plugin, owner: access.User | None) -> PluginState:
    """What a filter that was just checked gives: all that it names exists."""
    wanted = _decode_filter(plugin.wanted)
    return PluginState(
        plugin,
        owner,
        networks=frozenset(wanted.networks or ()),
        device_types=frozenset(wanted.device_types or ()),
    )


def _check_filter_may_change(plugin: Plugin, changes: PluginChanges) -> None:
    status = given(changes.status)
    if plugin.status == PLUGIN_ACTIVE and status in (None, PLUGIN_ACTIVE):
        raise errors.BadRequest(FILTER_OF_ACTIVE)
