"""What a listener counts, over all its sockets; shown by its health."""

from __future__ import annotations

from msgspec import Struct


class Counters(Struct):
    """pushed: messages sent to clients. confirmed: positions handed over or acknowledged, one for each batch. missed:
    records that retention removed before a client had them. moved: sockets that went on with a fresh stream. refused:
    sockets closed because they may not stay. limited: requests refused, and sockets closed, for being too many."""

    pushed: int = 0
    confirmed: int = 0
    missed: int = 0
    moved: int = 0
    refused: int = 0
    limited: int = 0
