"""JSON Schemas of msgspec structs, with the docstrings under their fields as descriptions and the limits given here.

Owns: reading those docstrings from the source, and joining limits to fields.
Must not: know what the limits are (`manx_kinds` does).
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import msgspec

from generator.schema import Schema


def field_docs(module: ModuleType) -> dict[tuple[str, str], str]:
    """(class, field) → the string that stands below the field, for every class of a module."""
    docs = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef):
            for field, below in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(below):
                    docs[node.name, field.target.id] = ast.literal_eval(below.value)  # type: ignore[attr-defined]
    return docs


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def struct_schema(
    struct: type[msgspec.Struct], limits: Mapping[tuple[str, str], Schema]
) -> tuple[Schema, dict[str, Schema]]:
    """JSON Schema of a struct and its definitions. `limits`: (class, field) → what to add to the field's schema; for an
    array with the key "items", what to add to its items'; with "type", the only one of
    several. A limit for a field that is not there is a ValueError."""
    schema = msgspec.json.schema(struct)
    definitions: dict[str, Schema] = schema["$defs"]
    docs = field_docs(inspect.getmodule(struct))  # type: ignore[arg-type]
    for kind in _structs(struct):
        properties = definitions[kind.__name__]["properties"]
        for field in msgspec.structs.fields(kind):
            key = (kind.__name__, field.name)
            properties[field.encode_name] = _joined(properties[field.encode_name], limits.get(key, {}), docs.get(key))
    return schema, definitions


def _joined(schema: Schema, limits: Schema, doc: str | None) -> Schema:
    schema = {key: value for key, value in schema.items() if key != "anyOf" or "type" not in limits}
    joined = {**schema, **{key: value for key, value in limits.items() if key != "items"}}
    if "items" in limits:
        joined["items"] = {**schema["items"], **limits["items"]}
    return joined | ({"description": doc} if doc else {})


def _structs(struct: type[msgspec.Struct]) -> set[type[msgspec.Struct]]:
    found: set[type[msgspec.Struct]] = set()
    todo: list[Any] = [msgspec.inspect.type_info(struct)]
    while todo:
        info = todo.pop()
        if isinstance(info, msgspec.inspect.StructType) and info.cls not in found:
            found.add(info.cls)
            todo += [field.type for field in info.fields]
        todo += [value for name in ("item_type", "types") for value in _listed(getattr(info, name, ()))]
    return found


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def check_limits(structs: tuple[type[msgspec.Struct], ...], limits: Mapping[tuple[str, str], Schema]) -> None:
    """Raises ValueError where a limit names a field that no struct has: a field renamed must not lose its limits."""
    known = {(kind.__name__, f.name) for s in structs for kind in _structs(s) for f in msgspec.structs.fields(kind)}
    if unknown := set(limits) - known:
        raise ValueError(f"limits for fields that are not there: {sorted(unknown)}")
