"""Named ports of the pods that a policy applies to: which of them rules ask for, and who of some endpoints has them.

Owns: both answers. Must not: know which endpoints there are, or kernels.

Why these are not in AddressGroups: who evaluates a rule has the policy's own pods at hand, and NodeState says their
ports; a group would be written for every pod that begins or ceases to be selected (docs/decisions/0007).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from manx_core.api.v1alpha1 import Rule
from manx_core.policy.endpoint import NamedPort


class OwnPort(NamedTuple):
    """What a rule asks for: a port of that name, for the rule's protocol."""

    protocol: str
    """As in `Rule.protocol`."""
    name: str


PROTOCOLS = ("TCP", "UDP", "SCTP")
"""Those for which a container's port may be declared."""
Holder = tuple[Iterable[str], Iterable[NamedPort]]
"""An endpoint's addresses and named ports."""


def asked_of(rules: Iterable[Rule]) -> frozenset[OwnPort]:
    """What these rules ask for, to have or not to have."""
    ends = ((rule.protocol, end) for rule in rules if rule.protocol in PROTOCOLS for end in (rule.peer, rule.subject))
    return frozenset(
        OwnPort(protocol, name) for protocol, end in ends for name in (*end.named_ports, *end.not_named_ports)
    )


def own_ports(holders: Iterable[Holder]) -> dict[OwnPort, frozenset[str]]:
    """Each named port of these endpoints → what it is on each of them, in the form of an AddressGroup's members:
    "10.244.0.5,tcp:8080". Of a name that one endpoint has more than once, each counts."""
    found: dict[OwnPort, set[str]] = {}
    for addresses, ports in holders:
        for name, protocol, number in ports:
            members = (f"{address},{protocol.lower()}:{number}" for address in addresses)
            found.setdefault(OwnPort(protocol, name), set()).update(members)
    return {port: frozenset(members) for port, members in found.items()}
