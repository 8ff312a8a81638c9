"""Routes as data: method, path, permission, types of the inputs. Found by segments, not by regular expressions."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

from msgspec import Struct

from skep.access import Action
from skep.errors import MethodNotAllowed, NotFound, SkepError
from skep.web import json
from skep.web import query as queries
from skep.web.context import JSON

METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
Guard = Callable[..., Awaitable[None]]

_PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Route:
    """One operation of the API. `action` None: public. `path_types`: str or int for each `{name}` of the path;
    `path_hints`: the same as the handler has them, with bounds. `guard` is asked with the context and the path's
    values before query, headers and body are looked at.

    For OpenAPI: `errors`, those that inputs and permission do not explain; `bare`, statuses of errors whose answer may
    have no body; `also`, other answers than `status` that are no errors, with their types."""

    method: str
    path: str
    action: Action | None
    handler: Callable[..., Awaitable[Any]]
    path_names: tuple[str, ...]
    path_types: tuple[type, ...]
    path_hints: tuple[Any, ...]
    query: queries.Decoder | None
    headers: queries.Decoder | None
    body: json.Decoder[Any] | None
    result: Any
    status: int
    guard: Guard | None
    doc: str
    errors: tuple[type[SkepError], ...] = ()
    bare: tuple[int, ...] = ()
    also: Mapping[int, Any] = field(default_factory=dict)
    content_type: str = JSON

    @property
    def name(self) -> str:
        """For logs, metrics and OpenAPI."""
        return f"{self.method} {self.path}"


def route(
    method: str,
    path: str,
    *,
    action: Action | None,
    query: type[Struct] | None = None,
    headers: type[Struct] | None = None,
    body: Any = None,
    status: int = 200,
    guard: Guard | None = None,
    **described: Any,
) -> Callable[[F], F]:
    """Declares a handler: `async def handler(ctx, <path values>, <query>, <headers>, <body>)`, the last three where
    declared. described: `errors`, `bare`, `also` and `content_type` of the `Route`.
    The types of the path values are those of its signature; a value that is no number where `int` is wanted is 404.
    What it returns becomes the JSON body (nothing with status 204); its return annotation is the API's type.

    Raises TypeError at import where the permission is no known action or the signature does not fit.
    """

    def declare(handler: F) -> F:
        handler.__dict__.setdefault("routes", []).append(
            _made(handler, method, path, action, query, headers, body, status, guard, described)
        )
        return handler

    return declare


def collect(*sources: Any) -> list[Route]:
    """Routes of modules (all their handlers), of handlers, and of routes themselves."""
    found: list[Route] = []
    for source in sources:
        if isinstance(source, Route):
            found.append(source)
        elif inspect.ismodule(source):
            for value in vars(source).values():
                if inspect.isfunction(value) and value.__module__ == source.__name__:
                    found += getattr(value, "routes", ())
        else:
            found += source.routes
    return found


def _made(
    handler: Callable[..., Awaitable[Any]],
    method: str,
    path: str,
    action: Action | None,
    query_type: type[Struct] | None,
    headers_type: type[Struct] | None,
    body: Any,
    status: int,
    guard: Guard | None,
    described: dict[str, Any],
) -> Route:
    if method not in METHODS:
        raise TypeError(f"{method} {path}: unknown method")
    if action is not None and (not isinstance(action, Action) or action in (Action.ANY, Action.NONE)):
        raise TypeError(f"{method} {path}: {action!r} is no permission")
    hints = typing.get_type_hints(handler, include_extras=True)
    arguments = list(inspect.signature(handler).parameters)
    names = tuple(_PARAMETER.findall(path))
    if len(arguments) != 1 + len(names) + sum(kind is not None for kind in (query_type, headers_type, body)):
        raise TypeError(f"{method} {path}: takes {arguments}, wants context, {names}, and the inputs it declares")
    path_hints = tuple(hints.get(argument, str) for argument in arguments[1 : 1 + len(names)])
    types = tuple(queries.plain(kind) for kind in path_hints)
    if any(kind not in (str, int) for kind in types):
        raise TypeError(f"{method} {path}: path values are str or int")
    return Route(
        method=method,
        path=path,
        action=action,
        handler=handler,
        path_names=names,
        path_types=types,
        path_hints=path_hints,
        query=queries.Decoder(query_type) if query_type is not None else None,
        headers=queries.Decoder(headers_type) if headers_type is not None else None,
        body=json.Decoder(body) if body is not None else None,
        result=hints.get("return"),
        status=status,
        guard=guard,
        doc=inspect.getdoc(handler) or "",
        **described,
    )


class _Node:
    __slots__ = ("children", "methods", "parameter")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.methods: dict[str, Route] = {}


class Table:
    """Finds the route of a request. A literal segment goes before a parameter, as in JAX-RS."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for item in routes:
            node = self._root
            for segment in _segments(item.path):
                if _PARAMETER.fullmatch(segment):
                    node.parameter = node = node.parameter or _Node()
                else:
                    node = node.children.setdefault(segment, _Node())
            if item.method in node.methods:
                raise TypeError(f"{item.name} is declared twice")
            node.methods[item.method] = item

    def allowed(self, path: str) -> list[str]:
        """Methods of a path below the prefix, e.g. "/device/1". Raises `NotFound`."""
        return sorted(self._node(path)[0].methods)

    def find(self, method: str, path: str) -> tuple[Route, list[Any]]:
        """The route and the path's values, unescaped. Raises `NotFound`, `MethodNotAllowed`."""
        node, texts = self._node(path)
        found = node.methods.get("GET" if method == "HEAD" else method)
        if found is None:
            raise MethodNotAllowed
        return found, [_value(text, kind) for text, kind in zip(texts, found.path_types, strict=True)]

    def _node(self, path: str) -> tuple[_Node, list[str]]:
        texts: list[str] = []
        found = _walk(self._root, _segments(path), 0, texts)
        if found is None:
            raise NotFound
        return found, texts


def _segments(path: str) -> list[str]:
    parts = path.split("/")[1:]
    return parts[:-1] if parts and not parts[-1] else parts


def _walk(node: _Node, segments: list[str], at: int, texts: list[str]) -> _Node | None:
    if at == len(segments):
        return node if node.methods else None
    segment = segments[at]
    if (child := node.children.get(segment)) and (found := _walk(child, segments, at + 1, texts)):
        return found
    if node.parameter is not None and segment:
        texts.append(segment)
        if found := _walk(node.parameter, segments, at + 1, texts):
            return found
        texts.pop()
    return None


def _value(text: str, kind: type) -> Any:
    # Split first, unescaped afterwards: %2F inside an id is a character of it and no separator.
    if kind is int:
        if not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise NotFound
        return int(text)
    try:
        return unquote(text, errors="strict") if "%" in text else text
    except UnicodeDecodeError:
        raise NotFound from None
