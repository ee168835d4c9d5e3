"""From JSON Schema, as pydantic and msgspec write it, to the structural schemas that custom resources need.

Owns: inlining references, dropping what Kubernetes does not take, and which objects keep unknown fields.
Must not: know any kind.

Source: Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions", structural schemas.
"""

from __future__ import annotations

from typing import Any

from manx_core.api.fields import NO_EFFECT, PRESERVE, RULES

Schema = dict[str, Any]
_KEPT = (
    "type", "description", "default", "enum", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
    "pattern", "format", "x-kubernetes-int-or-string", PRESERVE, RULES,
)  # fmt: skip
_WITHOUT_EFFECT = "Accepted; without effect so far. "


def structural(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """A structural schema of `schema`; `definitions` are its $defs. Defaults are dropped, except "x-manx-default"."""
    whole = _resolved(schema, definitions)
    result: Schema = {}
    if "enum" in whole or "const" in whole:
        values = whole.get("enum") or [whole["const"]]
        result |= {"type": _type_of(values[0]), "enum": list(values)}
    result = {key: whole[key] for key in _KEPT if key in whole and key != "default"} | result
    if "x-manx-default" in whole:
        result["default"] = whole["x-manx-default"]
    if "description" in result:
        result["description"] = _paragraph(result["description"])
    if whole.get(NO_EFFECT):
        result["description"] = _WITHOUT_EFFECT + result.get("description", "")
    return result | _contents(whole, definitions)


def _contents(whole: Schema, definitions: dict[str, Schema]) -> Schema:
    result: Schema = {}
    if "items" in whole:
        result["items"] = _without_transitions(structural(whole["items"], definitions))
    extra = whole.get("additionalProperties")
    if extra is True:
        result[PRESERVE] = True
    elif isinstance(extra, dict) and extra:
        result["additionalProperties"] = structural(extra, definitions)
    if whole.get("properties"):
        result["properties"] = {name: structural(part, definitions) for name, part in whole["properties"].items()}
    if whole.get("required"):
        result["required"] = list(whole["required"])
    return result


def _without_transitions(schema: Schema) -> Schema:
    """Without rules that compare with the object as it was: the API server takes none in an array's items, of which it
    cannot tell which was which."""
    found: Schema = {}
    for key, value in schema.items():
        if key == RULES:
            value = [rule for rule in value if "oldSelf" not in rule["rule"]]
        elif key in ("items", "additionalProperties"):
            value = _without_transitions(value)
        elif key == "properties":
            value = {name: _without_transitions(part) for name, part in value.items()}
        if key != RULES or value:
            found[key] = value
    return found


def _resolved(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """`schema` with references and optionality taken away; what stands beside a reference has precedence."""
    beside = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf", "allOf", "default")}
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions) | beside
    offered: list[Schema] = schema.get("anyOf") or schema.get("allOf") or []
    choices = [choice for choice in offered if choice != {"type": "null"}]
    if len(choices) > 1:
        raise ValueError(f"no structural schema has this choice: {schema}")
    return _resolved(choices[0], definitions) | beside if choices else schema


def _type_of(value: object) -> str:
    return {str: "string", int: "integer", bool: "boolean"}[type(value)]


def _paragraph(text: str) -> str:
    return " ".join(text.split())
