"""What compiled policy means: the contract that every renderer of programs, classes and groups has to keep.

Owns: the evaluation of PolicyPrograms over one connection's first packet, in one direction.
Must not: look at pods, selectors or users' objects; all that it takes is what an agent is sent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from manx_core.api.v1alpha1 import PolicyProgramSpec, Rule
from manx_core.policy.cluster import Direction


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection's first packet. `port` is the destination's; it counts for TCP, UDP and SCTP only."""

    source: str
    destination: str
    protocol: str
    port: int = 0

    def peer(self, direction: Direction) -> str:
        return self.source if direction == "Ingress" else self.destination


def evaluate_compiled(
    programs: Iterable[PolicyProgramSpec],
    groups: Mapping[str, Collection[str]],
    direction: Direction,
    flow: Flow,
) -> bool:
    """Whether a class with these programs, in this order, lets the flow pass in that direction.

    No program of that type: the endpoint is not isolated. Else the first rule that matches decides, and without one
    the flow is denied. `groups`: id → members; a group that is missing has none.
    """
    isolating = [program for program in programs if direction in program.types]
    for program in isolating:
        for rule in program.ingress if direction == "Ingress" else program.egress:
            if _matches(rule, groups, flow, flow.peer(direction)):
                return rule.action == "Allow"
    return not isolating


def _matches(rule: Rule, groups: Mapping[str, Collection[str]], flow: Flow, peer: str) -> bool:
    if rule.protocol and rule.protocol != flow.protocol:
        return False
    if rule.peer_group and peer not in groups.get(rule.peer_group, ()):
        return False
    if rule.nets and not _within(peer, rule.nets):
        return False
    return not _within(peer, rule.not_nets) and _port_matches(rule, groups, flow)


def _port_matches(rule: Rule, groups: Mapping[str, Collection[str]], flow: Flow) -> bool:
    if not rule.ports and not rule.port_group:
        return True
    member = f"{flow.destination},{flow.protocol.lower()}:{flow.port}"
    return any(_in_range(flow.port, text) for text in rule.ports) or member in groups.get(rule.port_group, ())


def _in_range(port: int, text: str) -> bool:
    first, _, last = text.partition("-")
    return int(first) <= port <= int(last or first)


def _within(address: str, nets: Iterable[str]) -> bool:
    """An address is in no network of the other family."""
    parsed = ipaddress.ip_address(address)
    return any(parsed in ipaddress.ip_network(net) for net in nets)
