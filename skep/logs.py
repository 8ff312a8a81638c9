"""One line a record, `key=value`, with the request id of the current task; secrets masked.

Lines go to standard error. A traceback stays on its record's line, with escaped line ends.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Set by the edge for the task that serves a request."""

_MASKS = (
    # a JWT, or the beginning of one, wherever it stands
    (re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,2}"), "***"),
    (re.compile(r"(?i)(bearer\s+)[^\s\"',]+"), r"\1***"),
    # "password": "x" | password=x | secret='x', also inside escaped JSON
    (
        re.compile(
            r"""(?i)((?:password|secret|token)\w*\\*["']?\s*[:=]\s*)(?:\\*"(?:\\.|[^"\\])*"?|'[^']*'?|[^\s,;&}]+)"""
        ),
        r"\1***",
    ),
    # postgresql://user:password@host
    (re.compile(r"(://[^\s/:@]+:)[^\s/]+@"), r"\1***@"),
)


def mask(text: str) -> str:
    """`text` without tokens and passwords."""
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    return text


class Formatter(logging.Formatter):
    """`time=… level=… logger=… [request=…] msg="…" [error="…"]`"""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = f"time={seconds}.{int(record.msecs):03d}Z level={record.levelname.lower()} logger={record.name}"
        if request := request_id.get():
            line += f" request={request}"
        line += f" msg={_quoted(record.getMessage())}"
        if record.exc_info:
            line += f" error={_quoted(self.formatException(record.exc_info))}"
        return line


def get(name: str) -> logging.Logger:
    """The logger of a part, e.g. "frontend" or "bus"."""
    return logging.getLogger(name)


def setup(level: str = "INFO") -> None:
    """Sends all records of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The edge counts requests and logs failures itself; a line for each request costs more than the request.
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)


def _quoted(text: str) -> str:
    return json.dumps(mask(text), ensure_ascii=False)
