"""Owns policies of chance of all kinds for the world of the policy tests: tiers, Calico's policies in them, network
sets, and Kubernetes' policies among them.

It must not be different from run to run: a seed is a case. What the API server would refuse is not made.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import lab_policy_random as kubernetes

_SELECTORS = (
    "all()",
    "has(pod)",
    "pod == 'a'",
    "pod != 'b'",
    "pod in {'a', 'c'}",
    "pod not in {'b'}",
    "!(pod == 'c')",
    "pod == 'a' || projectcalico.org/namespace == 'np-y'",
    "projectcalico.org/namespace ends with '-x' && pod != 'c'",
    "projectcalico.org/serviceaccount starts with 'b'",
    "has(lab-set)",
    "pod == 'nobody'",
)
_OF_NAMESPACES = ("all()", "ns == 'x'", "ns != 'y'", "projectcalico.org/name in {'np-x', 'np-z'}", "has(ns)")
_NETS = {
    4: ("0.0.0.0/0", "10.244.0.0/16", "<x/a>/32", "<y/b>/32", "<z/c>/32", "203.0.113.0/24", "198.51.100.0/28"),
    6: ("::/0", "<x/a|6>/128", "<y/b|6>/128", "<z/c|6>/128", "2001:db8:cb::/64", "2001:db8:51::/64"),
}
_PORTS = {"TCP": (80, 81, "80:81", "web"), "UDP": (80, 81, "79:80", "data"), "SCTP": (80, "81:90", "signal")}
_ACTIONS = ("Allow", "Allow", "Allow", "Deny", "Deny", "Log", "Pass")
_TIERS = ("early", "late")


def objects_of(seed: int) -> dict[str, str]:
    """Keys and specs as `World.apply` takes them: two tiers, two sets, three to eight policies."""
    chance = Random(seed)
    found = {
        "tier early": {"order": chance.choice((1, 2.5)), "defaultAction": chance.choice(("Deny", "Pass"))},
        "tier late": {"order": chance.choice((2, 2_000_000)), "defaultAction": chance.choice(("Deny", "Pass"))},
        "gset outer": {"labels": {"lab-set": "outer"}, "nets": _members(chance)},
        "set y/inner": {"labels": {"lab-set": "inner", "pod": "a"}, "nets": _members(chance)},
    }
    for number in range(chance.randint(2, 6)):
        ns = chance.choice(("", "x", "y", "z"))
        found[f"np {ns}/p{number}" if ns else f"gnp p{number}"] = _policy(chance, ns)
    texts = {key: json.dumps(spec) for key, spec in found.items()}
    return {**texts, **(kubernetes.policies_of(seed) if chance.random() < 0.5 else {})}


def _members(chance: Random) -> list[str]:
    return [*chance.sample(_NETS[4][2:], 2), *chance.sample(_NETS[6][1:], 2)]


def _policy(chance: Random, ns: str) -> dict[str, Any]:
    found: dict[str, Any] = {"tier": chance.choice((*_TIERS, "default", "default"))}
    if chance.random() < 0.7:
        found["order"] = chance.choice((-1, 0, 1, 1, 999.5, 1001))
    found["selector"] = chance.choice(_SELECTORS)
    if not ns and chance.random() < 0.5:
        found["namespaceSelector"] = chance.choice(_OF_NAMESPACES)
    if chance.random() < 0.2:
        found["serviceAccountSelector"] = chance.choice(("account == 'a'", "has(account)", "account != 'c'"))
    for direction in chance.choice((("ingress",), ("egress",), ("ingress", "egress"))):
        found[direction] = [_rule(chance) for _ in range(chance.randint(1, 4))]
    if chance.random() < 0.3:
        found["types"] = chance.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
    return found


def _rule(chance: Random) -> dict[str, Any]:
    version = chance.choice((4, 6))
    rule: dict[str, Any] = {"action": chance.choice(_ACTIONS)}
    ported = _protocol(chance, rule)
    if chance.random() < 0.15 and not {"ICMP", "ICMPv6"} & {rule.get("protocol"), rule.get("notProtocol")}:
        rule["ipVersion"] = version
    for end, likely in (("source", 0.6), ("destination", 0.6)):
        spec = _end(chance, version) if chance.random() < likely else {}
        if ported and chance.random() < 0.5:
            spec |= _ports(chance, ported, end)
        if spec:
            rule[end] = spec
    return rule


def _protocol(chance: Random, rule: dict[str, Any]) -> str:
    """Give the rule a protocol; which one, if it has ports."""
    if chance.random() < 0.45:
        return ""
    protocol = chance.choice(("TCP", "TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "UDPLite", 6, 17, 253))
    if chance.random() < 0.15:
        rule["notProtocol"] = protocol
        return ""
    rule["protocol"] = protocol
    if protocol in ("ICMP", "ICMPv6") and chance.random() < 0.6:
        kind = 128 if protocol == "ICMPv6" else chance.choice((8, 13))
        match = {"type": kind, **({"code": chance.choice((0, 5))} if chance.random() < 0.5 else {})}
        rule[chance.choice(("icmp", "notICMP"))] = match
    return protocol if protocol in _PORTS else ""


def _end(chance: Random, version: int) -> dict[str, Any]:
    kind = chance.randrange(6)
    if kind == 0:
        return {"nets": chance.sample(_NETS[version], chance.randint(1, 2))}
    if kind == 1:
        return {"notNets": chance.sample(_NETS[version], chance.randint(1, 2))}
    if kind == 2:
        return {"serviceAccounts": chance.choice(({"names": ["a", "c"]}, {"selector": "account == 'b'"}))}
    if kind == 3:
        return {"notSelector": chance.choice(_SELECTORS)}
    found = {"selector": chance.choice(_SELECTORS)}
    if kind == 4:
        found["namespaceSelector"] = chance.choice((*_OF_NAMESPACES, "global()"))
    return found


def _ports(chance: Random, protocol: str, end: str) -> dict[str, Any]:
    key = chance.choice(("ports", "ports", "notPorts"))
    if end == "source":
        return {key: ["10000:19999"]}
    return {key: chance.sample(_PORTS[protocol], chance.randint(1, 2))}
