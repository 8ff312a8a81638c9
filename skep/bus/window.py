"""Credit of one subscription on one connection: what the proxy may still send."""

from __future__ import annotations

from skep.wire.proxy import Delivered


def weight(record: Delivered) -> int:
    """Bytes of credit a record costs, as the proxy counts them."""
    return len(record.payload or b"") + len(record.key or b"")


class Window:
    """held: waits in the local queue. owed: taken or dropped since the last `Credit`, which is sent when a quarter
    of the window has come together."""

    __slots__ = ("_bytes", "_records", "held_bytes", "held_records", "owed_bytes", "owed_records")

    def __init__(self, records: int, size: int) -> None:
        self._records = records
        self._bytes = size
        self.held_records = self.held_bytes = 0
        self.owed_records = self.owed_bytes = 0

    def opened(self) -> tuple[int, int]:
        """First credit (records, bytes) of a new subscription: the window less what still waits here."""
        self.owed_records = self.owed_bytes = 0
        return max(0, self._records - self.held_records), max(0, self._bytes - self.held_bytes)

    def hold(self, records: int, size: int) -> None:
        self.held_records += records
        self.held_bytes += size

    def release(self, records: int, size: int) -> None:
        self.held_records -= records
        self.held_bytes -= size
        self.owe(records, size)

    def owe(self, records: int, size: int) -> None:
        self.owed_records += records
        self.owed_bytes += size

    def due(self) -> tuple[int, int] | None:
        """What to give back now, if it is enough to be worth a frame."""
        records, size = self.owed_records, self.owed_bytes
        if records * 4 < self._records and size * 4 < self._bytes:
            return None
        self.owed_records = self.owed_bytes = 0
        return records, size
