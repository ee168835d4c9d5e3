"""What a compiled rule asks of a packet, as iptables' matches.

Owns: every condition that a Rule can have, in one family of addresses. Must not: know what becomes of the packet.

Each condition gives the alternative matches, any of which meets it: "" for one that is always met, none at all for one
that nothing can meet here. They are written in the order in which iptables-save prints them: addresses and protocol
first, the rest as it was given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from manx_agent.render import names
from manx_agent.render.family import Family
from manx_agent.render.image import SetImage
from manx_agent.render.nets import Networks, as_match, networks_of
from manx_agent.render.style import Direction
from manx_core.api.v1alpha1 import IcmpMatch, Rule, RuleEnd
from manx_core.policy.own_ports import PROTOCOLS

_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132, "udplite": 136}
"""Protocols that have a name (IANA), in lower case."""
_PRINTED = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp", 136: "udplite"}
"""Those that iptables-save prints by name wherever it runs; for others that depends on /etc/protocols."""
_WITH_PORTS = ("tcp", "udp", "sctp", "udplite")
_ICMP = ("icmp", "ipv6-icmp")
_SLOTS = 15
"""Ports that one multiport match takes; a range takes two (XT_MULTI_PORTS)."""
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


class Unreadable(Exception):
    """A rule has a condition that cannot be rendered. The text names field and value."""


class Lacking(Exception):
    """A rule has a condition on a group that is missing."""


@dataclass(slots=True)
class Scope:
    """What the rules of one policy need, and what comes of rendering them."""

    family: Family
    lacking: frozenset[str]
    types: Mapping[str, str]
    sets: dict[str, SetImage] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def network_set(self, members: frozenset[str]) -> str:
        name = self.family.set(names.networks(members))
        self.sets[name] = SetImage("hash:net", members, self.family.set_family)
        return name

    def group_set(self, place: str, group: str, kind: str) -> str:
        """The set of a group. Raises Lacking, Unreadable."""
        if group in self.lacking:
            raise Lacking(group)
        found = self.types.get(group, kind)
        if found != kind:
            raise Unreadable(f"{place}: AddressGroup {group} is of type {found}, not {kind}")
        return self.family.set(names.address_group(group) if kind == "Addresses" else names.port_group(group))


def alternatives(scope: Scope, where: str, rule: Rule, direction: Direction) -> tuple[list[str], bool]:
    """The matches of which any one says that the rule applies, and whether that is known.

    Where it is not, they say for Deny and Pass when the rule may apply; for other actions there are none.
    """
    if rule.ip_version not in (0, scope.family.version):
        return [], True
    suspicious = rule.action in ("Deny", "Pass")
    found, known = [""], True
    problems = []
    for condition in _conditions(scope, rule, direction, suspicious):
        try:
            met_by = condition()
        except (Unreadable, Lacking) as unknown:
            problems += [f"{where}.{unknown}"] if isinstance(unknown, Unreadable) else []
            met_by, known = ([""] if suspicious else []), False
        found = [before + part for before in found for part in met_by]
    scope.problems += [problem for problem in dict.fromkeys(problems) if problem not in scope.problems]
    return found, known


_Condition = Callable[[], list[str]]


def _conditions(scope: Scope, rule: Rule, direction: Direction, suspicious: bool) -> Iterable[_Condition]:
    peer = _End(scope, rule, rule.peer, "peer", "src" if direction == "ingress" else "dst", suspicious)
    subject = _End(scope, rule, rule.subject, "subject", "dst" if direction == "ingress" else "src", suspicious)
    ends = (peer, subject) if direction == "ingress" else (subject, peer)
    yield from (end.network for end in ends)
    yield lambda: _protocol(scope.family, rule, suspicious)
    yield lambda: _icmp(scope.family, rule)
    for end in ends:
        yield from (end.networks, *end.groups(), end.not_networks, end.ports, end.not_ports, *end.not_port_groups())


# --- protocols -----------------------------------------------------------------------------------------------------


def _named(field_name: str, text: str) -> str:
    """A protocol as iptables-save prints it; empty for none. Raises Unreadable."""
    if not text:
        return ""
    number = int(text) if text.isdecimal() else _NUMBERS.get(text.lower(), 0)
    if not 0 < number < 256:
        raise Unreadable(f"{field_name}: {text!r} is not one of {', '.join(_NAMES)}, or a number from 1 to 255")
    return _PRINTED.get(number, str(number))


_NAMES = ("TCP", "UDP", "SCTP", "UDPLite", "ICMP", "ICMPv6")


def _protocol(family: Family, rule: Rule, suspicious: bool) -> list[str]:
    """A rule of every protocol that excludes an ICMP type is two: of all that is not ICMP, and of ICMP. A protocol that
    is excluded beside it, for which `-p` has no room, is known to connection tracking, but for packets that somebody
    exempted from it: a rule that shall stop something stops all of those."""
    wanted, unwanted = _named("protocol", rule.protocol), _named("notProtocol", rule.not_protocol)
    if wanted:
        return [] if wanted == unwanted else [f"-p {wanted} "]
    if rule.not_icmp is None or unwanted == family.icmp:
        return [f"! -p {unwanted} " if unwanted else ""]
    others = [f"-m conntrack ! --ctproto {_number(unwanted)} "] if unwanted else [""]
    if unwanted and suspicious:
        others.append("-m conntrack --ctstate UNTRACKED ")
    of_icmp = f"-p {family.icmp} {_icmp_match(family, 'notICMP', rule.not_icmp, '! ')}"
    return [*(f"! -p {family.icmp} {other}" for other in others), of_icmp]


def _number(printed: str) -> int:
    """Of a protocol as iptables-save prints it."""
    return next((number for number, name in _PRINTED.items() if name == printed), 0) or int(printed)


def _icmp(family: Family, rule: Rule) -> list[str]:
    protocol = _named("protocol", rule.protocol)
    if rule.icmp is not None and protocol not in _ICMP:
        raise Unreadable("icmp: needs protocol ICMP or ICMPv6")
    if protocol != family.icmp:
        # What is not this family's ICMP is of no type. `_protocol` has seen to rules of every protocol.
        return [] if rule.icmp is not None else [""]
    yes = _icmp_match(family, "icmp", rule.icmp, "")
    return [f"{yes}{_icmp_match(family, 'notICMP', rule.not_icmp, '! ')}"]


def _icmp_match(family: Family, field_name: str, match: IcmpMatch | None, negation: str) -> str:
    """Type 255 stands for any type in the kernel's match on ICMP of IPv4 (and is reserved by IANA)."""
    if match is None:
        return ""
    if not 0 <= match.type < 255 or not -1 <= match.code < 256:
        raise Unreadable(f"{field_name}: type {match.type}, code {match.code}: allowed are 0 to 254, and 0 to 255")
    code = f"/{match.code}" if match.code >= 0 else ""
    return f"-m {family.icmp_match.format(negation)} {match.type}{code} "


# --- one end of a packet -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _End:
    """The conditions on a packet's source or destination. `place`: the Rule's field; `side`: src or dst."""

    scope: Scope
    rule: Rule
    end: RuleEnd
    place: str
    side: str
    suspicious: bool

    def network(self) -> list[str]:
        """A single network is an option of its own, which iptables-save prints before all else."""
        members = self._read("nets", self.end.nets).members
        return [f"-{self.side[0]} {as_match(self.scope.family, *members)} " if len(members) == 1 else ""]

    def networks(self) -> list[str]:
        nets = self._read("nets", self.end.nets)
        if not self.end.nets or nets.everything or len(nets.members) == 1:
            return [""]
        return [f"-m set --match-set {self.scope.network_set(nets.members)} {self.side} "] if nets.members else []

    def not_networks(self) -> list[str]:
        nets = self._read("notNets", self.end.not_nets)
        if nets.everything:
            return []
        return [f"-m set ! --match-set {self.scope.network_set(nets.members)} {self.side} " if nets.members else ""]

    def _read(self, name: str, cidrs: tuple[str, ...]) -> Networks:
        nets = networks_of(self.scope.family, cidrs)
        if nets.unreadable:
            raise Unreadable(f"{self.place}.{name}: {nets.unreadable[0]!r} is not a CIDR such as 10.0.0.0/8")
        return nets

    def groups(self) -> Iterable[_Condition]:
        """Each is a condition of its own: that one cannot be known leaves the others as they are."""
        yield from (partial(self._one, "groups", group, "Addresses") for group in self.end.groups)
        yield from (partial(self._one, "notGroups", group, "Addresses", "! ") for group in self.end.not_groups)

    def not_port_groups(self) -> Iterable[_Condition]:
        for group in self.end.not_port_groups:
            yield partial(self._one, "notPortGroups", group, "AddressPorts", "! ")

    def _one(self, name: str, group: str, kind: str, negation: str = "") -> list[str]:
        sides = self.side if kind == "Addresses" else f"{self.side},{self.side}"
        return [self._set(name, group, kind, sides, negation)]

    def _set(self, name: str, group: str, kind: str, sides: str, negation: str = "") -> str:
        return f"-m set {negation}--match-set {self.scope.group_set(f'{self.place}.{name}', group, kind)} {sides} "

    def ports(self) -> list[str]:
        """Any of the numbers, or of the named ports. An Allow makes do with those that are known. A packet goes on
        after a Log, and is to be logged once: there each alternative excludes those before it."""
        if not self.end.ports and not self.end.port_groups and not self.end.named_ports:
            return [""]
        found, before = [], ""
        for match in self._port_matches():
            found.append(before + match.format(""))
            before += match.format("! ") if self.rule.action == "Log" else ""
        return found

    def _port_matches(self) -> Iterable[str]:
        """Each with a place for a negation."""
        yield from (
            f"-m multiport {{}}--{self.side[0]}ports {chunk} " for chunk in self._multiport("ports", self.end.ports)
        )
        for group in self.end.port_groups:
            try:
                yield self._set("portGroups", group, "AddressPorts", f"{self.side},{self.side}", "{}")
            except Lacking:
                if self.suspicious:
                    raise
        yield from (self._own("namedPorts", port, "{}") for port in self.end.named_ports)

    def not_ports(self) -> list[str]:
        chunks = self._multiport("notPorts", self.end.not_ports)
        found = [f"-m multiport ! --{self.side[0]}ports {chunk} " for chunk in chunks]
        return ["".join([*found, *(self._own("notNamedPorts", port, "! ") for port in self.end.not_named_ports)])]

    def _own(self, name: str, port: str, negation: str) -> str:
        """What that named port is on the node's own endpoint at this end."""
        if self.rule.protocol not in PROTOCOLS:
            raise Unreadable(f"{self.place}.{name}: need protocol {', '.join(PROTOCOLS)}")
        own = self.scope.family.set(names.own_ports(self.rule.protocol, port))
        return f"-m set {negation}--match-set {own} {self.side},{self.side} "

    def _multiport(self, name: str, ports: tuple[str, ...]) -> list[str]:
        if ports and _named("protocol", self.rule.protocol) not in _WITH_PORTS:
            raise Unreadable(f"{self.place}.{name}: need protocol TCP, UDP, SCTP or UDPLite")
        return [",".join(chunk) for chunk in _chunks(_port(f"{self.place}.{name}", port) for port in ports)]


def _port(place: str, text: str) -> str:
    """A port or range as iptables writes it. Raises Unreadable."""
    parts = _PORTS.fullmatch(text)
    if parts is None:
        raise Unreadable(f"{place}: {text!r} is neither a port such as 80 nor a range such as 8000-8080")
    first, last = int(parts[1]), int(parts[2] or parts[1])
    if not first <= last < 65536:
        raise Unreadable(f"{place}: {text!r} is not within 0 to 65535, or ends before it begins")
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
