"""Who does what only one process may do at a time."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert

from .database import Database, Kept, Transaction
from .tables import leases

PRESENCE = 0x6C656173
"""First key of the advisory locks that say who is there; the second one is a hash of the holder's name."""


class Leases:
    """Of holders in this process. Times are PostgreSQL's.

    A lease is over when its time is, or when its holder is seen to be gone: each holder keeps a connection with a lock
    in its name, which ends with the process. Where a lease is somebody else's by now its holder may not know it yet: a
    statement that must not happen then locks the row, as the holder's (`skep.metadata.mqtt.MqttPackets.remember`).
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[str, Kept] = {}

    async def hold(self, name: str, holder: str, seconds: float) -> bool:
        """Take or renew; False where another holds it."""
        kept = self._kept.get(holder)
        if kept is None:
            kept = self._kept[holder] = Kept(self._database, lambda t: _appear(t, holder))
        return await kept.run(lambda t: _hold(t, name, holder, seconds))

    async def names(self, beginning: str) -> list[str]:
        """Of all leases that there ever were."""
        query = select(leases.c.name).where(leases.c.name.startswith(beginning, autoescape=True))
        return [row.name for row in await self._database.read(Transaction.all, query)]

    async def close(self) -> None:
        """What is held here is for others to take."""
        for kept in self._kept.values():
            await kept.close()


async def _appear(t: Transaction, holder: str) -> None:
    # Shared: a connection that was given up may still have it.
    await t.value(select(func.pg_advisory_lock_shared(PRESENCE, func.hashtext(holder))))


async def _hold(t: Transaction, name: str, holder: str, seconds: float) -> bool:
    until = func.clock_timestamp() + timedelta(seconds=seconds)
    new = upsert(leases).values(name=name, holder=holder, until=until)
    is_gone = func.pg_try_advisory_xact_lock(PRESENCE, func.hashtext(leases.c.holder))
    held = await t.first(
        new.on_conflict_do_update(
            index_elements=[leases.c.name],
            set_={"holder": new.excluded.holder, "until": new.excluded.until},
            where=or_(leases.c.holder == holder, leases.c.until < func.clock_timestamp(), is_gone),
        ).returning(leases.c.name)
    )
    return held is not None
