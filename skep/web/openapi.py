"""The OpenAPI 3.1 document of a service, made of the routes that serve it."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from msgspec import Struct

from skep import API_VERSION, errors
from skep.errors import SkepError
from skep.web import schemas
from skep.web.context import JSON, Response
from skep.web.routes import Route
from skep.web.schemas import Schema

VERSION = "3.1.0"
BEARER = "bearer"
ABOUT = """The DeviceHive API 3.5 as Skep serves it.

Input is read leniently: a number where text is wanted counts as its text, digits where a number is wanted as the \
number, unknown fields and parameters are ignored, of a repeated parameter the first counts, a body without \
Content-Type is JSON. Text in a query where a number is wanted is 404, as in DeviceHive. `x-action` names the action \
that the caller's token must allow.

Every answer has an X-Request-Id, a client's own where it sends one; errors are logged with it. Every GET may be asked \
as HEAD, OPTIONS tells what a page may do, another method of a known path is 405. The WebSocket API is described in \
docs/protocols/websocket.md, the texts of errors in docs/errors.md."""
HEADERS: dict[str, Schema] = {
    "X-Request-Id": {"schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}, "required": True},
    "Retry-After": {
        "description": "Seconds",
        "schema": {"type": "integer", "minimum": 1},
        "required": True,
    },
    "WWW-Authenticate": {"schema": {"const": "Bearer"}, "required": True},
}
_MORE_HEADERS = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}


class Error(Struct):
    """error: the status. message: for people; docs/errors.md lists them."""

    error: int
    message: str


def document(routes: Iterable[Route], prefix: str) -> dict[str, Any]:
    """prefix: the service's, such as "/api/rest". Raises TypeError for a type that has no schema, and where two routes
    or two types would get one name."""
    routes = list(routes)
    paths: dict[str, dict[str, Any]] = {}
    ids: set[str] = set()
    results, answered = schemas.answers([Error, *(_result(item) for item in routes), *_also(routes)])
    taken, accepted = schemas.bodies([item.body.kind for item in routes if item.body is not None])
    if both := {name for name in answered if name in accepted and answered[name] != accepted[name]}:
        raise TypeError(f"both what is answered and what is accepted is called {both}")
    answered = {name: schema | {"additionalProperties": False} for name, schema in answered.items()}
    result_of, body_of, also = iter(results[1:]), iter(taken), results[1 + len(routes) :]
    for item in routes:
        operation = _operation(item, next(result_of), next(body_of) if item.body is not None else None)
        for status in item.also:
            operation["responses"][str(status)] = _other(status, operation, also.pop(0))
        if operation["operationId"] in ids:
            raise TypeError(f"{item.name} has the same operationId as another route")
        ids.add(operation["operationId"])
        paths.setdefault(item.path, {})[item.method.lower()] = operation
    return {
        "openapi": VERSION,
        "info": {"title": f"Skep {prefix}", "version": API_VERSION, "description": ABOUT},
        "servers": [{"url": prefix}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted((answered | accepted).items())),
            "headers": HEADERS,
            "responses": {kind.__name__: _refusal(kind) for kind in errors.BY_STATUS.values()},
            "securitySchemes": {BEARER: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(item: Route, result: Schema, body: Schema | None) -> dict[str, Any]:
    summary, _, description = item.doc.partition("\n\n")
    made: dict[str, Any] = {
        "operationId": schemas.operation_id(item.method, item.path),
        "tags": [item.path.split("/")[1] or "info"],
        "summary": " ".join(summary.split()),
    }
    if description:
        made["description"] = description
    if item.action is not None:
        made["x-action"] = item.action.api_name
    made["security"] = [{BEARER: []}] if item.action is not None else []
    if parameters := _parameters(item):
        made["parameters"] = parameters
    if body is not None:
        made["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    made["responses"] = {str(item.status): _success(item, result)}
    for kind in _errors(item):
        shared = {"$ref": f"#/components/responses/{kind.__name__}"}
        made["responses"][str(kind.status)] = _bare(kind) if kind.status in item.bare else shared
    return made


def _parameters(item: Route) -> list[Schema]:
    found: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": _path(hint)}
        for name, hint in zip(item.path_names, item.path_hints, strict=True)
    ]
    if item.query is not None:
        found += schemas.parameters(item.query.kind, "query")
    if item.headers is not None:
        found += schemas.parameters(item.headers.kind, "header")
    return found


def _path(hint: Any) -> Schema:
    schema = schemas.of_text(hint)
    if schema["type"] == "integer":  # as `routes` reads it: digits only, 18 at most
        return schema | {"minimum": 0, "maximum": 10**18 - 1}
    return {"minLength": 1} | schema


def _errors(item: Route) -> list[type[SkepError]]:
    """What may be answered instead, in the order of statuses."""
    found: set[type[SkepError]] = {errors.Unauthorized, errors.Unavailable, *item.errors}
    if item.action is not None:
        found.add(errors.Forbidden)
    if item.path_names or (item.query is not None and schemas.has_number(item.query.kind)):
        found.add(errors.NotFound)
    if item.query is not None or item.headers is not None or item.body is not None:
        found.add(errors.BadRequest)
    if item.body is not None:
        found.add(errors.TooLarge)
    return sorted(found, key=lambda kind: kind.status)


def _result(item: Route) -> Any:
    """The type of the answer with the route's status."""
    if typing.get_origin(item.result) not in (typing.Union, types.UnionType):
        return item.result if item.result is not Response else str
    others = [member for member in typing.get_args(item.result) if member is not Response]
    if len(others) != 1:
        raise TypeError(f"{item.name} answers {item.result}")
    return others[0]


def _also(routes: Iterable[Route]) -> list[Any]:
    return [kind for item in routes for kind in item.also.values()]


def _success(item: Route, schema: Schema) -> Schema:
    if item.status == HTTPStatus.NO_CONTENT:
        return _response(item.status, None)
    return _response(item.status, schema, item.content_type.partition(";")[0])


def _other(status: int, operation: dict[str, Any], schema: Schema) -> Schema:
    """An answer besides; where its status is an error's as well, either."""
    if schema == {"type": "null"}:
        return _response(status, None)
    if str(status) in operation["responses"]:
        schema = {"anyOf": [schema, {"$ref": schemas.TEMPLATE.format(name=Error.__name__)}]}
        made = _response(status, schema)
        made["headers"].pop("Retry-After", None)
        return made
    return _response(status, schema)


def _refusal(kind: type[SkepError]) -> Schema:
    return _response(kind.status, {"$ref": schemas.TEMPLATE.format(name=Error.__name__)})


def _bare(kind: type[SkepError]) -> Schema:
    made = _response(kind.status, None)
    made["description"] += "; the error, or no body"
    return made


def _response(status: int, schema: Schema | None, content_type: str = JSON) -> Schema:
    names = ["X-Request-Id", *([_MORE_HEADERS[status]] if status in _MORE_HEADERS else [])]
    made: Schema = {
        "description": HTTPStatus(status).phrase,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
    if schema is not None:
        made["content"] = {content_type: {"schema": schema}}
    return made
