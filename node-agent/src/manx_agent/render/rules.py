"""One policy's rules as iptables rules.

Owns: what a compiled Rule means in iptables' terms. Must not: know classes, endpoints or other policies; a policy's
chains are the same for everyone to whom it applies.

How nothing opens by mistake: a condition that cannot be met for want of a group, or cannot be read, makes an Allow
rule vanish, and is taken as met in a Deny rule. A rule whose peers are all IPv6 matches nothing here, which is not the
same as having no peers.

An ingress Allow ends in ACCEPT. An egress Allow goes to manx-to, where the receiver's ingress is decided: that chain
always comes to a verdict, so no packet marks are needed. A Deny ends in DROP. A rule that hands on to a later tier
would be a RETURN here; nothing else would change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from manx_agent.render import names
from manx_agent.render.image import Rules, SetImage, seal
from manx_agent.render.nets import Networks, as_match, ipv4_networks
from manx_core.api.v1alpha1 import PolicyProgramSpec, Rule

Direction = Literal["ingress", "egress"]
PROTOCOLS = ("TCP", "UDP", "SCTP")

_SLOTS = 15
"""Ports that one multiport match takes; a range takes two (XT_MULTI_PORTS)."""
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


class Unreadable(Exception):
    """A rule has a condition that cannot be rendered. The text names field and value."""


@dataclass(frozen=True, slots=True)
class Program:
    """A policy's chains. None: the policy says nothing in that direction."""

    ingress: Rules | None
    egress: Rules | None
    sets: Mapping[str, SetImage] = field(default_factory=dict)
    """The sets of networks that the rules refer to. Those of groups are not among them."""
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class _Writer:
    """Collects what the rules of one policy need."""

    lacking: frozenset[str]
    types: Mapping[str, str]
    sets: dict[str, SetImage] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def render_program(name: str, spec: PolicyProgramSpec, lacking: frozenset[str], types: Mapping[str, str]) -> Program:
    """Renders one policy. `lacking`: ids of the groups that rules must do without; `types`: group id → its type."""
    writer = _Writer(lacking, types)
    ingress = _chain(writer, name, spec, "ingress") if "Ingress" in spec.types else None
    egress = _chain(writer, name, spec, "egress") if "Egress" in spec.types else None
    return Program(ingress, egress, writer.sets, tuple(writer.problems))


def _chain(writer: _Writer, name: str, spec: PolicyProgramSpec, direction: Direction) -> Rules:
    chain = names.program_ingress(name) if direction == "ingress" else names.program_egress(name)
    rules: list[str] = []
    for position, rule in enumerate(spec.ingress if direction == "ingress" else spec.egress):
        where = f"PolicyProgram {name}: spec.{direction}[{position}]"
        rules.extend(_rule(writer, where, rule, direction))
    return seal(chain, rules)


def _rule(writer: _Writer, where: str, rule: Rule, direction: Direction) -> list[str]:
    verdict = _verdict(rule, direction)
    tolerant = rule.action == "Deny"
    problems: list[str] = []
    alternatives = [""]
    for condition in _CONDITIONS:
        try:
            met_by = condition(writer, rule, "src" if direction == "ingress" else "dst")
        except Unreadable as problem:
            problems.append(f"{where}.{problem}")
            met_by = [""] if tolerant else []
        alternatives = [before + part for before in alternatives for part in met_by]
    writer.problems.extend(dict.fromkeys(problems))
    return [f"{matches}{verdict}" for matches in alternatives]


def _verdict(rule: Rule, direction: Direction) -> str:
    if rule.action != "Allow":
        return "-j DROP"
    return "-j ACCEPT" if direction == "ingress" else f"-g {names.TO}"


# Each condition returns the alternative matches, any of which meets it, each "" or ending in a space. None at all means
# that nothing can meet it.


def _peer_net(_: _Writer, rule: Rule, side: str) -> list[str]:
    """A single network is an option of its own, which iptables-save prints before all else."""
    nets = _readable("nets", rule.nets)
    return [f"-{side[0]} {as_match(*nets.members)} " if len(nets.members) == 1 else ""]


def _peer_nets(writer: _Writer, rule: Rule, side: str) -> list[str]:
    nets = _readable("nets", rule.nets)
    if not rule.nets or nets.everything or len(nets.members) == 1:
        return [""]
    return [_net_set(writer, nets.members, side)] if nets.members else []


def _except_nets(writer: _Writer, rule: Rule, side: str) -> list[str]:
    nets = _readable("notNets", rule.not_nets)
    if nets.everything:
        return []
    return [_net_set(writer, nets.members, side, "! ")] if nets.members else [""]


def _readable(field_name: str, cidrs: tuple[str, ...]) -> Networks:
    nets = ipv4_networks(cidrs)
    if nets.unreadable:
        raise Unreadable(f"{field_name}: {nets.unreadable[0]!r} is not a CIDR such as 10.0.0.0/8")
    return nets


def _net_set(writer: _Writer, members: frozenset[str], side: str, negation: str = "") -> str:
    name = names.networks(members)
    writer.sets[name] = SetImage("hash:net", members)
    return f"-m set {negation}--match-set {name} {side} "


def _protocol(_: _Writer, rule: Rule, __: str) -> list[str]:
    if rule.protocol and rule.protocol not in PROTOCOLS:
        raise Unreadable(f"protocol: {rule.protocol!r} is not one of {', '.join(PROTOCOLS)}")
    return [f"-p {rule.protocol.lower()} " if rule.protocol else ""]


def _peer_group(writer: _Writer, rule: Rule, side: str) -> list[str]:
    if not rule.peer_group:
        return [""]
    if rule.peer_group in writer.lacking:
        return _without_group(rule)
    _expect_type(writer, "peerGroup", rule.peer_group, "Addresses")
    return [f"-m set --match-set {names.address_group(rule.peer_group)} {side} "]


def _ports(writer: _Writer, rule: Rule, _: str) -> list[str]:
    if not rule.ports and not rule.port_group:
        return [""]
    if rule.port_group in writer.lacking and rule.action == "Deny":
        return [""]
    return [*_numbered_ports(rule), *_named_ports(writer, rule)]


def _numbered_ports(rule: Rule) -> list[str]:
    if rule.ports and rule.protocol not in PROTOCOLS:
        raise Unreadable("ports: need a protocol")
    return [f"-m multiport --dports {','.join(chunk)} " for chunk in _chunks(map(_port, rule.ports))]


def _named_ports(writer: _Writer, rule: Rule) -> list[str]:
    if not rule.port_group or rule.port_group in writer.lacking:
        return []
    _expect_type(writer, "portGroup", rule.port_group, "AddressPorts")
    return [f"-m set --match-set {names.port_group(rule.port_group)} dst,dst "]


def _without_group(rule: Rule) -> list[str]:
    return [""] if rule.action == "Deny" else []


def _expect_type(writer: _Writer, field_name: str, group: str, wanted: str) -> None:
    found = writer.types.get(group, wanted)
    if found != wanted:
        raise Unreadable(f"{field_name}: AddressGroup {group} is of type {found}, not {wanted}")


_CONDITIONS = (_peer_net, _protocol, _peer_nets, _peer_group, _except_nets, _ports)
"""In the order in which iptables-save prints what they make."""


def _port(text: str) -> str:
    """A port or range as iptables writes it. Raises Unreadable."""
    parts = _PORTS.fullmatch(text)
    if parts is None:
        raise Unreadable(f"ports: {text!r} is neither a port such as 80 nor a range such as 8000-8080")
    first, last = int(parts[1]), int(parts[2] or parts[1])
    if not first <= last < 65536:
        raise Unreadable(f"ports: {text!r} is not within 0 to 65535, or ends before it begins")
    return str(first) if first == last else f"{first}:{last}"


def _chunks(ports: Iterable[str]) -> Iterable[list[str]]:
    """Splits ports so that each part fits one multiport match."""
    chunk: list[str] = []
    free = _SLOTS
    for port in ports:
        slots = 2 if ":" in port else 1
        if slots > free:
            yield chunk
            chunk, free = [], _SLOTS
        chunk.append(port)
        free -= slots
    if chunk:
        yield chunk
