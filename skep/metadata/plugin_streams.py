"""Streams of plugins that the bus has, or may have: bus topics `<plugin topic>.<number>`."""

from __future__ import annotations

import time

from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from .database import Database, Transaction
from .tables import plugin_attendance, plugin_streams, plugins

MANY = 100


class PluginStreams:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, topic_name: str, number: int) -> None:
        """To be called before the bus is asked for the stream."""
        row = {"topic_name": topic_name, "number": number, "made_at": _now()}
        await self._database.write(Transaction.run, upsert(plugin_streams).values(row).on_conflict_do_nothing())

    async def unused(self, age: int) -> list[tuple[str, int]]:
        """Some of those behind no plugin: older than their plugin's present one, or older than `age` ms and of no
        plugin, or never taken into use."""
        behind = plugin_streams.c.number < plugins.c.stream
        lost = and_(
            plugin_streams.c.made_at < _now() - age,
            or_(plugins.c.id.is_(None), plugin_streams.c.number > plugins.c.stream),
        )
        query = (
            select(plugin_streams.c.topic_name, plugin_streams.c.number)
            .outerjoin(plugins, plugins.c.topic_name == plugin_streams.c.topic_name)
            .where(or_(behind, lost))
            .limit(MANY)
        )
        return [(row.topic_name, row.number) for row in await self._database.read(Transaction.all, query)]

    async def of(self, topic_name: str) -> list[int]:
        query = select(plugin_streams.c.number).where(plugin_streams.c.topic_name == topic_name)
        return [row.number for row in await self._database.read(Transaction.all, query)]

    async def incarnation(self) -> str:
        """Of the log that plugins' interests are in, "" if there never was one."""
        found: str = await self._database.read(Transaction.value, select(plugin_attendance.c.incarnation))
        return found

    async def begin(self, incarnation: str) -> None:
        """Everything is in that log now."""
        await self._database.write(Transaction.run, update(plugin_attendance).values(incarnation=incarnation))

    async def forget(self, topic_name: str, number: int) -> None:
        """The bus has deleted it."""
        match = and_(plugin_streams.c.topic_name == topic_name, plugin_streams.c.number == number)
        await self._database.write(Transaction.run, delete(plugin_streams).where(match))


def _now() -> int:
    return time.time_ns() // 1_000_000
