"""Keeps what is collected for plugins within what their owners may see."""

from __future__ import annotations

import asyncio

from plugin_manager.core.changes import Changes
from plugin_manager.core.streams import Streams
from skep import errors, logs
from skep.metadata.plugins import Plugins
from skep.metadata.rows import PluginChanges

AT_A_TIME = 8
"""Plugins looked at at a time."""
RETRY = 0.5
"""Seconds before a second look where the first one failed."""

log = logs.get("plugin_manager")


class Follower:
    """Told of changes of metadata (`changed`), it looks at the plugins concerned. Several may do so at once."""

    def __init__(self, plugins: Plugins, changes: Changes, streams: Streams) -> None:
        self._plugins, self._changes, self._streams = plugins, changes, streams
        self._all = False
        self._naming: set[str] = set()
        self._users: set[int] = set()
        self._topics: set[str] = set()
        self._wake = asyncio.Event()

    def changed(self, entity: str, ids: list[str]) -> None:
        """Listener of `Caches`. No ids: any of that entity may have."""
        if entity == "user":
            self._users.update(int(id) for id in ids if id.isdigit())
        elif entity == "plugin":
            self._topics.update(ids)
        elif entity in ("network", "device_type"):
            self._naming.add(f"{entity}s")
        else:
            return
        self._all = self._all or (not ids and entity in ("user", "plugin"))
        self._wake.set()

    async def follow(self) -> None:
        """Until cancelled."""
        places = asyncio.Semaphore(AT_A_TIME)
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                due = await self._due()
            except errors.SkepError as error:
                log.warning("plugins are not looked at: %s; trying again", error)
                self._all = True
                await self._again()
                continue
            done = await asyncio.gather(*(self._look(topic, places) for topic in due))
            if not all(done):
                await self._again()

    async def _due(self) -> set[str]:
        everything, self._all = self._all, False
        users, self._users = self._users, set()
        naming, self._naming = self._naming, set()
        due, self._topics = self._topics, set()
        if everything:
            due = set(await self._plugins.topics_of())
            await self._restore(due)
            return due
        if users:
            due.update(await self._plugins.topics_of(sorted(users)))
        for what in naming:
            due.update(await self._plugins.topics_naming(what))
        return due

    async def _restore(self, due: set[str]) -> None:
        """Where the bus was set up anew beside a database that was not."""
        if not (incarnation := await self._streams.new_log()):
            return
        if due:
            log.warning("the bus is a new one: %d plugins are told to it again", len(due))
        for topic in due:
            await self._changes.restore(topic)
        await self._streams.begin(incarnation)

    async def _again(self) -> None:
        await asyncio.sleep(RETRY)
        self._wake.set()

    async def _look(self, topic_name: str, places: asyncio.Semaphore) -> bool:
        async with places:
            try:
                await self._changes.make(topic_name, lambda state: PluginChanges())
            except errors.SkepError as error:
                log.warning("plugin %s does not follow its owner: %s; trying again", topic_name, error)
                self._topics.add(topic_name)
                return False
        return True
