"""What the bus answers instead of a result. Each is a `SkepError`, so an edge renders it without knowing the bus.

BusError
├── Refused     final: not on the bus        503, too large 413
│   └── Closed  the subscription has ended   503
├── TimedOut    may be on the bus or not     503
└── Failed      the other service said so    its own code
"""

from __future__ import annotations

from skep import errors
from skep.wire.proxy import Code


class BusError(errors.Unavailable):
    """Service is not available, try again"""


class Refused(BusError):
    """The record or request is not on the bus and won't be. `code`: a `wire.proxy.Code`; `reason`: for the log."""

    def __init__(self, code: int, reason: str) -> None:
        too_large = code == Code.TOO_LARGE  # the one refusal that no further try can change, and the caller's doing
        super().__init__((errors.TooLarge if too_large else errors.Unavailable).__doc__)
        if too_large:
            self.status = errors.TooLarge.status
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        name = Code(self.code).name if self.code in Code.__members__.values() else str(self.code)
        return f"{name}: {self.reason}"


class Closed(Refused):
    """The subscription has ended: topic deleted, fenced by a newer member, or closed by its owner."""


class TimedOut(BusError):
    """No confirmation or answer before the deadline."""

    def __init__(self, what: str) -> None:
        super().__init__(errors.Unavailable.__doc__)
        self.what = what

    def __str__(self) -> str:
        return self.what


class Failed(BusError):
    """The called service answered with an error: `code` is an HTTP status, `message` the text for the client.
    retry_after: as the service said."""

    def __init__(self, code: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = self.code = code
        self.message = message
        self.retry_after = retry_after or (1 if code == errors.Unavailable.status else None)
