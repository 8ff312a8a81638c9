"""DATABASE_URL in its forms, and driver errors as the API's."""

import psycopg
import pytest
from sqlalchemy import exc

from skep import errors
from skep.metadata import database, failures


@pytest.mark.parametrize(
    ("url", "host", "name"),
    [
        ("postgresql://u:p@h:1/d", "h", "d"),
        ("postgres://u:p@h/d", "h", "d"),
        ("postgresql+psycopg://u@h/d", "h", "d"),
        ("postgresql://u:p%40%2F@/d?host=/run/sock", None, "d"),
        ("postgresql:///d?host=/run/sock&port=6000", None, "d"),
    ],
)
def test_forms_of_the_url(url, host, name):
    parsed = database.parse(url)
    assert (parsed.drivername, parsed.host, parsed.database) == ("postgresql+psycopg", host, name)


@pytest.mark.parametrize(
    "url", ["", "x", "mysql://u:secret-word@h/d", "postgresql://h", "postgresql://u:secret-word@h:x/d"]
)
def test_impossible_urls_keep_the_password_to_themselves(url):
    with pytest.raises(ValueError, match="DATABASE_URL") as raised:
        database.parse(url)
    assert "secret-word" not in str(raised.value)
    assert raised.value.__cause__ is None


async def test_own_options_are_kept():
    engine = database.connect("postgresql://u@h/d?options=-csearch_path%3Dskep")
    _, arguments = engine.dialect.create_connect_args(engine.url)
    await engine.dispose()
    assert arguments["options"] == "-csearch_path=skep"


def wrapped(kind, error):
    return kind("statement", {}, error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (wrapped(exc.DBAPIError, psycopg.errors.QueryCanceled()), errors.Unavailable),
        (wrapped(exc.DBAPIError, psycopg.errors.AdminShutdown()), errors.Unavailable),
        (wrapped(exc.OperationalError, psycopg.OperationalError("refused")), errors.Unavailable),
        (wrapped(exc.DBAPIError, psycopg.errors.DiskFull()), errors.Unavailable),
        (wrapped(exc.ProgrammingError, psycopg.errors.UndefinedTable()), errors.Unavailable),
        (wrapped(exc.DBAPIError, psycopg.errors.DeadlockDetected()), errors.Conflict),
        (wrapped(exc.IntegrityError, psycopg.errors.UniqueViolation()), errors.Conflict),
        (wrapped(exc.IntegrityError, psycopg.errors.ForeignKeyViolation()), errors.BadRequest),
        (wrapped(exc.DataError, psycopg.errors.NumericValueOutOfRange()), errors.BadRequest),
        (wrapped(exc.ProgrammingError, psycopg.errors.SyntaxError()), errors.Internal),
        (exc.TimeoutError(), errors.Unavailable),
        (ConnectionResetError(), errors.Unavailable),
        (failures.Again(), errors.Conflict),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, ""), errors.BadRequest),
        (KeyError("x"), errors.Internal),
        (errors.NotFound("as it is"), errors.NotFound),
    ],
)
def test_driver_errors(error, expected):
    assert type(failures.translated(error)) is expected
