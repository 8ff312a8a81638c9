"""Who of a group reads which partition: even shares, and nobody loses what it may keep.

Incremental (KIP-429): a partition that must move is first taken from its holder (it is nobody's in this round) and
given on in the next round, which the holder asks for once it has stopped. The others read on undisturbed.
"""

from __future__ import annotations

from typing import NamedTuple


class Claim(NamedTuple):
    """What a member says it holds. generation: of the group, when it last knew."""

    generation: int
    partitions: frozenset[int]


def assign(claims: dict[str, Claim], count: int) -> dict[str, set[int]]:
    """Partitions 0 … count-1 over the members. Of two that claim one partition the later generation holds it."""
    members = sorted(claims)
    holder: dict[int, str] = {}
    for member in sorted(members, key=lambda m: claims[m].generation):
        holder.update(dict.fromkeys((p for p in claims[member].partitions if p < count), member))
    held = {m: sorted(p for p, h in holder.items() if h == m) for m in members}
    # Those that hold most take the larger shares, so that fewest partitions move.
    least, rest = divmod(count, len(members))
    by_held = sorted(members, key=lambda m: (-len(held[m]), m))
    quota = {m: least + (i < rest) for i, m in enumerate(by_held)}
    result = {m: set(held[m][: quota[m]]) for m in members}
    free = [p for p in range(count) if p not in holder]
    for member in by_held:
        while free and len(result[member]) < quota[member]:
            result[member].add(free.pop(0))
    return result
