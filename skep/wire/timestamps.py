"""Times of the API: epoch milliseconds inside, `yyyy-MM-ddTHH:mm:ss.SSS` (UTC, no zone) outside.

Read are ISO 8601 dates and times (fraction of any length cut to ms; `Z`, an offset, or nothing for UTC), RFC 1123
dates, and epoch milliseconds as a number or as digits. Years 1 to 9999.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache

MIN = -62_135_596_800_000
MAX = 253_402_300_799_999
"""First and last millisecond that can be written."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_NUMBER = re.compile(r"-?[0-9]{1,17}", re.ASCII)
_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,]([0-9]{1,30}))?(?:([Zz])|([+-][0-9]{2})(?::?([0-9]{2}))?)?)?",
    re.ASCII,
)
_RFC_1123 = re.compile(
    r"[A-Za-z]{3}, [0-9]{1,2} [A-Za-z]{3} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} (?:GMT|UTC|[+-][0-9]{4})", re.ASCII
)

_DAYS = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_LEAP = "(?:0[48]|[2468][048]|[13579][26])"
_TIME = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_OFFSET = "[+-](?:0[1-9]|1[0-7])"
_WEEKDAYS, _MONTHS = "Mon|Tue|Wed|Thu|Fri|Sat|Sun", "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"


def _pattern(millennium: str, leap_centuries: str, digits: str) -> str:
    """millennium: first digits of the years. leap_centuries: of the centuries that are leap years."""
    year = f"{millennium}[0-9]{{3}}"
    leap_day = f"(?:{millennium}[0-9]{_LEAP}|{leap_centuries}00)-02-29"
    return (
        f"^(?:{digits}|(?:{year}-{_DAYS}|{leap_day})"
        rf"(?:[Tt ]{_TIME}(?::[0-5][0-9])?(?:[.,][0-9]{{1,30}})?(?:[Zz]|{_OFFSET}(?::?[0-5][0-9])?)?)?"
        rf"|(?:{_WEEKDAYS}), (?:0?[1-9]|1[0-9]|2[0-8]) (?:{_MONTHS}) {year} {_TIME}:[0-5][0-9]"
        rf" (?:GMT|UTC|{_OFFSET}[0-5][0-9]))$"
    )


PATTERN = _pattern("[1-8]", "(?:[2468][048]|[1357][26])", "-?[0-9]{1,13}")
"""For OpenAPI: texts that `parse` reads, all that anybody would send. Also read are the years up to 999 and from 9000,
the last days of a month in an RFC 1123 date, and numbers of more digits, as far as there are such days."""
LATER = _pattern("[2-8]", "(?:[2468][048]|[357][26])", "[1-9][0-9]{0,12}")
"""Those of this millennium and later ones, and milliseconds after the epoch."""


def parse(value: str | int | float) -> int:
    """Milliseconds since the epoch. ValueError where it is no time, or one that can't be written."""
    if isinstance(value, bool):
        raise ValueError("a time is neither true nor false")
    if isinstance(value, str):
        return _in_range(_parse_text(value.strip()))
    if value != value or not MIN <= value <= MAX:
        raise ValueError("outside the years 1 to 9999")
    return int(value)


def format(ms: int) -> str:
    """As in `2026-11-21T08:07:00.123`. ValueError outside `MIN`..`MAX`."""
    seconds, fraction = divmod(ms, 1000)
    return f"{_second(seconds)}.{fraction:03d}"


def _parse_text(text: str) -> int:
    if _NUMBER.fullmatch(text):
        return int(text)
    iso = _ISO.fullmatch(text)
    if iso:
        return _parse_iso(iso)
    if _RFC_1123.fullmatch(text):
        try:
            return (parsedate_to_datetime(text) - _EPOCH) // _MS
        except (TypeError, IndexError, OverflowError) as error:
            raise ValueError("no such date") from error
    raise ValueError("neither ISO 8601, RFC 1123 nor epoch milliseconds")


def _parse_iso(iso: re.Match[str]) -> int:
    date, time, fraction, _, hours, minutes = iso.groups()
    whole = datetime.fromisoformat(f"{date}T{time or '00:00'}+00:00")
    ms = (whole - _EPOCH) // _MS + int(((fraction or "") + "000")[:3])
    if hours is None:
        return ms
    offset = int(hours[1:]) * 60 + int(minutes or 0)
    if int(minutes or 0) > 59 or offset > 18 * 60:
        raise ValueError("no such offset")
    return ms + offset * 60_000 if hours[0] == "-" else ms - offset * 60_000


def _in_range(ms: int) -> int:
    if not MIN <= ms <= MAX:
        raise ValueError("outside the years 1 to 9999")
    return ms


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    try:
        return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    except OverflowError as error:
        raise ValueError("outside the years 1 to 9999") from error
