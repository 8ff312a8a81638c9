"""docs/protocols/websocket.md: the WebSocket API, from the table of its actions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from frontend.core.actions import table
from frontend.core.actions.table import Entry, Request
from skep.web import schemas
from skep.web.annotations import members
from skep.web.schemas import Schema
from skep.wire import views

INTRODUCTION = """# The WebSocket API

Written by `make docs` from the table of actions. `ws://host:8080/api/websocket`, text frames, one JSON object each, at
most 1 MiB. No subprotocol. `authenticate` binds a token to the socket, or an `Authorization: Bearer` header on the
handshake; whoever has not authenticated within 10 seconds is closed.

| | |
|---|---|
| request | `{"action": …, "requestId": …, fields}`; `requestId` is any JSON up to 1 KiB and comes back as it was |
| success | `{"action", "requestId", "status": "success", fields}` |
| error | `{"action", "requestId", "code", "status": "error", "error"}`; codes and texts: [errors](../errors.md) |
| push | `{"action", "subscriptionId", entity}`, without `requestId` and `status` |

Requests are taken in the order they come; answers may overtake each other, `requestId` tells them apart. An action
marked *in order* holds up those behind it until it is done. Unknown fields are ignored; numbers are taken as text and
digits as numbers, as in REST. Every action may be answered 400 (fields), 401 (no token, or it has expired), 403 (the
token lacks the action, or the target is not the caller's), 404 (the target is missing), 429 and 503 (try again).

What follows a subscribe: the success reply, then stored messages where `timestamp` is given, then live ones. A message
reaches a subscription once.

## Pushes

"""
OPERATIONS = {
    "notification/insert": ("notification", views.NotificationView, "a subscription to notifications"),
    "command/insert": ("command", views.CommandView, "one to commands"),
    "command/update": ("command", views.CommandView, "one to commands with `returnUpdatedCommands`"),
}
EXAMPLES: Mapping[str, object] = {
    "deviceId": "my-device",
    "notification": "temperature",
    "command": "reboot",
    "timestamp": "2026-11-21T08:07:00.123",
    "requestId": 1,
}


def text() -> str:
    """The page."""
    rows = [f"| `{action}` | `{key}` | {kind.__name__} | {what} |" for action, (key, kind, what) in OPERATIONS.items()]
    parts = [INTRODUCTION + "\n".join(["| action | entity | view | sent to |", "|---|---|---|---|", *rows]) + "\n"]
    parts.append("## Actions\n")
    parts += [_action(entry) for entry in table.entries()]
    parts.append("## Views\n")
    parts += _views()
    return "\n".join(parts)


def _action(entry: Entry) -> str:
    needs = " or ".join(f"`{permission.api_name}`" for permission in entry.permissions) or "nothing"
    order = ", *in order*" if entry.ordered else ""
    lines = [f"### {entry.name}\n", f"Needs {needs}{order}.\n"]
    fields = request_fields(entry)
    if fields:
        lines.append(
            "\n".join(["| field | type |", "|---|---|", *(f"| `{k}` | {_kind(v)} |" for k, v in fields.items())])
        )
        lines.append("")
    answers = ", ".join(f"`{name}`: {_kind(kind)}" for name, kind in entry.answers.items())
    lines.append(f"Answers {answers or 'no fields'}.\n")
    lines.append(f"```json\n{_line(example_request(entry))}\n{_line(example_reply(entry))}\n```\n")
    return "\n".join(lines)


def request_fields(entry: Entry) -> dict[str, Any]:
    """The fields of a request besides the envelope, with their types."""
    shared = {field.encode_name for field in msgspec.structs.fields(Request)} - set(entry.reads)
    return {
        field.encode_name: field.type for field in msgspec.structs.fields(entry.kind) if field.encode_name not in shared
    }


def example_request(entry: Entry) -> dict[str, Any]:
    made = {name: _example(name, kind) for name, kind in request_fields(entry).items()}
    return {"action": entry.name, "requestId": 1, **made}


def example_reply(entry: Entry) -> dict[str, Any]:
    made = {name: _example(name, kind) for name, kind in entry.answers.items()}
    return {"action": entry.name, "requestId": 1, "status": "success", **made}


def _line(message: Mapping[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False)


def _kind(kind: Any) -> str:
    """As people read it."""
    (schema,), _ = schemas.answers([_describable(kind)])
    return _words(schema)


def _words(schema: Schema) -> str:
    if "$ref" in schema:
        return f"[{schema['$ref'].rpartition('/')[2]}](#{schema['$ref'].rpartition('/')[2].lower()})"
    if "anyOf" in schema:
        return " or ".join(_words(part) for part in schema["anyOf"] if part != {"type": "null"})
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"] if value is not None)
    kinds = schema.get("type", "any JSON")
    words = " or ".join(kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind != "null")
    if words == "array":
        return f"array of {_words(schema['items'])}"
    description = schema.get("description", "")
    return f"{words} ({description})" if description else words


def _describable(kind: Any) -> Any:
    """A type that schemas can be made of: a nested body may have defaults that can't be shown."""
    for member, _ in members(kind):
        if isinstance(member, type) and issubclass(member, Struct):
            return schemas.describable(member)
    return kind


def _example(name: str, kind: Any) -> Any:
    if name in EXAMPLES and not any(isinstance(m, type) and issubclass(m, Struct) for m, _ in members(kind)):
        return EXAMPLES[name]
    (schema,), components = schemas.answers([_describable(kind)])
    return _value(name, schema, components)


def _value(name: str, schema: Schema, components: Mapping[str, Schema]) -> Any:
    if "$ref" in schema:
        component = components[schema["$ref"].rpartition("/")[2]]
        return {key: _value(key, part, components) for key, part in component["properties"].items()}
    if "anyOf" in schema:
        return _value(name, next(part for part in schema["anyOf"] if part != {"type": "null"}), components)
    if "enum" in schema:
        return schema["enum"][0]
    kinds = schema.get("type", "object")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if kind == "array":
        return [_value(name, schema["items"], components)]
    if kind == "string" and (name in EXAMPLES or re.search(r"\\d\{4\}|ISO", json.dumps(schema))):
        return EXAMPLES.get(name, EXAMPLES["timestamp"])
    return {"string": "text", "integer": 1, "number": 1, "boolean": True, "object": {}}[kind]


def _views() -> list[str]:
    """What requests and answers refer to, each once."""
    kinds: list[Any] = [kind for _, kind, _ in OPERATIONS.values()]
    for entry in table.entries():
        kinds += [_describable(kind) for kind in (*request_fields(entry).values(), *entry.answers.values())]
    components = _components(kinds)
    return [_view(name, schema) for name, schema in sorted(components.items())]


def _components(kinds: Iterable[Any]) -> dict[str, Schema]:
    unique = {repr(kind): kind for kind in kinds if kind is not Raw}
    return schemas.answers(unique.values())[1]


def _view(name: str, schema: Schema) -> str:
    rows = [f"| `{key}` | {_words(part)} |" for key, part in schema["properties"].items()]
    about = f"{schema['description']}\n\n" if "description" in schema else ""
    return "\n".join([f"### {name}\n", about + "| field | type |", "|---|---|", *rows, ""])
