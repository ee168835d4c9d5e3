"""Custom resource definitions, one for each kind.

Owns: putting a kind's outside and its models' schema together. Must not: hold anything about one kind alone.
"""

from __future__ import annotations

from typing import Any

from generator import manx_kinds, structs
from generator.schema import Schema, structural
from manx_core.api import (
    bgp_configuration,
    bgp_peer,
    calico_addons,
    calico_policy,
    felix_configuration,
    installation,
    ip_pool,
    network_set,
    tier,
)
from manx_core.api.fields import RULES, ApiModel
from manx_core.api.kind import Column, Kind

USER_KINDS: tuple[tuple[Kind, type[ApiModel]], ...] = (
    (installation.KIND, installation.Installation),
    *calico_addons.ADDONS,
    (bgp_configuration.KIND, bgp_configuration.BGPConfiguration),
    (bgp_peer.KIND, bgp_peer.BGPPeer),
    (ip_pool.KIND, ip_pool.IPPool),
    (felix_configuration.KIND, felix_configuration.FelixConfiguration),
    (tier.KIND, tier.Tier),
    (calico_policy.NETWORK_POLICY, calico_policy.NetworkPolicy),
    (calico_policy.GLOBAL_NETWORK_POLICY, calico_policy.GlobalNetworkPolicy),
    (network_set.NETWORK_SET, network_set.NetworkSet),
    (network_set.GLOBAL_NETWORK_SET, network_set.GlobalNetworkSet),
)
_OF_EVERY_OBJECT: Schema = {
    "apiVersion": {
        "type": "string",
        "description": "The version of this object's schema, of the form group/version.",
    },
    "kind": {"type": "string", "description": "The kind of this object."},
    # A name is never longer, but the API server's estimate of what a CEL rule costs has to be told.
    "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
}
"""Of users' kinds. Those that the operator writes hundreds of times a second go without: the API server knows it, and
`kubectl explain` tells of it, but what a schema lists is looked at once more at each write, a tenth of its memory."""


def definitions() -> dict[str, dict[str, Any]]:
    """File name → custom resource definition; Installation's first, for that is what is created first."""
    limits = manx_kinds.LIMITS
    structs.check_limits(tuple(struct for _, struct in manx_kinds.KINDS), limits)
    made = [definition(kind, _of_model(model), _OF_EVERY_OBJECT) for kind, model in USER_KINDS]
    made += [definition(kind, structural(*structs.struct_schema(struct, limits))) for kind, struct in manx_kinds.KINDS]
    return {f"{crd['spec']['group']}_{crd['spec']['names']['plural']}.yaml": crd for crd in made}


def _of_model(model: type[ApiModel]) -> Schema:
    schema = model.model_json_schema()
    return structural(schema, schema.get("$defs", {}))


def definition(kind: Kind, schema: Schema, besides: Schema | None = None) -> dict[str, Any]:
    """The custom resource definition of a kind whose objects have this schema, and properties `besides`."""
    version: dict[str, Any] = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _top(schema, kind, besides or {})},
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    if kind.status:
        version["subresources"] = {"status": {}}
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}", "labels": {"app.kubernetes.io/part-of": "manx"}},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": _names(kind),
            "versions": [version],
        },
    }


def _top(schema: Schema, kind: Kind, besides: Schema) -> Schema:
    properties = besides | {name: part for name, part in schema["properties"].items() if name != "metadata"}
    top: Schema = {"type": "object", "description": schema["description"], "properties": properties}
    if required := [name for name in schema.get("required", ()) if name != "metadata"]:
        top["required"] = required
    if kind.rules:
        top[RULES] = list(kind.rules)
    return top


def _names(kind: Kind) -> dict[str, Any]:
    names: dict[str, Any] = {"kind": kind.kind, "listKind": f"{kind.kind}List", "plural": kind.plural}
    names["singular"] = kind.kind.lower()
    names |= {"shortNames": list(kind.short_names)} if kind.short_names else {}
    return names | ({"categories": list(kind.categories)} if kind.categories else {})


def _column(column: Column) -> dict[str, Any]:
    made: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    made |= {"description": column.description} if column.description else {}
    return made | ({"priority": column.priority} if column.priority else {})
