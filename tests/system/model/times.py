"""Timestamps as the API writes them, and milliseconds."""

from __future__ import annotations

import datetime

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MS = datetime.timedelta(milliseconds=1)


def ms(text: str) -> int:
    """Of "2026-11-21T10:00:00.123"; raises ValueError for any other form."""
    if len(text) != 23:
        raise ValueError(f"not a timestamp of the API: {text}")
    return (datetime.datetime.fromisoformat(f"{text}+00:00") - EPOCH) // MS


def text(ms: int) -> str:
    return (EPOCH + ms * MS).replace(tzinfo=None).isoformat(timespec="milliseconds")
