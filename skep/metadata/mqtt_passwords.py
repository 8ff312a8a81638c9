"""MQTT passwords (`skep.mqtt_passwords`): what is stored of them, and all that their users may do at a broker."""

from __future__ import annotations

import builtins
import time
from collections import defaultdict
from typing import Any

from msgspec import Struct
from sqlalchemy import Select, and_, delete, exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert

from skep import access, errors

from .database import Database, Transaction
from .lists import fits
from .mqtt import MqttClient, bind_within
from .tables import devices, mqtt_passwords, user_device_type, user_network, users
from .users import missing, rights_within

ENTITY = "mqtt_password"
"""Of `Changed`; ids are those of users."""
NO_CLIENT_ID = "The MQTT client ids of this user belong to others"


class MqttAccount(Struct, frozen=True):
    """A user's account at a broker. key: the name of the secret that made the password. devices: ids of what is
    unblocked in the networks and of the device types that limit the user, in order; none where nothing does."""

    user: access.User
    client_id: str
    salt: bytes
    key: str
    devices: tuple[str, ...] = ()


class MqttPasswords:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def make(self, user_id: int, salt: bytes, key: str) -> MqttAccount:
        """Instead of the one before. The client id stays: at first it is the login, or where that is another's or none
        (`@` parts topics) `user:<id>`. Its devices are left out. Raises NotFound, Forbidden."""
        return await self._database.write(_make, user_id, salt, key)

    async def take(self, user_id: int) -> None:
        """Also where there is none. Raises NotFound."""
        await self._database.write(_take, user_id)

    async def list(self, most: int) -> builtins.list[MqttAccount]:
        """All of active users, as of one moment; at most so many devices of each."""
        return await self._database.read(_list, most)


async def _make(t: Transaction, user_id: int, salt: bytes, key: str) -> MqttAccount:
    await _lock(t, user_id)
    user = (await rights_within(t, [user_id]))[user_id]
    client_id = await _client_id(t, user)
    new = upsert(mqtt_passwords).values(
        user_id=user_id, client_id=client_id, salt=salt, key=key, made_at=time.time_ns() // 1_000_000
    )
    columns = {name: new.excluded[name] for name in ("salt", "key", "made_at")}
    await t.run(new.on_conflict_do_update(index_elements=[mqtt_passwords.c.user_id], set_=columns))
    t.changed(ENTITY, user_id)
    return MqttAccount(user, client_id, salt, key)


async def _lock(t: Transaction, user_id: int) -> None:
    wanted = select(users.c.id).where(users.c.id == user_id).with_for_update()
    if not fits(user_id) or await t.first(wanted) is None:
        raise missing(user_id)


async def _client_id(t: Transaction, user: access.User) -> str:
    """Bound to the user, who may do with it what a login may."""
    known = await t.value(select(mqtt_passwords.c.client_id).where(mqtt_passwords.c.user_id == user.id))
    own = f"user:{user.id}"  # no login has a colon
    for client_id in [known] if known else [own] if "@" in user.login else [user.login, own]:
        if await bind_within(t, MqttClient(client_id, user.id)):
            return client_id
    raise errors.Forbidden(NO_CLIENT_ID)


async def _take(t: Transaction, user_id: int) -> None:
    await _lock(t, user_id)
    if await t.affected(delete(mqtt_passwords).where(mqtt_passwords.c.user_id == user_id)):
        t.changed(ENTITY, user_id)


async def _list(t: Transaction, most: int) -> list[MqttAccount]:
    is_active = users.c.status == access.ACTIVE
    stored = await t.all(select(mqtt_passwords).join(users).where(is_active).order_by(mqtt_passwords.c.user_id))
    rights = await rights_within(t, [row.user_id for row in stored])
    ids: defaultdict[int, list[str]] = defaultdict(list)
    for row in await t.all(_devices(most)):
        ids[row.user_id].append(row.id)
    return [
        MqttAccount(rights[row.user_id], row.client_id, row.salt, row.key, tuple(ids[row.user_id])) for row in stored
    ]


def _devices(most: int) -> Select[Any]:
    typed = exists().where(
        user_device_type.c.user_id == users.c.id, user_device_type.c.device_type_id == devices.c.device_type_id
    )
    number = func.row_number().over(partition_by=users.c.id, order_by=devices.c.id).label("number")
    seen = (
        select(users.c.id.label("user_id"), devices.c.id, number)
        .select_from(mqtt_passwords)
        .join(users)
        .join(user_network, user_network.c.user_id == users.c.id)
        .join(devices, devices.c.network_id == user_network.c.network_id)
        .where(
            and_(users.c.status == access.ACTIVE, users.c.role == access.CLIENT, ~devices.c.is_blocked),
            or_(users.c.all_device_types, typed),
        )
        .subquery()
    )
    return select(seen.c.user_id, seen.c.id).where(seen.c.number <= most).order_by(seen.c.user_id, seen.c.id)
