"""The first admin: user 1, as tokens of existing installations and the DeviceHive suite expect."""

from __future__ import annotations

import asyncio

from sqlalchemy import insert, literal, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert

from . import passwords
from .database import Database, Transaction
from .rows import ACTIVE, ADMIN
from .tables import device_types, networks, user_device_type, user_network, users

LOGIN = "dhadmin"


async def create(database: Database, password: str) -> bool:
    """False: there is a user 1 or a `dhadmin` already; it stays as it is, its password too."""
    passwords.check(password)
    exists = select(users.c.id).where(or_(users.c.id == 1, users.c.login == LOGIN))
    if await database.read(Transaction.first, exists) is not None:
        return False
    return await database.write(_create, await asyncio.to_thread(passwords.hashed, password))


async def _create(t: Transaction, password_hash: str) -> bool:
    new = upsert(users).values(id=1, login=LOGIN, password_hash=password_hash, role=ADMIN, status=ACTIVE)
    if await t.first(new.on_conflict_do_nothing().returning(users.c.id)) is None:
        return False
    for table, column, other in (
        (user_network, "network_id", networks),
        (user_device_type, "device_type_id", device_types),
    ):
        first = select(literal(1), other.c.id).where(other.c.id == 1)
        await t.run(insert(table).from_select(["user_id", column], first))
    t.changed("user", 1)
    return True
