"""What a PolicyView means for a packet, read off the view directly: the plain reference for what is rendered.

Owns: `judge`. Must not: share code with the agent's rendering, or be fast.
"""

from __future__ import annotations

import ipaddress

from kernelsim import Packet, Verdict
from manx_agent.model import LocalEndpoint, PolicyView
from manx_core.api.v1alpha1 import PolicyProgramSpec, Rule


def judge(view: PolicyView, packet: Packet) -> Verdict:
    """The verdict once nothing more is waited for: what is missing by now denies."""
    return "ACCEPT" if _passes(view, packet) else "DROP"


def _passes(view: PolicyView, packet: Packet) -> bool:
    sender = _endpoint(view, packet.source, packet.into)
    receiver = _endpoint(view, packet.destination, packet.out)
    from_pod, to_pod = packet.into.startswith("mnx"), packet.out.startswith("mnx")
    if from_pod and _policies(view, sender) is None:
        return False
    if to_pod and _policies(view, receiver) is None:
        return False
    if packet.state != "NEW" and (from_pod or to_pod):
        return packet.state == "ESTABLISHED"
    if from_pod and packet.source == packet.destination:
        return True
    if from_pod and not _allowed(view, sender, "Egress", packet):
        return False
    return not to_pod or _allowed(view, receiver, "Ingress", packet)


def _endpoint(view: PolicyView, address: str, interface: str) -> LocalEndpoint | None:
    found = (one for one in view.endpoints.values() if (one.address, one.interface) == (address, interface))
    return next(found, None)


def _policies(view: PolicyView, endpoint: LocalEndpoint | None) -> list[PolicyProgramSpec] | None:
    """The policies that apply to an endpoint, in order; None where it is closed."""
    if endpoint is None:
        return None
    name = view.class_of.get((endpoint.namespace, endpoint.name, endpoint.uid), "")
    if name == "open":
        return []
    if name not in view.classes or any(policy not in view.programs for policy in view.classes[name]):
        return None
    return [view.programs[policy] for policy in view.classes[name]]


def _allowed(view: PolicyView, endpoint: LocalEndpoint | None, direction: str, packet: Packet) -> bool:
    isolating = [spec for spec in _policies(view, endpoint) or () if direction in spec.types]
    for spec in isolating:
        for rule in spec.ingress if direction == "Ingress" else spec.egress:
            if _applies(view, rule, direction, packet):
                return rule.action == "Allow"
    return not isolating


def _applies(view: PolicyView, rule: Rule, direction: str, packet: Packet) -> bool:
    peer = ipaddress.ip_address(packet.source if direction == "Ingress" else packet.destination)
    unknown = rule.action == "Deny"
    if rule.protocol and rule.protocol.lower() != packet.protocol:
        return False
    if rule.nets and not any(peer in ipaddress.ip_network(net) for net in rule.nets):
        return False
    if any(peer in ipaddress.ip_network(net) for net in rule.not_nets):
        return False
    taken_as_met = unknown and rule.peer_group not in view.groups
    if rule.peer_group and not taken_as_met and str(peer) not in view.groups.get(rule.peer_group, ()):
        return False
    return _port_applies(view, rule, packet, unknown)


def _port_applies(view: PolicyView, rule: Rule, packet: Packet, unknown: bool) -> bool:
    if not rule.ports and not rule.port_group:
        return True
    if rule.port_group and rule.port_group not in view.groups and unknown:
        return True
    member = f"{packet.destination},{packet.protocol}:{packet.port}"
    if member in view.groups.get(rule.port_group, ()):
        return True
    for ports in rule.ports:
        first, _, last = ports.partition("-")
        if int(first) <= packet.port <= int(last or first):
            return True
    return False
