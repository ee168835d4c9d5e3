"""Owns policies of chance for the world of the policy tests: valid ones, of few labels, so that they often meet.

It must not be different from run to run: a seed is a case.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

_LABELS = {"pod": ("a", "b", "c"), "ns": ("x", "y", "z")}
_CIDRS = ("10.244.0.0/16", "203.0.113.0/24", "198.51.100.0/24", "0.0.0.0/0", "<y/b>/32", "<outside>/32")
_EXCEPT = ("<x/b>/32", "<z/c>/32", "203.0.113.10/32", "198.51.100.0/26")
_NAMED = (("web", "TCP"), ("data", "UDP"), ("signal", "SCTP"))


def policies_of(seed: int) -> dict[str, str]:
    """Two to six policies."""
    chance = Random(seed)
    return {f"{chance.choice('xyz')}/p{number}": json.dumps(_spec(chance)) for number in range(chance.randint(2, 6))}


def _spec(chance: Random) -> dict[str, Any]:
    types = chance.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"], None))
    return {
        "podSelector": _selector(chance, "pod"),
        **({"policyTypes": types} if types else {}),
        "ingress": [_rule(chance, "from") for _ in range(chance.randint(0, 2))],
        "egress": [_rule(chance, "to") for _ in range(chance.randint(0, 2))],
    }


def _rule(chance: Random, side: str) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if chance.random() < 0.8:
        rule[side] = [_peer(chance) for _ in range(chance.randint(1, 3))]
    if chance.random() < 0.6:
        rule["ports"] = [_port(chance) for _ in range(chance.randint(1, 3))]
    return rule


def _peer(chance: Random) -> dict[str, Any]:
    if chance.random() < 0.3:
        return {"ipBlock": _block(chance)}
    both = {"podSelector": _selector(chance, "pod"), "namespaceSelector": _selector(chance, "ns")}
    return {key: both[key] for key in chance.choice((["podSelector"], ["namespaceSelector"], list(both)))}


def _block(chance: Random) -> dict[str, Any]:
    cidr = chance.choice(_CIDRS)
    return {"cidr": cidr, **({"except": chance.sample(_EXCEPT, 2)} if cidr == "0.0.0.0/0" else {})}


def _port(chance: Random) -> dict[str, Any]:
    name, protocol = chance.choice(_NAMED)
    first = chance.choice((80, 81))
    forms: tuple[dict[str, Any], ...] = (
        {"port": first},
        {"port": first, "endPort": chance.randint(first, 90)},
        {"port": name},
        {},
    )
    return {**chance.choice(forms), "protocol": protocol}


def _selector(chance: Random, key: str) -> dict[str, Any]:
    values = chance.sample(_LABELS[key], 2)
    return chance.choice(
        (
            {},
            {"matchLabels": {key: values[0]}},
            {"matchExpressions": [{"key": key, "operator": chance.choice(("In", "NotIn")), "values": values}]},
            {"matchExpressions": [{"key": key, "operator": "NotIn", "values": values[:1]}]},
        )
    )
