"""Driver errors -> the tree of `skep.errors`, in one place."""

from __future__ import annotations

import psycopg
from sqlalchemy import exc

from skep import errors

DUPLICATES = {
    "uq_users_login": "User with such login already exists. Please, select another one",
    "uq_networks_name": "Network cannot be created. Network with such name already exists",
    "uq_device_types_name": "Device type cannot be created. Device type with such name already exists",
}
"""Texts of the DeviceHive API by constraint."""

_AGAIN = ("40001", "40P01")  # serialization failure, deadlock
_AWAY = ("08", "53", "55", "57", "58")  # connection, resources, locks, intervention (time-outs), system


class Again(Exception):
    """The transaction lost against another one; a second try sees its result."""


def repeatable(error: BaseException) -> bool:
    return isinstance(error, Again) or (isinstance(error, exc.DBAPIError) and _state(error) in _AGAIN)


def translated(error: Exception) -> errors.SkepError:
    """The error to raise `from` the driver's. What was said before about a value's rights or length is better
    than what the server says, so most of these are last lines of defence."""
    if isinstance(error, errors.SkepError):
        return error
    if isinstance(error, (UnicodeError, exc.DataError)):
        return errors.BadRequest()
    if isinstance(error, exc.IntegrityError):
        return _violation(error)
    if isinstance(error, Again) or repeatable(error):
        return errors.Conflict()
    if isinstance(error, (exc.TimeoutError, exc.DisconnectionError, OSError)):
        return errors.Unavailable()
    if isinstance(error, exc.DBAPIError):
        return _database(error)
    return errors.Internal()


def _violation(error: exc.IntegrityError) -> errors.SkepError:
    name = error.orig.diag.constraint_name if isinstance(error.orig, psycopg.Error) else None
    if name in DUPLICATES:
        return errors.Forbidden(DUPLICATES[name])
    if _state(error) in ("23503", "23514", "23502"):  # foreign key, check, not null: a bad reference or value
        return errors.BadRequest()
    return errors.Conflict()


def _database(error: exc.DBAPIError) -> errors.SkepError:
    state = _state(error)
    # An operational error without a state is the client's own: refused, timed out, cut.
    if error.connection_invalidated or state is None or state.startswith(_AWAY):
        return errors.Unavailable()
    if state in ("42P01", "42703"):  # no such table, column: not migrated yet
        return errors.Unavailable()
    return errors.Internal()


def _state(error: exc.DBAPIError) -> str | None:
    return error.orig.sqlstate if isinstance(error.orig, psycopg.Error) else None
