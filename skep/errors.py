"""The tree of errors a client may see.

SkepError
├── BadRequest 400        malformed or impossible input
│   └── MalformedJson     not JSON, or fields of the wrong type
├── Unauthorized 401      no, wrong or expired credentials
├── Forbidden 403         known, but not allowed
├── NotFound 404          missing
├── MethodNotAllowed 405
├── Conflict 409          lost against a concurrent change
├── TooLarge 413
├── TooManyRequests 429
├── Internal 500          the platform failed on this one input
└── Unavailable 503       a part is away or did not answer in time; safe to try again

REST answers `{"error": status, "message": text}` with the status, WebSocket `{"status": "error", "code": status,
"error": text}`. Texts are those of the DeviceHive API where it has one.
"""

from __future__ import annotations


class SkepError(Exception):
    """`status` is the HTTP status and WebSocket code, `text` what the client reads. The docstring is the default.
    retry_after: seconds until it is worth trying again, if it is."""

    status = 500
    retry_after: int | None = None

    def __init__(self, text: str | None = None) -> None:
        self.text = text if text is not None else (type(self).__doc__ or "")
        super().__init__(self.text)


class BadRequest(SkepError):
    """Invalid request parameters"""

    status = 400


class MalformedJson(BadRequest):
    """Malformed Json received."""


class Unauthorized(SkepError):
    """Unauthorized"""

    status = 401


class Forbidden(SkepError):
    """Access is denied"""

    status = 403


class NotFound(SkepError):
    """HTTP 404 Not Found"""

    status = 404


class MethodNotAllowed(SkepError):
    """HTTP 405 Method Not Allowed"""

    status = 405


class Conflict(SkepError):
    """Conflict with another change of the same entity"""

    status = 409


class TooLarge(SkepError):
    """Request body is too large"""

    status = 413


class TooManyRequests(SkepError):
    """Too many requests"""

    status = 429

    def __init__(self, text: str | None = None, retry_after: int = 1) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Internal(SkepError):
    """Internal server error"""

    status = 500


class Unavailable(SkepError):
    """Service is not available, try again"""

    status = 503
    retry_after: int | None = 1


BY_STATUS: dict[int, type[SkepError]] = {
    c.status: c
    for c in (
        BadRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        Conflict,
        TooLarge,
        TooManyRequests,
        Internal,
        Unavailable,
    )
}
