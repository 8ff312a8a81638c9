"""Gives packets their ids (see `packets`)."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from mqtt_bridge.core.packets import DISTANCE, Memory, Numbered, Packet, Remembered


def new_id() -> int:
    """53 random bits, as every message of the platform has."""
    return secrets.randbits(53)


class Numbering:
    """One connection of the bridge's session with the broker.

    window: 0 where the broker sends a packet again under its identifier, as MQTT wants it. RabbitMQ counts anew in
    every connection: there a packet with DUP is one of the last `window` packets before this connection that carried
    the same. Of several the latest: those of one topic are acknowledged in their order, so the earlier ones are done.
    """

    def __init__(self, memory: Memory, session: str, window: int = 0, new_id: Callable[[], int] = new_id) -> None:
        self._memory, self._session, self._window, self._new_id = memory, session, window, new_id
        self._known: dict[int, Remembered] | None = None
        self._before: dict[int, list[Remembered]] = {}
        self._number = 0

    async def number(self, packets: list[Packet]) -> list[Numbered]:
        """In their order; remembered when it returns. Raises Unavailable: then nothing is, and the same packets may
        be given again."""
        if self._known is None:
            self._known = self._recalled(await self._memory.recall(self._session))
        number = self._number
        taken: dict[int, int] = {}
        fresh: dict[int, Remembered] = {}
        made: list[Numbered] = []
        for packet in packets:
            before = fresh.get(packet.id) or self._known.get(packet.id)
            if packet.qos == 0:
                made.append(Numbered(packet, self._new_id()))
            elif self._window:
                again = self._again(packet, taken)
                number += 1
                fresh[packet.id] = Remembered(packet.id, again or self._new_id(), packet.digest, number)
                made.append(Numbered(packet, fresh[packet.id].id, is_repeated=again is not None))
            elif packet.is_duplicate and before is not None and _is_same(before, packet, number):
                made.append(Numbered(packet, before.id, is_repeated=True))
            else:
                number += 1
                fresh[packet.id] = Remembered(packet.id, self._new_id(), packet.digest, number)
                made.append(Numbered(packet, fresh[packet.id].id))
        if fresh:
            await self._memory.remember(self._session, list(fresh.values()))
        self._known |= fresh
        self._number = number
        for digest, count in taken.items():
            del self._before[digest][-count:]
        return made

    def _recalled(self, memory: list[Remembered]) -> dict[int, Remembered]:
        self._number = max((r.number for r in memory), default=0)
        for one in sorted(memory, key=lambda r: r.number):
            if self._number - one.number < self._window:
                self._before.setdefault(one.digest, []).append(one)
        return {r.packet_id: r for r in memory}

    def _again(self, packet: Packet, taken: dict[int, int]) -> int | None:
        """The id it had in an earlier connection, each of which is given once; taken: how many are, by digest."""
        if not packet.is_duplicate:
            return None
        digest = packet.digest
        count = taken.get(digest, 0)
        found = self._before.get(digest, ())
        if count >= len(found):
            return None
        taken[digest] = count + 1
        return found[-1 - count].id


def _is_same(before: Remembered, packet: Packet, number: int) -> bool:
    return before.digest == packet.digest and number - before.number < DISTANCE
