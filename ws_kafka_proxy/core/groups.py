"""Which member of a group reads which partition. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def assign(
    partitions: int, members: Iterable[str], owners: Mapping[int, str], previous: Mapping[int, str]
) -> dict[int, str]:
    """Balanced (shares differ by one at most) and sticky: as few partitions as possible change hands.

    owners: as it is now, perhaps with members that left. previous: whose a partition was before; one that must move
    goes back there if it can. Partition -> member; empty without members.
    """
    names = sorted(members)
    if not names:
        return {}
    held: dict[str, list[int]] = {name: [] for name in names}
    free: list[int] = []
    for partition in range(partitions):
        owner = owners.get(partition)
        if owner in held:
            held[owner].append(partition)
        else:
            free.append(partition)
    share, larger = divmod(partitions, len(names))
    names.sort(key=lambda name: -len(held[name]))
    quota = {name: share + (place < larger) for place, name in enumerate(names)}
    wanting = {name for name in names if len(held[name]) < quota[name]}
    for name in names:
        # Given up first: what somebody who wants more had before, then the highest.
        held[name].sort(key=lambda partition: (previous.get(partition) in wanting, partition))
        while len(held[name]) > quota[name]:
            free.append(held[name].pop())
    for partition in list(free):
        name = previous.get(partition, "")
        if name in held and len(held[name]) < quota[name]:
            held[name].append(partition)
            free.remove(partition)
    for name in names:
        while len(held[name]) < quota[name]:
            held[name].append(free.pop(0))
    return {partition: name for name, ours in held.items() for partition in ours}
