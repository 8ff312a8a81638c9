"""Gives packets their ids (see `packets`)."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from mqtt_bridge.core.packets import DISTANCE, Memory, Numbered, Packet, Remembered


def new_id() -> int:
    """53 random bits, as every message of the platform has."""
    return secrets.randbits(53)


class Numbering:
    """One session of the bridge with the broker."""

    def __init__(self, memory: Memory, session: str, new_id: Callable[[], int] = new_id) -> None:
        self._memory, self._session, self._new_id = memory, session, new_id
        self._known: dict[int, Remembered] | None = None
        self._number = 0

    async def number(self, packets: list[Packet]) -> list[Numbered]:
        """In their order; remembered when it returns. Raises Unavailable: then nothing is, and the same packets may
        be given again."""
        if self._known is None:
            recalled = {r.packet_id: r for r in await self._memory.recall(self._session)}
            self._number = max((r.number for r in recalled.values()), default=0)
            self._known = recalled
        number = self._number
        fresh: dict[int, Remembered] = {}
        made: list[Numbered] = []
        for packet in packets:
            before = fresh.get(packet.id) or self._known.get(packet.id)
            if packet.qos == 0:
                made.append(Numbered(packet, self._new_id()))
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
        return made


def _is_same(before: Remembered, packet: Packet, number: int) -> bool:
    return before.digest == packet.digest and number - before.number < DISTANCE
