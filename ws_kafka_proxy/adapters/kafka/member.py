"""Membership in a consumer group: join, sync, heartbeat, commit, leave (KIP-62, KIP-345, KIP-429).

Static: the member goes by the service's instance name, so whoever comes with that name takes the partitions over at
once, without a rebalance, and the one before is told FENCED_INSTANCE_ID at its next word. Incremental: a rebalance
takes away only what moves. Strict: who could not be heard for a session time-out gives everything up by itself,
because the group may have given it to others.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

import msgspec
from aiokafka.client import CoordinationType
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaError
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.group import JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest

from skep import logs
from ws_kafka_proxy.adapters.kafka import protocol
from ws_kafka_proxy.adapters.kafka.client import RETRY, Client
from ws_kafka_proxy.adapters.kafka.cluster import Cluster
from ws_kafka_proxy.core.assignment import Claim, assign
from ws_kafka_proxy.core.engine import Fenced, TopicDeleted

log = logs.get("bus.kafka")

SPARE = 3.0
"""Seconds a rebalance waits longer than a session, so that a dead member is out before it ends."""
FOREIGN_SESSION = 6.0
"""Kafka's own least session time-out; less needs a `group.min.session.timeout.ms` that allows it at the broker."""
STRATEGY = "skep-incremental"
COORDINATION, COMMIT = "coordination", "commit"
"""Own connections: a JoinGroup is answered late, and a commit must not wait behind it."""


class Owner(Protocol):
    """Whom the membership is for."""

    async def gained(self, partitions: set[int]) -> None:
        """These are ours now; none: the group has no share for us. Cancelled when another round begins meanwhile."""

    def kept(self, partitions: set[int]) -> None:
        """These stay ours, also those that were to go a round ago."""

    async def drained(self, partitions: set[int]) -> None:
        """These are to go: returns when they may. They are still ours, with no more of them read. Cancelled when
        another round begins meanwhile."""

    async def lost(self, partitions: set[int], handed_over: bool) -> None:
        """These are not ours any more. handed_over: nobody has them until this returns."""

    def failed(self, error: Exception) -> None:
        """The membership has ended: Fenced or TopicDeleted."""


class Rejoin(Exception):
    """The group begins a new generation. `forget`: it does not know us any more."""

    def __init__(self, forget: bool) -> None:
        self.forget = forget


class Member:
    def __init__(
        self,
        cluster: Cluster,
        client: Client,
        group: str,
        instance: str,
        session: float,
        topic: str,
        owner: Owner,
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._group = group
        self._instance = instance
        self._topic = topic
        self._owner = owner
        self._coordinator: int | None = None
        self._id = ""
        self._generation = -1
        self._session = session
        self._heard = 0.0
        self._gaining: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.owned: set[int] = set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self, leave: bool) -> None:
        """leave: give the partitions away at once; otherwise they wait for the session time-out."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._stop_gaining()
        if leave and self._id and self._coordinator is not None:
            try:
                async with asyncio.timeout(1.0):
                    await self._send(LeaveGroupRequest(self._group, self._id))
            except (KafkaError, TimeoutError) as error:
                log.warning("%s could not leave group %s: %s", self._instance, self._group, error)

    # -- the membership

    async def _run(self) -> None:
        try:
            while True:
                await self._live()
        except Fenced as error:
            await self._forget()
            self._owner.failed(error)
        except KeyError:
            await self._forget()
            self._owner.failed(TopicDeleted(f"topic {self._topic} was deleted"))

    async def _live(self) -> None:
        """From joining until something is wrong."""
        try:
            await self._find_coordinator()
            await self._join()
            await self._beat()
        except Rejoin as rejoin:
            if rejoin.forget:
                await self._forget()
        except (KafkaError, TimeoutError) as error:
            log.debug("group %s: %r", self._group, error)
            self._coordinator = None
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(RETRY)
        if self.owned and time.monotonic() - self._heard > self._session:
            log.warning("group %s did not hear of %s for a session, partitions given up", self._group, self._instance)
            await self._give_up(self.owned.copy(), handed_over=False)

    async def _find_coordinator(self) -> None:
        while self._coordinator is None:
            try:
                self._coordinator = await self._client.coordinator_lookup(CoordinationType.GROUP, self._group)
            except KafkaError as error:
                log.debug("no coordinator of %s: %s", self._group, error)
                await self._pause()

    async def _send(self, request: Any, connection: str = COORDINATION) -> Any:
        return await self._client.send(self._coordinator, request, group=connection)

    def _check(self, code: int) -> None:
        """Raises what an error code of the group protocol means."""
        if code == protocol.NO_ERROR:
            return
        if code == protocol.FENCED_INSTANCE_ID:
            raise Fenced(f"{self._instance} of group {self._group} is another one now")
        if code == protocol.REBALANCE_IN_PROGRESS:
            raise Rejoin(forget=False)
        if code in (protocol.UNKNOWN_MEMBER_ID, protocol.ILLEGAL_GENERATION):
            raise Rejoin(forget=True)
        raise KafkaError(f"Kafka answered {code}")

    async def _join(self) -> None:
        # What is announced while the leader divides would be claimed by nobody.
        await self._stop_gaining()
        sent = time.monotonic()
        synced = await self._join_and_sync()
        self._heard = sent
        assignment = ConsumerProtocol.ASSIGNMENT.decode(synced.member_assignment)
        await self._apply({tp.partition for tp in assignment.partitions() if tp.topic == self._topic})

    async def _join_and_sync(self) -> Any:
        response = await self._send(
            JoinGroupRequest(
                self._group,
                int(self._session * 1000),
                int((self._session + SPARE) * 1000),
                self._id,
                self._instance,
                ConsumerProtocol.PROTOCOL_TYPE,
                [(STRATEGY, self._claim())],
            )
        )
        if response.error_code == protocol.INVALID_SESSION_TIMEOUT and self._session < FOREIGN_SESSION:
            log.warning("this Kafka allows no session below %s s: takeovers take as long", FOREIGN_SESSION)
            self._session = FOREIGN_SESSION
            raise Rejoin(forget=False)
        self._check(response.error_code)
        self._id, self._generation = response.member_id, response.generation_id
        shares = self._shares(response.members) if response.leader_id == self._id else []
        synced = await self._send(SyncGroupRequest(self._group, self._generation, self._id, self._instance, shares))
        self._check(synced.error_code)
        return synced

    def _claim(self) -> bytes:
        held = msgspec.msgpack.encode((self._generation, sorted(self.owned)))
        return bytes(ConsumerProtocol.METADATA(0, [self._topic], held).encode())

    def _shares(self, members: list[tuple[str, str, bytes]]) -> list[tuple[str, bytes]]:
        """As the group's leader: everybody's assignment."""
        claims = {}
        for member, _instance, metadata in members:
            held = ConsumerProtocol.METADATA.decode(metadata).user_data
            generation, partitions = msgspec.msgpack.decode(held, type=tuple[int, list[int]])
            claims[member] = Claim(generation, frozenset(partitions))
        count = len(self._cluster.topics[self._topic].leaders)
        return [
            (member, bytes(ConsumerProtocol.ASSIGNMENT(0, [(self._topic, sorted(share))], b"").encode()))
            for member, share in assign(claims, count).items()
        ]

    async def _apply(self, share: set[int]) -> None:
        lost = self.owned - share
        self._owner.kept(self.owned & share)
        self._gaining = asyncio.create_task(self._gain(share - self.owned))
        if lost:
            await self._drain(lost)
            await self._give_up(lost, handed_over=True)
            # They are nobody's until the group has another round.
            raise Rejoin(forget=False)

    async def _gain(self, partitions: set[int]) -> None:
        await self._owner.gained(partitions)
        self.owned |= partitions

    async def _drain(self, partitions: set[int]) -> None:
        """However long that takes: the group hears of us meanwhile."""
        draining = asyncio.create_task(self._owner.drained(partitions))
        try:
            while not (await asyncio.wait((draining,), timeout=self._session / 4))[0]:
                await self._heartbeat()
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._session / 4)
            await self._heartbeat()

    async def _heartbeat(self) -> None:
        sent = time.monotonic()
        async with asyncio.timeout(max(self._heard + self._session - sent, RETRY)):
            response = await self._send(
                protocol.HeartbeatRequest(self._group, self._generation, self._id, self._instance)
            )
        self._check(response.error_code)
        self._heard = sent

    async def _give_up(self, partitions: set[int], handed_over: bool) -> None:
        self.owned -= partitions
        await self._owner.lost(partitions, handed_over)

    async def _forget(self) -> None:
        """The group does not count us any more."""
        await self._stop_gaining()
        self._id, self._generation = "", -1
        if self.owned:
            await self._give_up(self.owned.copy(), handed_over=False)

    async def _stop_gaining(self) -> None:
        if self._gaining is not None:
            self._gaining.cancel()
            await asyncio.gather(self._gaining, return_exceptions=True)
            self._gaining = None

    # -- positions

    async def committed(self, partitions: set[int]) -> dict[int, tuple[int, str]]:
        """Partition -> (next offset, metadata), for those that have one. Retries while the engine is away."""
        request = OffsetFetchRequest(self._group, [(self._topic, sorted(partitions))])
        while True:
            try:
                response = await self._send(request, COMMIT)
                rows = [row for _, rows in response.topics for row in rows]
                if not response.error_code and not any(code for *_, code in rows):
                    return {p: (offset, metadata) for p, offset, metadata, _ in rows if offset >= 0}
            except KafkaError as error:
                log.debug("positions of %s: %s", self._group, error)
            await asyncio.sleep(RETRY)

    async def commit(self, offsets: dict[int, tuple[int, str]]) -> bool:
        """False: not now, try again. Raises Fenced when another one has our name."""
        if self._coordinator is None or not self._id:
            return False
        request = protocol.OffsetCommitRequest(
            self._group, self._generation, self._id, self._instance, self._topic, offsets
        )
        try:
            response = await self._send(request, COMMIT)
        except KafkaError as error:
            log.debug("commit for %s: %s", self._group, error)
            return False
        codes = {code for _, rows in response.topics for _, code in rows}
        if protocol.FENCED_INSTANCE_ID in codes:
            raise Fenced(f"{self._instance} of group {self._group} is another one now")
        return codes == {protocol.NO_ERROR}
