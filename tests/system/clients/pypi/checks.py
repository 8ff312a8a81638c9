"""Comparisons that go on after a difference, so that one run shows all of them."""

import inspect
from pathlib import Path

from devicehive.api_response import ApiResponseError

DIFFERENCES: list[str] = []
FAULTS: set[str] = set()


def same(actual, expected, depth=1):
    """Note a difference, with the line of the caller `depth` frames up."""
    if actual != expected:
        frame = inspect.stack()[depth]
        DIFFERENCES.append(f"{Path(frame.filename).name}:{frame.lineno}: {actual!r} instead of {expected!r}")


def refused(code, text, call, *args, **kwargs):
    """The server must answer the call with that code and text."""
    try:
        answer = call(*args, **kwargs)
    except ApiResponseError as error:
        same((error.code, error.error), (code, text), 2)
    else:
        same(answer, (code, text), 2)


def raises(kind, text, call, *args, **kwargs):
    """The library itself must refuse the call."""
    try:
        answer = call(*args, **kwargs)
    except kind as error:
        same(str(error), text, 2)
    else:
        same(answer, (kind.__name__, text), 2)


def refused_with(code, call, *args, containing="", **kwargs):
    """As `refused`, where nobody says what the whole text is."""
    try:
        answer = call(*args, **kwargs)
    except ApiResponseError as error:
        same((error.code, containing if containing in (error.error or "") else error.error), (code, containing), 2)
    else:
        same(answer, code, 2)


def fault(method, shown):
    """The library's own mistake in that method shows; the test's table says what it is."""
    if shown:
        FAULTS.add(method)
