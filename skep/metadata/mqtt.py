"""Clients of MQTT brokers, bound to their users, and the packets a bridge has under way."""

from __future__ import annotations

import time

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Integer,
    String,
    bindparam,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from .database import Database, Transaction
from .tables import mqtt_clients, mqtt_packets

ENTITY = "mqtt_client"
"""Of `Changed`; ids are client ids."""


class MqttClient(Struct, frozen=True):
    """claims: of the token it showed, JSON of `skep.tokens.Claims`; None: it logged in, and may what its user may."""

    client_id: str
    user_id: int
    claims: bytes | None = None


class MqttPacket(Struct, frozen=True):
    """What a packet identifier was used for last: the message's id, a digest of what it carried, and a number that
    rises with every packet of the session."""

    packet_id: int
    id: int
    digest: int
    number: int


class MqttClients:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_many(self, client_ids: list[str]) -> dict[str, MqttClient]:
        """Those that are bound, by client id."""
        wanted = [id for id in client_ids if "\0" not in id]
        query = select(mqtt_clients).where(mqtt_clients.c.client_id.in_(wanted))
        rows = await self._database.read(Transaction.all, query)
        return {row.client_id: MqttClient(row.client_id, row.user_id, row.claims) for row in rows}

    async def bind(self, client: MqttClient) -> bool:
        """The first user who comes with a client id has it: False where it is another's. claims replace those that
        were there."""
        return await self._database.write(bind_within, client)


class MqttPackets:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def recall(self, session: str) -> list[MqttPacket]:
        """All that is remembered of a session."""
        query = select(mqtt_packets).where(mqtt_packets.c.session == session)
        rows = await self._database.read(Transaction.all, query)
        return [MqttPacket(row.packet_id, row.id, row.digest, row.number) for row in rows]

    async def remember(self, session: str, packets: list[MqttPacket], holder: str) -> bool:
        """Instead of what was remembered of the same identifiers. False, and nothing is, where the lease of the
        session's name is not the holder's any more. One statement that is its own transaction: a process that is
        paused has either not sent it or holds nothing by it, and who takes the session over waits for nobody."""
        return await self._database.read(_remember, session, packets, holder)


async def bind_within(t: Transaction, client: MqttClient) -> bool:
    """`MqttClients.bind`, in a transaction."""
    new = upsert(mqtt_clients).values(
        client_id=client.client_id, user_id=client.user_id, claims=client.claims, seen_at=int(time.time() * 1000)
    )
    bound = await t.first(
        new.on_conflict_do_update(
            index_elements=[mqtt_clients.c.client_id],
            set_={"claims": new.excluded.claims, "seen_at": new.excluded.seen_at},
            where=mqtt_clients.c.user_id == client.user_id,
        ).returning(mqtt_clients.c.client_id)
    )
    if bound is not None:
        t.changed(ENTITY, client.client_id)
    return bound is not None


async def _remember(t: Transaction, session: str, packets: list[MqttPacket], holder: str) -> bool:
    columns = {name: [getattr(p, name) for p in packets] for name in MqttPacket.__struct_fields__}
    done = await t.connection.execute(_REMEMBER, {"session": session, "holder": holder, **columns})
    return bool(done.scalar())


# Arrays, and the lease in it: one statement, however many packets, so that neither side has to prepare another one.
_REMEMBER = text(
    """
    WITH lease AS MATERIALIZED (
        SELECT name FROM leases WHERE name = :session AND holder = :holder FOR SHARE
    ), remembered AS (
        INSERT INTO mqtt_packets (session, packet_id, id, digest, number)
        SELECT lease.name, packets.* FROM lease, unnest(:packet_id, :id, :digest, :number) AS packets
        ON CONFLICT (session, packet_id) DO UPDATE
        SET id = excluded.id, digest = excluded.digest, number = excluded.number
    )
    SELECT EXISTS (SELECT FROM lease)
    """
).bindparams(
    bindparam("session", type_=String),
    bindparam("holder", type_=String),
    bindparam("packet_id", type_=ARRAY(Integer)),
    *(bindparam(name, type_=ARRAY(BigInteger)) for name in ("id", "digest", "number")),
)
