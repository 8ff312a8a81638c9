"""Streams of plugins that the bus has, or may have: bus topics `<plugin topic>.<number>`.

A number is given to one. Who makes a stream reserves its number, makes it, and takes it into use in the transaction
that points the plugin to it (`take`). Who clears away dooms what nobody uses, and only then asks the bus to delete it.
So whoever is late, by a pause or a crash, takes nothing that is about to go, and nothing goes that was taken.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from skep import errors

from . import failures
from .database import Database, Transaction
from .tables import plugin_attendance, plugin_streams, plugins


class PluginStreams:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, topic_name: str) -> int:
        """The number of a stream that is to be made: higher than any before."""
        return await self._database.write(_reserve, topic_name)

    async def doom(self, age: int) -> list[tuple[str, int]]:
        """Those to be deleted: older than their plugin's present one; of no plugin, or reserved and not taken,
        for `age` ms; doomed before. They can't be taken any more."""
        return await self._database.write(_doom, age)

    async def give_up(self, topic_name: str, number: int) -> None:
        """Doom one that was reserved and is not needed, at once and not by its age."""
        ours = _match(topic_name, number)
        await self._database.write(Transaction.run, update(plugin_streams).where(ours).values(doomed=True))

    async def add(self, topic_name: str, number: int) -> None:
        """One that the bus has, whoever made it."""
        row = {"topic_name": topic_name, "number": number, "made_at": _now()}
        await self._database.write(Transaction.run, upsert(plugin_streams).values(row).on_conflict_do_nothing())

    async def forget(self, topic_name: str, number: int) -> None:
        """The bus has deleted it."""
        await self._database.write(Transaction.run, delete(plugin_streams).where(_match(topic_name, number)))

    async def incarnation(self) -> str:
        """Of the log that plugins' interests are in, "" if there never was one."""
        found: str = await self._database.read(Transaction.value, select(plugin_attendance.c.incarnation))
        return found

    async def begin(self, incarnation: str) -> None:
        """Everything is in that log now."""
        await self._database.write(Transaction.run, update(plugin_attendance).values(incarnation=incarnation))


async def take(t: Transaction, topic_name: str, number: int) -> None:
    """Take into use what was reserved. Raises Conflict where it is doomed."""
    # Written, not only locked: who dooms at this moment looks at the row again.
    query = update(plugin_streams).where(_match(topic_name, number), plugin_streams.c.doomed.is_(False))
    query = query.values(made_at=_now())
    if not await t.affected(query):
        raise errors.Conflict


async def abandon(t: Transaction, topic_name: str) -> None:
    """Doom all of a plugin that goes."""
    await t.run(update(plugin_streams).where(plugin_streams.c.topic_name == topic_name).values(doomed=True))


async def _reserve(t: Transaction, topic_name: str) -> int:
    known = select(func.max(plugin_streams.c.number)).where(plugin_streams.c.topic_name == topic_name)
    present = select(plugins.c.stream).where(plugins.c.topic_name == topic_name)
    number: int = max(await t.value(known) or 0, await t.value(present) or 0) + 1
    row = {"topic_name": topic_name, "number": number, "made_at": _now()}
    made = upsert(plugin_streams).values(row).on_conflict_do_nothing().returning(plugin_streams.c.number)
    if await t.first(made) is None:  # somebody else's came first
        raise failures.Again
    return number


async def _doom(t: Transaction, age: int) -> list[tuple[str, int]]:
    of_it = plugins.c.topic_name == plugin_streams.c.topic_name
    behind = plugin_streams.c.number < select(plugins.c.stream).where(of_it).scalar_subquery()
    in_use = exists().where(of_it & (plugins.c.stream >= plugin_streams.c.number))
    lost = (plugin_streams.c.made_at < _now() - age) & ~in_use
    found: list[Any] = []
    # Apart: a row that was taken meanwhile is looked at again, but what other tables said then is not. What is behind
    # stays so; what seems lost is told by its time, which taking it has changed.
    for condition in (plugin_streams.c.doomed | behind, lost & plugin_streams.c.doomed.is_(False)):
        doomed = update(plugin_streams).where(condition).values(doomed=True)
        found += await t.all(doomed.returning(plugin_streams.c.topic_name, plugin_streams.c.number))
    return [(row.topic_name, row.number) for row in found]


def _match(topic_name: str, number: int) -> ColumnElement[bool]:
    return and_(plugin_streams.c.topic_name == topic_name, plugin_streams.c.number == number)


def _now() -> int:
    return time.time_ns() // 1_000_000
