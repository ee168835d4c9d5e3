"""What a PolicyView means for a packet, read off the view directly: the plain reference for what is rendered.

Owns: `judge`. Must not: share code with the agent's rendering, or be fast.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from kernelsim import Packet, Verdict
from manx_agent.model import LocalEndpoint, PolicyView
from manx_core.api.v1alpha1 import IcmpMatch, PolicyProgramSpec, Rule, RuleEnd

_NUMBERS = {"ICMP": 1, "TCP": 6, "UDP": 17, "ICMPv6": 58, "SCTP": 132, "UDPLite": 136}
Tiers = list[tuple[list[PolicyProgramSpec], str]]
"""The policies of each tier, in order, and its default action."""


def judge(view: PolicyView, packet: Packet) -> Verdict:
    """The verdict once nothing more is waited for: what is missing by now denies. ACCEPT also where the packet is left
    to the rules of others."""
    if ("." in packet.source) != ("." in packet.destination):
        raise ValueError("of two families")
    sender = _endpoint(view, packet.source, packet.into)
    receiver = _endpoint(view, packet.destination, packet.out)
    from_pod, to_pod = packet.into.startswith("mnx"), packet.out.startswith("mnx")
    if from_pod and _tiers(view, sender) is None:
        return "DROP"
    if to_pod and _tiers(view, receiver) is None:
        return "DROP"
    if packet.state != "NEW" and (from_pod or to_pod):
        return "ACCEPT" if packet.state == "ESTABLISHED" else "DROP"
    if from_pod and packet.source == packet.destination:
        return "ACCEPT"
    egress: Verdict = _decided(view, sender, "Egress", packet) if from_pod else "ACCEPT"
    if egress != "ACCEPT":
        return egress
    if to_pod:
        return _decided(view, receiver, "Ingress", packet)
    dropped = from_pod and not packet.out and view.settings.default_endpoint_to_host_action == "Drop"
    return "DROP" if dropped else "ACCEPT"


def _endpoint(view: PolicyView, address: str, interface: str) -> LocalEndpoint | None:
    found = (one for one in view.endpoints.values() if address in one.addresses and interface == one.interface)
    return next(found, None)


def _tiers(view: PolicyView, endpoint: LocalEndpoint | None) -> Tiers | None:
    """The policies that apply to an endpoint; None where it is closed."""
    if endpoint is None:
        return None
    name = view.class_of.get((endpoint.namespace, endpoint.name, endpoint.uid), "")
    if name == "open":
        return []
    if name not in view.classes:
        return None
    if any(policy not in view.programs for tier in view.classes[name] for policy in tier.policies):
        return None
    return [([view.programs[policy] for policy in tier.policies], tier.default_action) for tier in view.classes[name]]


def _decided(view: PolicyView, endpoint: LocalEndpoint | None, direction: str, packet: Packet) -> Verdict:
    """Tier by tier, policy by policy, rule by rule."""
    denied: Verdict = "REJECT" if view.settings.deny_action == "Reject" else "DROP"
    for policies, default in _tiers(view, endpoint) or ():
        having = [spec for spec in policies if direction in spec.types]
        action, known = _first(view, having, direction, packet)
        if action == "Allow":
            return "ACCEPT"
        if action == "Deny" or (action == "" and having and default == "Deny"):
            return denied if known else "DROP"
    return "ACCEPT"


def _first(view: PolicyView, policies: Iterable[PolicyProgramSpec], direction: str, packet: Packet) -> tuple[str, bool]:
    """The action that decides (empty for none), and whether that is known for certain."""
    for spec in policies:
        for rule in spec.ingress if direction == "Ingress" else spec.egress:
            applies = _applies(view, rule, direction, packet)
            if rule.action in ("Allow", "Deny", "Pass") and applies:
                return rule.action, True
            if rule.action in ("Deny", "Pass") and applies is None:
                return "Deny", False
    return "", True


def _applies(view: PolicyView, rule: Rule, direction: str, packet: Packet) -> bool | None:
    """None: cannot be known, for want of a group. (That another rule group is missing does not matter where the rest of
    the rule does not match.)"""
    ends = (rule.peer, rule.subject) if direction == "Ingress" else (rule.subject, rule.peer)
    found = [
        rule.ip_version in (0, packet.version),
        _protocol(rule.protocol, packet),
        not rule.not_protocol or not _protocol(rule.not_protocol, packet),
        _icmp(rule.icmp, packet),
        rule.not_icmp is None or not _icmp(rule.not_icmp, packet),
        *_end(view, rule, ends[0], packet.source, packet.source_port, packet),
        *_end(view, rule, ends[1], packet.destination, packet.port, packet),
    ]
    if False in found:
        return False
    return None if None in found else True


def _protocol(text: str, packet: Packet) -> bool:
    return not text or packet.number == (int(text) if text.isdecimal() else _NUMBERS[text])


def _is_icmp(packet: Packet) -> bool:
    return packet.number == (1 if packet.version == 4 else 58)


def _icmp(match: IcmpMatch | None, packet: Packet) -> bool:
    if match is None:
        return True
    return _is_icmp(packet) and match.type == packet.icmp_type and match.code in (-1, packet.icmp_code)


def _end(view: PolicyView, rule: Rule, end: RuleEnd, address: str, port: int, packet: Packet) -> list[bool | None]:
    found: list[bool | None] = [_in_group(view, group, address) for group in end.groups]
    found += [_not(_in_group(view, group, address)) for group in end.not_groups]
    if end.nets:
        found.append(any(_in_net(net, address) for net in end.nets))
    found += [not _in_net(net, address) for net in end.not_nets]
    if end.ports or end.port_groups or end.named_ports:
        numbered: list[bool | None] = [_in_ports(one, port) for one in end.ports]
        numbered += [(rule.protocol, one, port) in _own_ports(view, address) for one in end.named_ports]
        found.append(_any([*numbered, *_named(view, end.port_groups, address, port, packet)], rule))
    found += [not _in_ports(one, port) for one in end.not_ports]
    found += [_not(one) for one in _named(view, end.not_port_groups, address, port, packet)]
    found += [(rule.protocol, one, port) not in _own_ports(view, address) for one in end.not_named_ports]
    return found


def _own_ports(view: PolicyView, address: str) -> set[tuple[str, str, int]]:
    """Protocol, name and number of each named port of the endpoint that has the address."""
    having = (one for one in view.endpoints.values() if address in one.addresses)
    ports = (port for one in having for port in view.ports_of.get((one.namespace, one.name, one.uid), ()))
    return {(port.protocol, port.name, port.number) for port in ports}


def _not(known: bool | None) -> bool | None:
    return None if known is None else not known


def _any(found: list[bool | None], rule: Rule) -> bool | None:
    """An Allow is content with what is known to match; a Deny or Pass wants to know all."""
    if None in found and rule.action in ("Deny", "Pass"):
        return None
    return True if True in found else None if None in found else False


def _in_net(net: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(net)


def _in_group(view: PolicyView, group: str, address: str) -> bool | None:
    if group not in view.groups:
        return None
    return any(_in_net(member, address) for member in view.groups[group])


def _named(view: PolicyView, groups: Iterable[str], address: str, port: int, packet: Packet) -> list[bool | None]:
    names = {number: name.lower() for name, number in _NUMBERS.items()}
    member = f"{address},{names.get(packet.number, '')}:{port}"
    return [None if group not in view.groups else member in view.groups[group] for group in groups]


def _in_ports(text: str, port: int) -> bool:
    first, _, last = text.partition("-")
    return int(first) <= port <= int(last or first)
