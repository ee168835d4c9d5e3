"""Every field of Calico's policy kinds, as their definitions have it, in a document where it is good and in a bad one.

Owns: walking the definitions, and a good and a bad value for each leaf. Must not: ask an API server or the models.

What is bad here is plain: a value of another type, a word that is not allowed. The subtler ones are written by hand in
`policy_documents`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from generator.crds import definitions

Doc = dict[str, Any]
PLURALS = {
    "NetworkPolicy": "networkpolicies",
    "GlobalNetworkPolicy": "globalnetworkpolicies",
    "Tier": "tiers",
    "NetworkSet": "networksets",
    "GlobalNetworkSet": "globalnetworksets",
    "FelixConfiguration": "felixconfigurations",
}
NAMESPACED = ("NetworkPolicy", "NetworkSet")
GOOD: dict[str, Any] = {
    "tier": "default", "order": 10.5, "defaultAction": "Pass", "protocol": "TCP", "notProtocol": "UDP", "ipVersion": 4,
    "icmp.type": 8, "notICMP.type": 8, "code": 0, "nets": "10.0.0.0/8", "notNets": "10.0.0.0/8", "ports": 80,
    "notPorts": "1:2", "names": "a", "name": "s", "namespace": "n", "defaultEndpointToHostAction": "Drop",
    "chainInsertMode": "Append", "iptablesBackend": "NFT", "iptablesFilterAllowAction": "Return",
    "iptablesFilterDenyAction": "Reject", "natPortRange": "1024:65535", "iptablesMarkMask": 0xFF00,
    "annotations": {"a": "b"},
    **dict.fromkeys(("iptablesRefreshInterval", "ipsetsRefreshInterval", "routeRefreshInterval"), "90s"),
    **dict.fromkeys(("selector", "notSelector", "namespaceSelector", "serviceAccountSelector"), "has(a)"),
}  # fmt: skip
"""By the end of the field's path; for others the schema says enough."""
BAD: dict[str, Any] = {
    "protocol": "IP", "notProtocol": 0, "nets": "10.0.0.0/33", "notNets": "x", "ports": 0, "notPorts": 65536,
    "tier": "A",
    **dict.fromkeys(("selector", "notSelector", "namespaceSelector", "serviceAccountSelector"), "a = b"),
    "icmp.type": 255, "notICMP.type": -1, "code": 256, "natPortRange": "2:1", "iptablesMarkMask": 0, "logPrefix": '"',
}  # fmt: skip
BESIDE: dict[str, Doc] = {
    r"icmp\.": {"protocol": "ICMP"},
    r"notICMP\.": {"protocol": "ICMP"},
    r"(source|destination)\.(notP|p)orts": {"protocol": "TCP"},
}
"""What a rule needs beside a field; likewise below for a field of `icmp` or `services`, and of the spec."""
BESIDE_IT: dict[str, Doc] = {
    r"\.code$": {"type": 8},
    r"services\.namespace$": {"name": "s"},
    r"services\.name$": {"namespace": "n"},
}
IN_SPEC: dict[str, Doc] = {r"doNotTrack|preDNAT": {"applyOnForward": True}}
NEVER_GOOD = re.compile(r"ingress\[\]\.destination\.services|egress\[\]\.source\.services")
"""Calico's schema has them there, and Calico refuses them."""
UNSUPPORTED = re.compile(r"\.http$")
"""The API server takes it, and the operator says that it cannot be done."""


@dataclass(frozen=True)
class Leaf:
    """A field that has no fields of its own. `path`: as "spec.ingress[].source.nets[]"."""

    kind: str
    path: str
    schema: Doc

    @property
    def place(self) -> str:
        """Where a document of `document` has it, as messages name it."""
        return self.path.replace("[]", "[0]")

    def document(self, value: Any, name: str) -> Doc:
        """A document that is good but for this field, perhaps."""
        name = f"node.{name}" if self.kind == "FelixConfiguration" else name
        metadata = {"name": name} | ({"namespace": "default"} if self.kind in NAMESPACED else {})
        made: Doc = {"apiVersion": "projectcalico.org/v3", "kind": self.kind, "metadata": metadata}
        steps = self.path.split(".")
        for number, step in enumerate(steps):
            inner = made
            for name in steps[:number]:
                found = inner[name.removesuffix("[]")]
                inner = found[0] if isinstance(found, list) else found
            new = value if number == len(steps) - 1 else {}
            beside = _beside(self.path, ".".join(steps[:number]))
            inner |= beside | {step.removesuffix("[]"): [new] if step.endswith("[]") else new}
        return made


def _beside(path: str, above: str) -> Doc:
    if above == "spec":
        return _matching(IN_SPEC, path)
    if above in ("spec.ingress[]", "spec.egress[]"):
        return {"action": "Allow"} | _matching(BESIDE, path)
    return _matching(BESIDE_IT, path) if path.rpartition(".")[0] == above else {}


def _matching(table: dict[str, Doc], path: str) -> Doc:
    return {key: value for pattern, found in table.items() if re.search(pattern, path) for key, value in found.items()}


def leaves() -> list[Leaf]:
    """Of all kinds, in the definitions' order."""
    found = definitions()
    specs = {kind: _spec(found[f"projectcalico.org_{plural}.yaml"]) for kind, plural in PLURALS.items()}
    return [Leaf(kind, path, schema) for kind, spec in specs.items() for path, schema in _walk("spec", spec)]


def _spec(definition: Doc) -> Doc:
    spec: Doc = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return spec


def _walk(path: str, schema: Doc) -> Iterator[tuple[str, Doc]]:
    if schema.get("properties"):
        for name, below in schema["properties"].items():
            yield from _walk(f"{path}.{name}", below)
    elif schema.get("type") == "array" and not schema["items"].keys() <= {"x-kubernetes-preserve-unknown-fields"}:
        yield from _walk(f"{path}[]", schema["items"])
    else:
        yield path, schema


def good(leaf: Leaf) -> Any:
    """A value that is allowed there."""
    found, schema = _by_end(GOOD, leaf.path), leaf.schema
    if found is not None:
        return found
    if "enum" in schema:
        return schema["enum"][-1]
    if "([.][0-9]+)" in schema.get("pattern", ""):
        return "90s"
    if words := re.findall(r"\((\w+)[|)]", schema.get("pattern", "")):
        return words[-1]
    ordinary = {"string": "x", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    return ordinary[schema.get("type", "integer")]


def bad(leaf: Leaf) -> Any:
    """A value that is not."""
    found, schema = _by_end(BAD, leaf.path), leaf.schema
    if found is not None:
        return found
    if "enum" in schema:
        return 5 if schema["type"] == "integer" else "nosuch"
    if "pattern" in schema or "x-kubernetes-validations" in schema:
        return "no such"
    return 5 if schema.get("type") == "string" else ["x"] if "type" not in schema else "x"


def _by_end(table: Doc, path: str) -> Any:
    plain = path.replace("[]", "")
    return next((value for end, value in table.items() if plain.endswith(f".{end}")), None)
