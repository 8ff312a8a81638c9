"""JSON Schema (2020-12) of types: as answers have them, and as inputs accept them (reference §1.4)."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from skep.web import query
from skep.web.annotations import members
from skep.wire.fields import MAX_INT, NO_NUL

TEMPLATE = "#/components/schemas/{name}"
INTEGER = "^-?(0|[1-9][0-9]{0,17})(\\.0+)?$"
NATURAL = "^(0|[1-9][0-9]{0,17})(\\.0+)?$"
BOOLEAN = "^([tT][rR][uU][eE]|[fF][aA][lL][sS][eE]|[01])$"

Schema = dict[str, Any]


def answers(kinds: Iterable[Any]) -> tuple[list[Schema], dict[str, Schema]]:
    """A schema for each type, and the components they refer to."""
    schemas, components = msgspec.json.schema_components(kinds, schema_hook=_hook, ref_template=TEMPLATE)
    for component in components.values():
        if "description" in component:
            component["description"] = " ".join(component["description"].split())
    return [_flat(schema) for schema in schemas], {name: _flat(schema) for name, schema in components.items()}


def bodies(kinds: Iterable[Any]) -> tuple[list[Schema], dict[str, Schema]]:
    """As `answers`, for what `json.Decoder` accepts."""
    kinds = [describable(kind) for kind in kinds]
    schemas, components = answers(kinds)
    least = {name: value for kind in kinds for name, value in _least(kind)}
    required = {kind.__name__: getattr(kind, "required", ()) for kind in kinds}
    return schemas, {name: _accepted(schema, least, required.get(name, ())) for name, schema in components.items()}


def parameters(kind: type[Struct], place: str) -> list[Schema]:
    """OpenAPI parameters for the fields of a query's or header's type. place: "query" or "header"."""
    return [_parameter(field, place) for field in msgspec.structs.fields(kind)]


def of_text(kind: Any) -> Schema:
    """Of a value that stands in a path, a query or a header."""
    ((schema,), _) = answers([kind])
    schema = {key: value for key, value in schema.items() if key != "default"}
    if "anyOf" in schema:
        raise TypeError(f"{kind} has more than one form")
    if isinstance(schema.get("type"), list):
        schema["type"] = next(name for name in schema["type"] if name != "null")
        if schema["type"] == "string":
            schema = {key: value for key, value in schema.items() if key not in ("minimum", "maximum")}
    if "items" in schema:
        schema["items"] = _text(schema["items"])
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    return _text(schema)


def has_number(kind: type[Struct]) -> bool:
    """Whether a query of this type has numbers: text in their place is 404."""
    plain = [query.plain(field.type) for field in msgspec.structs.fields(kind)]
    return any(member is int or typing.get_args(member) == (int,) for member in plain)


def describable(kind: Any) -> Any:
    """A body's type, without the defaults of type `Raw`, which msgspec can't describe."""
    if not any(isinstance(field.default, Raw) for field in msgspec.structs.fields(kind)):
        return kind
    fields = [
        (field.encode_name, field.type, UNSET if isinstance(field.default, Raw) else field.default)
        for field in msgspec.structs.fields(kind)
    ]
    namespace = {"__doc__": kind.__doc__, "required": getattr(kind, "required", ())}
    return msgspec.defstruct(kind.__name__, fields, namespace=namespace, module=kind.__module__)


def _parameter(field: msgspec.structs.FieldInfo, place: str) -> Schema:
    schema = of_text(field.type)
    made: Schema = {"name": field.encode_name, "in": place, "required": field.required, "schema": schema}
    if description := schema.pop("description", None):
        made["description"] = description
    if schema.get("type") == "array":
        made |= {"style": "form", "explode": False}
    if field.default not in (None, msgspec.NODEFAULT, msgspec.UNSET) and not isinstance(field.default, bool):
        schema["default"] = field.default
    return made


def _text(schema: Schema) -> Schema:
    if schema.get("type") == "boolean":
        return {"type": "string", "description": "`true` in upper or lower case; anything else is false"}
    if schema.get("type") == "string" and "pattern" not in schema and "enum" not in schema:
        return schema | {"pattern": NO_NUL}
    if schema.get("type") == "integer":
        return {"minimum": -MAX_INT - 1, "maximum": MAX_INT} | schema
    return schema


def _hook(kind: type) -> Schema:
    schema: Schema | None = getattr(kind, "json_schema", None)
    if schema is None:
        raise NotImplementedError(f"{kind} has no JSON schema")
    return dict(schema)


def _flat(schema: Any) -> Any:
    """`{"anyOf": [{"type": "string", …}, {"type": "null"}]}` as `{"type": ["string", "null"], …}`, where it can be."""
    if isinstance(schema, list):
        return [_flat(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _flat(part) for key, part in schema.items()}
    parts = schema.get("anyOf")
    if parts is not None and "type" in schema and all(set(part) == {"type"} for part in parts):
        # A union whose own description says it all.
        null = ["null"] if {"type": "null"} in parts else []
        return {key: part for key, part in schema.items() if key != "anyOf"} | {"type": [*schema["type"], *null]}
    if parts is None or len(parts) != 2 or {"type": "null"} not in parts:
        return schema
    (other,) = (part for part in parts if part != {"type": "null"})
    if "type" not in other:
        return schema
    kinds = other["type"] if isinstance(other["type"], list) else [other["type"]]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    if "enum" in other:
        rest["enum"] = [*other["enum"], None]
    return other | rest | {"type": [*(kind for kind in kinds if kind != "null"), "null"]}


def _least(kind: Any, seen: frozenset[Any] = frozenset()) -> typing.Iterator[tuple[tuple[str, str], int | None]]:
    """(struct, field) -> the smallest integer that is as good as its digits, where text is wanted."""
    for member, _ in members(kind):
        for item in typing.get_args(member) if typing.get_origin(member) is list else ():
            yield from _least(item, seen)
        if not (isinstance(member, type) and issubclass(member, Struct)) or member in seen:
            continue
        for field in msgspec.structs.fields(member):
            for kind_, meta in members(field.type):
                items = [note for item in typing.get_args(kind_) for _, note in members(item)]
                for extra in (note.extra for note in (meta, *items) if note.extra and "least" in note.extra):
                    yield (member.__name__, field.encode_name), extra["least"]
            yield from _least(field.type, seen | {member})


def _accepted(schema: Schema, least: Mapping[tuple[str, str], int | None], required: tuple[str, ...]) -> Schema:
    """A struct's schema with what is read leniently. required: what is refused later where it is absent or null."""
    name = schema.get("title", "")
    made = dict(schema)
    made["properties"] = {key: _lenient(part, least.get((name, key))) for key, part in schema["properties"].items()}
    for key in required:
        part = made["properties"][key]
        part["type"] = [kind for kind in part["type"] if kind != "null"]
        if "enum" in part:
            part["enum"] = [value for value in part["enum"] if value is not None]
    made["required"] = [*made.get("required", ()), *required]
    return {key: value for key, value in made.items() if key != "required" or value}


def _lenient(schema: Schema, least: int | None) -> Schema:
    made = {key: value for key, value in schema.items() if key != "default" or value is not None}
    kinds = made.get("type", [])
    kinds = list(kinds) if isinstance(kinds, list) else [kinds]
    if "items" in made:
        made["items"] = _lenient(made["items"], least)
    if "string" in kinds and not {"number", "integer"} & set(kinds):
        kinds += ["number", "boolean"] if least is None else ["integer"]
        made = {"pattern": NO_NUL, "minimum": -MAX_INT if least is None else least, "maximum": MAX_INT} | made
    elif "integer" in kinds and "enum" in made:
        kinds.append("string")
        made["enum"] = [*made["enum"], *(str(number) for number in made["enum"] if number is not None)]
    elif "integer" in kinds and "string" not in kinds:
        kinds.append("string")
        made = {"minimum": -MAX_INT - 1, "maximum": MAX_INT} | made
        made["pattern"] = NATURAL if made["minimum"] >= 0 else INTEGER
    elif "boolean" in kinds:
        kinds += ["integer", "string"]
        made |= {"minimum": 0, "maximum": 1, "pattern": BOOLEAN}
    if kinds:
        made["type"] = kinds[0] if len(kinds) == 1 else kinds
    return made


def operation_id(method: str, path: str) -> str:
    """Unique and stable, because method and path are: "getDeviceByDeviceIdNotification"."""
    words = [f"by {part[1:-1]}" if part.startswith("{") else part for part in path.split("/")]
    capital = [word[0].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", " ".join(words)) if word]
    return method.lower() + "".join(capital or ["Root"])
