"""The texts of errors, read from the sources that raise them, so that no list has to be kept beside the code."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from deploy.options import ROOT
from skep import errors
from skep.errors import SkepError
from skep.wire import fields

PACKAGES = ("skep", "frontend", "backend", "auth", "plugin_manager", "mqtt_bridge")
KINDS: dict[str, type[SkepError]] = {
    name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, SkepError)
}
PROXY_KINDS = ("Refused", "Malformed", "TooLarge")
"""Of `ws_kafka_proxy.core.json_*`: refusals of the plugins' dialect, which have a text and no code."""
ELSEWHERE: dict[str, list[str | None]] = {
    "getattr(kind, 'refusal', None)": [fields.Time.refusal],
    "(meta.extra or {})['refusal']": [
        meta.extra["refusal"]
        for kind in vars(fields).values()
        for meta in getattr(kind, "__metadata__", ())
        if meta.extra and meta.extra.get("refusal")
    ],
}
"""Arguments that are values of types, by how they are written."""


class Text(NamedTuple):
    """One text that somebody may read, `<…>` where it names something. place: the file that raises it."""

    kind: str
    text: str
    place: str


class Unclear(Exception):
    """An error whose text can't be told from the source."""


def collect(packages: tuple[str, ...] = PACKAGES, root: Path = ROOT) -> list[Text]:
    """Of the tree of `skep.errors`. Raises Unclear."""
    return [text for path in _files(packages, root) for text in of_source(path, root)]


def of_proxy(root: Path = ROOT) -> list[Text]:
    paths = sorted((root / "ws_kafka_proxy" / "core").glob("json_*.py"))
    return [text for path in paths for text in of_source(path, root, PROXY_KINDS)]


def of_source(path: Path, root: Path = ROOT, kinds: tuple[str, ...] = tuple(KINDS)) -> list[Text]:
    """Texts that one file gives to errors of these kinds. Raises Unclear."""
    tree, place = ast.parse(path.read_text()), path.relative_to(root)
    module = importlib.import_module(".".join(place.with_suffix("").parts).removesuffix(".__init__"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (kind := _name(node.func)) in kinds and node.args:
            for text in _texts(node.args[0], module, tree):
                if text is None and kind in KINDS:
                    text = KINDS[kind].__doc__
                if text:
                    found.append(Text(str(kind), text, str(place)))
    return found


def _files(packages: tuple[str, ...], root: Path) -> Iterator[Path]:
    for package in packages:
        yield from sorted(
            path
            for path in (root / package).rglob("*.py")
            if path.name != "__main__.py" and "migrations" not in path.parts
        )


def _name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _texts(node: ast.expr, module: Any, tree: ast.Module) -> list[str | None]:
    """What the argument may be; None: the error's own default."""
    match node:
        case _ if (written := ast.unparse(node)) in ELSEWHERE:
            return ELSEWHERE[written]
        case ast.Constant(value=str() | None as value):
            return [value]
        case ast.JoinedStr(values=parts):
            return ["".join(_part(part) for part in parts)]
        case ast.IfExp(body=one, orelse=other):
            return [*_texts(one, module, tree), *_texts(other, module, tree)]
        case ast.Name(id=name) if isinstance(value := getattr(module, name, None), str):
            return [value]
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if isinstance(
            value := getattr(getattr(module, owner, None), name, None), str
        ):
            return [value]
        case ast.Subscript(value=ast.Name(id=name)) if isinstance(value := getattr(module, name, None), dict):
            return list(value.values())
        case ast.Call(func=ast.Attribute(value=template, attr="format")):
            return [
                re.sub(r"\{[a-z]*\}", "<…>", text or "").replace("{{", "{").replace("}}", "}")
                for text in _texts(template, module, tree)
            ]
        case ast.Await(value=ast.Call(func=function)):
            return _returned(_name(function), module, tree)
        case ast.Call(func=ast.Name(id="str"), args=[ast.Name(id="error")]):
            return ["<what is wrong>"]
        case ast.Name(id=name) if passed := _passed(name, tree):
            return [text for value in passed for text in _texts(value, module, tree)]
    raise Unclear(f"{module.__name__}:{node.lineno}: {ast.unparse(node)}")


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    name = ast.unparse(part.value)
    return f"<{name if name.isidentifier() else '…'}>"


def _passed(parameter: str, tree: ast.Module) -> list[ast.expr]:
    """What the module's functions with such a parameter are called with."""
    found = []
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        names = [argument.arg for argument in function.args.args]
        if parameter in names:
            calls = (
                node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) == function.name
            )
            found += [call.args[names.index(parameter)] for call in calls if len(call.args) > names.index(parameter)]
    return found


def _returned(function: str | None, module: Any, tree: ast.Module) -> list[str | None]:
    found: list[str | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function:
            for part in ast.walk(node):
                if isinstance(part, ast.Return) and part.value is not None:
                    found += _texts(part.value, module, tree)
    return found
