"""docs/errors.md: the tree of errors, every text, and how a refusal is found in the logs."""

from __future__ import annotations

from collections.abc import Iterable

from deploy import texts
from skep import errors
from skep.bus.errors import BusError
from skep.wire.proxy import Code

MEANING = {
    400: "The request can't be right, whoever sends it. Sending it again changes nothing.",
    401: "No token, or one that is no good any more. Get another one.",
    403: "Known, but not allowed; also where something may exist that the caller must not know of.",
    404: "Not there. In a query also text where a number is wanted, as in DeviceHive.",
    405: "The path has other methods; `Allow` names them.",
    409: "Lost against a change at the same time. Read again, then decide.",
    413: "More than is taken at once.",
    429: "Too often. `Retry-After` says how many seconds to wait.",
    500: "The platform failed on this one input. It is logged with its cause.",
    503: "A part is away or did not answer in time. Nothing is wrong with the request: try again, after `Retry-After`"
    " seconds. An insert with an idempotency key is safe to repeat.",
}
INTRODUCTION = """# Errors

Written by `make docs` from `skep/errors.py` and from the code that raises them.

REST answers with the status and `{"error": status, "message": text}`; where the text is empty, without a body.
WebSocket answers `{"action", "requestId", "code": status, "status": "error", "error": text}`. Codes are meant for
programs and stay; texts are meant for people, but for those that the DeviceHive API has, which clients compare.

**Finding one in the logs.** Every REST answer, and a refused WebSocket handshake, has an `X-Request-Id`: the one the
client sent (1 to 64 letters, digits, `.`, `_`, `-`), else one of ours. A WebSocket request has `<socket>.<requestId>`.
Every refusal is one line at level INFO, every failure of the platform one at ERROR with its cause, both with
`request=<id>`:

```
time=2026-11-21T08:07:00.123Z level=info logger=web request=5f3a9c-1f msg="GET /device/{deviceId}: 403 Access is denied"
```

In what follows `<…>` stands for a name or a number.
"""
WEBSOCKETS = """## The WebSocket is closed

| code | why |
|---|---|
| 1001 | nothing was heard of the client for 4 minutes |
| 1002, 1007, 1009 | what came is no WebSocket frame, no UTF-8, or larger than 1 MiB |
| 1008 | not authenticated in time, or too many messages or pings |
| 1011 | the platform failed |
| 1012 | the service stops; connect again |
| 1013 | messages may be missing, the reader is too slow, or rights can't be read: connect again, and subscribe with the
`timestamp` of the last message |
"""


def text() -> str:
    """The page."""
    found = texts.collect()
    parts = [INTRODUCTION]
    for status, kind in sorted(errors.BY_STATUS.items()):
        parts.append(f"## {status} {kind.__name__}\n\n{MEANING[status]}\n\n{_table(found, status, kind)}")
    parts.append(WEBSOCKETS.replace("the\n`timestamp`", "the `timestamp`"))
    parts.append("## The plugins' dialect\n\nOf the proxy's JSON dialect, with `s: 1`, as `p.m`.\n\n" + _proxy())
    parts.append(
        "## The bus\n\nWhat a service's publish is refused with (`skep/wire/proxy.py`). Towards clients it is 503, or"
        " 413 for `TOO_LARGE`.\n\n" + ", ".join(f"`{code.name}` {code.value}" for code in Code) + ".\n"
    )
    return "\n".join(parts)


def _table(found: Iterable[texts.Text], status: int, kind: type[errors.SkepError]) -> str:
    rows = {text: where for text, where in _rows(found) if where[0] == status}
    own = {kind.__doc__ or "": (status, {"skep"})}
    if status == errors.Unavailable.status:
        own |= {BusError.__doc__ or "": (status, {"skep"})}
    lines = [
        f"| {_cell(text)} | {', '.join(sorted(places))} |" for text, (_, places) in sorted({**own, **rows}.items())
    ]
    return "\n".join(["| text | raised in |", "|---|---|", *lines, ""])


def _rows(found: Iterable[texts.Text]) -> list[tuple[str, tuple[int, set[str]]]]:
    """Texts with their status and the packages that raise them."""
    places: dict[tuple[int, str], set[str]] = {}
    for item in found:
        places.setdefault((texts.KINDS[item.kind].status, item.text), set()).add(item.place.partition("/")[0])
    return [(text, (status, where)) for (status, text), where in places.items()]


def _proxy() -> str:
    return "\n".join(f"- {_cell(text)}" for text in sorted({item.text for item in texts.of_proxy()})) + "\n"


def _cell(text: str) -> str:
    return "`" + text.replace("\n", "↵").replace("|", "\\|").strip() + "`"
