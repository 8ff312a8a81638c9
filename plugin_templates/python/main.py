"""Writes notifications to a PostgreSQL table and shows how many came each minute.

    DATABASE_URL=postgresql://… python main.py             # runs until Ctrl-C
    DATABASE_URL=postgresql://… python main.py --counts    # shows the last hour's counts and ends

COUNTS_EVERY: seconds between the lines of counts in the log, 0 for none (60).
"""

from __future__ import annotations

import asyncio
import logging
import sys

import psycopg
from psycopg import conninfo

from skep_plugin import Handler, Notification, Unusable, get, run
from skep_plugin.settings import number
from store import Store

log = logging.getLogger("counts")


class NotificationsToPostgres(Handler):
    def __init__(self, store: Store, every: int) -> None:
        self._store = store
        self._every = every
        self._showing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._store.open()
        if self._every:
            self._showing = asyncio.create_task(self._show())

    async def stop(self) -> None:
        if self._showing is not None:
            self._showing.cancel()
        await self._store.close()

    async def on_notification(self, notification: Notification) -> None:
        # Returns when it is committed: only then is it confirmed to the server.
        await self._store.add(notification)

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                counts = await asyncio.to_thread(self._store.counts, minutes=2)
            except psycopg.Error as error:
                log.warning("no counts: %s", error)
                continue
            for minute, name, count in counts:
                log.info("%s  %-24s %6d", minute.strftime("%H:%M"), name, count)


def main(arguments: list[str]) -> int:
    try:
        url = get("DATABASE_URL")
        if not url:
            raise Unusable("DATABASE_URL says where the table is: postgresql://user:password@host/database")
        conninfo.conninfo_to_dict(url)
        every = number("COUNTS_EVERY", 60, least=0)
        store = Store(url)
        if arguments == ["--counts"]:
            print("minute (UTC)      name                      count")
            for minute, name, count in store.counts(minutes=60):
                print(f"{minute:%Y-%m-%d %H:%M}  {name:<24} {count:>6}")
            return 0
    except (Unusable, psycopg.Error) as error:
        print(error, file=sys.stderr)
        return 2
    return run(NotificationsToPostgres(store, every), "notifications-to-postgres")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
