"""What compiled policy means: the contract that every renderer of programs, classes and groups has to keep.

Owns: the evaluation of a PolicyClass over one connection's first packet, in one direction.
Must not: look at pods, selectors or users' objects; all that it takes is what an agent is sent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from manx_core.api.v1alpha1 import ClassTier, IcmpMatch, PolicyProgramSpec, Rule, RuleEnd
from manx_core.policy.own_ports import OwnPort

Direction = Literal["Ingress", "Egress"]
_Number = tuple[int, int]
"""An address: version and value."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection's first packet. Addresses in canonical text and of one family; `protocol` as in `Rule.protocol`.
    Ports count for protocols that have any, `icmp_type` and `icmp_code` for ICMP and ICMPv6."""

    source: str
    destination: str
    protocol: str
    port: int = 0
    """The destination's."""
    source_port: int = 0
    icmp_type: int = -1
    icmp_code: int = -1

    @property
    def version(self) -> int:
        return _number(self.source)[0]


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a flow, and where that was decided."""

    allowed: bool
    tier: str = ""
    """Empty: every tier passed the flow, or none applies."""
    program: str = ""
    """Empty: the tier's default action decided."""
    rule: int = -1
    """Which of the program's rules in that direction; -1: the tier's default action decided."""
    index: int = -1
    """That rule's `index`."""


class Groups:
    """The members of address groups, and the named ports of the node's own endpoints, for lookup. A group that is
    missing has none."""

    def __init__(
        self, members: Mapping[str, Iterable[str]], own_ports: Mapping[OwnPort, frozenset[str]] | None = None
    ) -> None:
        """`own_ports`: as of `manx_core.policy.own_ports.own_ports`."""
        self._groups = {group: _Members(found) for group, found in members.items()}
        self._own_ports = own_ports or {}

    def has_address(self, group: str, address: str) -> bool:
        found = self._groups.get(group)
        return found is not None and found.has_address(address)

    def has_port(self, group: str, address: str, protocol: str, port: int) -> bool:
        found = self._groups.get(group)
        return found is not None and _port_member(address, protocol, port) in found.texts

    def has_own_port(self, name: str, address: str, protocol: str, port: int) -> bool:
        held = self._own_ports.get(OwnPort(protocol, name), frozenset())
        return _port_member(address, protocol, port) in held


def evaluate(
    tiers: Iterable[ClassTier],
    programs: Mapping[str, PolicyProgramSpec],
    groups: Groups,
    direction: Direction,
    flow: Flow,
) -> Decision:
    """What becomes of the flow at a pod whose class has these tiers.

    A tier counts where one of its policies isolates in that direction. In it the first rule decides that matches and
    is not Log; a Pass goes to the next tier; without any, the tier's default action decides. What all tiers pass, or
    none counts for, is allowed. Raises KeyError for a program that is missing.
    """
    for tier in tiers:
        isolating = [(name, programs[name]) for name in tier.policies if direction in programs[name].types]
        decision = _in_tier(tier, isolating, groups, direction, flow) if isolating else None
        if decision is not None:
            return decision
    return Decision(True)


def matches(rule: Rule, groups: Groups, direction: Direction, flow: Flow) -> bool:
    """Whether all that the rule asks for holds."""
    if rule.ip_version not in (0, flow.version) or not _protocol_matches(rule, flow):
        return False
    source, destination = (rule.peer, rule.subject) if direction == "Ingress" else (rule.subject, rule.peer)
    at_source = _End(flow.source, flow.protocol, flow.source_port, groups)
    return at_source.matches(source) and _End(flow.destination, flow.protocol, flow.port, groups).matches(destination)


def _in_tier(
    tier: ClassTier,
    programs: list[tuple[str, PolicyProgramSpec]],
    groups: Groups,
    direction: Direction,
    flow: Flow,
) -> Decision | None:
    """None: on to the next tier."""
    for name, program in programs:
        for number, rule in enumerate(program.ingress if direction == "Ingress" else program.egress):
            if rule.action == "Log" or not matches(rule, groups, direction, flow):
                continue
            if rule.action == "Pass":
                return None
            return Decision(rule.action == "Allow", tier.name, name, number, rule.index)
    return None if tier.default_action == "Pass" else Decision(False, tier.name)


def _protocol_matches(rule: Rule, flow: Flow) -> bool:
    if rule.protocol not in ("", flow.protocol) or rule.not_protocol == flow.protocol:
        return False
    if rule.icmp is not None and not _icmp_matches(rule.icmp, flow):
        return False
    return rule.not_icmp is None or not _icmp_matches(rule.not_icmp, flow)


def _icmp_matches(icmp: IcmpMatch, flow: Flow) -> bool:
    return icmp.type == flow.icmp_type and icmp.code in (-1, flow.icmp_code)


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a flow."""

    address: str
    protocol: str
    port: int
    groups: Groups

    def matches(self, end: RuleEnd) -> bool:
        return self._address_matches(end) and self._port_matches(end)

    def _address_matches(self, end: RuleEnd) -> bool:
        if not all(self.groups.has_address(group, self.address) for group in end.groups):
            return False
        if any(self.groups.has_address(group, self.address) for group in end.not_groups):
            return False
        return (not end.nets or self._within(end.nets)) and not self._within(end.not_nets)

    def _port_matches(self, end: RuleEnd) -> bool:
        wanted, unwanted = (
            (end.ports, end.port_groups, end.named_ports),
            (end.not_ports, end.not_port_groups, end.not_named_ports),
        )
        return (not any(wanted) or self._has_port(*wanted)) and not self._has_port(*unwanted)

    def _has_port(self, ports: tuple[str, ...], groups: tuple[str, ...], names: tuple[str, ...]) -> bool:
        asked = self.address, self.protocol, self.port
        if any(_in_range(self.port, text) for text in ports):
            return True
        if any(self.groups.has_port(group, *asked) for group in groups):
            return True
        return any(self.groups.has_own_port(name, *asked) for name in names)

    def _within(self, nets: tuple[str, ...]) -> bool:
        """An address is in no network of the other family."""
        version, value = _number(self.address)
        return any(version == v and first <= value <= last for v, first, last in map(_bounds, nets))


class _Members:
    """One group's members: whole addresses and ports by their text, networks by prefix length."""

    __slots__ = ("_networks", "texts")

    def __init__(self, members: Iterable[str]) -> None:
        self.texts = frozenset(members)
        self._networks: dict[tuple[int, int], set[int]] = {}
        for network in [ipaddress.ip_network(text) for text in self.texts if "/" in text]:
            shift = network.max_prefixlen - network.prefixlen
            self._networks.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)

    def has_address(self, address: str) -> bool:
        if address in self.texts:
            return True
        version, value = _number(address)
        return any(version == v and value >> shift in found for (v, shift), found in self._networks.items())


def _port_member(address: str, protocol: str, port: int) -> str:
    return f"{address},{protocol.lower()}:{port}"


def _in_range(port: int, text: str) -> bool:
    first, _, last = text.partition("-")
    return int(first) <= port <= int(last or first)


@lru_cache(maxsize=4096)
def _number(address: str) -> _Number:
    parsed = ipaddress.ip_address(address)
    return parsed.version, int(parsed)


@lru_cache(maxsize=4096)
def _bounds(network: str) -> tuple[int, int, int]:
    parsed = ipaddress.ip_network(network)
    return parsed.version, int(parsed.network_address), int(parsed.broadcast_address)
