"""Compiled rules of chance, and a node's view made of some of them.

Owns: `draw` (rules over so few addresses, ports and types that a packet can be found for nearly each of them), `view`
(where they stand in a node's policies). Must not: know how rules are rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from manx_agent.model import LocalEndpoint, PolicyView
from manx_core.api.v1alpha1 import (
    ClassTier,
    IcmpMatch,
    PolicyProgramSpec,
    PolicySettings,
    PolicySource,
    PoolSettings,
    Rule,
    RuleEnd,
)
from manx_core.policy.endpoint import NamedPort

PODS = "abcdefg"
"""a and b are under the policies with the rules in question, c is open, d is under a policy without Pass, e is not in
force, f is of a class that the kernel was not told of, g is under a tier that passes by default."""
ADDRESSES = {
    4: {name: f"10.244.0.{11 + at}" for at, name in enumerate(PODS)},
    6: {name: f"fd00::{11 + at:x}" for at, name in enumerate(PODS)},
}
INTERFACES = {name: f"mnx{11 + at:011x}" for at, name in enumerate(PODS)}
STRANGERS = {
    4: ("192.0.2.7", "192.0.2.8", "203.0.113.9", "203.0.113.77", "172.16.1.1"),
    6: ("2001:db8:1::7", "2001:db8:1::8", "2001:db8:2::9", "2001:db8:2::77", "2001:db8:3::1"),
}
GROUPS = {
    f"ag-{'g' * 20}": ("10.244.0.12", "10.244.0.13", "192.0.2.0/24", "fd00::c", "fd00::d", "2001:db8:1::/48"),
    f"ag-{'h' * 20}": ("10.244.0.11", "192.0.2.7", "203.0.113.9", "fd00::b", "2001:db8:1::7", "2001:db8:2::9"),
}
_PORT_GROUP = f"ag-{'p' * 20}"
_PORT_MEMBERS = tuple(
    f"{address},{protocol}:{port}"
    for address in ("10.244.0.11", "10.244.0.12", "192.0.2.7", "fd00::b", "fd00::c", "2001:db8:1::7")
    for protocol, port in (("tcp", 80), ("udp", 53), ("sctp", 9), ("udplite", 7), ("tcp", 4000))
)
TYPES = {**dict.fromkeys(GROUPS, "Addresses"), _PORT_GROUP: "AddressPorts"}
MEMBERS = {name: frozenset(members) for name, members in {**GROUPS, _PORT_GROUP: _PORT_MEMBERS}.items()}
_SECOND = list(GROUPS)[1]
_NAMES = ("web", "alt")
_NAMED = ("TCP", "UDP", "SCTP")
NAMED_PORTS = {
    "a": (*(NamedPort("web", protocol, 80) for protocol in _NAMED), *(NamedPort("alt", one, 4000) for one in _NAMED)),
    "b": (*(NamedPort("web", protocol, 4001) for protocol in _NAMED), *(NamedPort("alt", one, 81) for one in _NAMED)),
}
_NETS = (
    ("192.0.2.0/24", "2001:db8:1::/48"),
    ("203.0.113.9/32", "2001:db8:2::9/128"),
    ("10.244.0.8/29", "fd00::8/125"),
    ("10.244.0.0/16", "fd00::/64"),
    ("10.244.0.11/32", "fd00::b/128"),
)
_EVERYTHING = ("0.0.0.0/0", "::/0")
SOURCE_PORTS = (4000, 4001, 4105, 4999)
PORTS = (80, 81, 53, 9, 7, 8000, 8044, 8080, 1105)
_RANGES = ("8000-8080", "4100-4200", "1-100")
_WORDED = ("80", "81", "53", "9", "7", "4000", "4001", *_RANGES)
_MANY = tuple(str(port) for port in range(1100, 1120))
_WITH_PORTS = ("TCP", "UDP", "SCTP", "UDPLite")
_PROTOCOLS = (*_WITH_PORTS, *_WITH_PORTS, "ICMP", "ICMPv6", "47", "253")
ICMP_TYPES = {4: ((8, 0), (8, 1), (13, 0), (15, 0)), 6: ((128, 0), (128, 1), (139, 0))}
"""Types and codes with which a connection may begin; all others are invalid for connection tracking."""


def _some(random: Random, choices: Sequence[str], most: int) -> tuple[str, ...]:
    return tuple(random.sample(choices, random.randint(1, most)))


def _nets(random: Random, most: int) -> tuple[str, ...]:
    chosen = random.sample(_NETS, random.randint(1, most))
    return _EVERYTHING if random.randrange(12) == 0 else tuple(net for pair in chosen for net in pair)


def _ports(random: Random) -> tuple[str, ...]:
    kind = random.randrange(10)
    if kind < 2:
        return (random.choice(_RANGES),)
    return (*_MANY, *_some(random, _WORDED, 2)) if kind < 4 else _some(random, _WORDED, 3)


def _end(random: Random, ported: bool, named: bool = False) -> RuleEnd:
    """Most often nothing, or one thing."""
    found: dict[str, tuple[str, ...]] = {}
    for name, one_of in (("groups", 4), ("not_groups", 5)):
        if random.randrange(one_of) == 0:
            found[name] = _some(random, tuple(GROUPS), 2)
    for name, most in (("nets", 2), ("not_nets", 1)):
        if random.randrange(4) == 0:
            found[name] = _nets(random, most)
    for name in ("port_groups", "not_port_groups"):
        if random.randrange(6) == 0:
            found[name] = (_PORT_GROUP,)
    for name in ("ports", "not_ports"):
        if ported and random.randrange(4) == 0:
            found[name] = _ports(random)
    for name in ("named_ports", "not_named_ports"):
        if named and random.randrange(5) == 0:
            found[name] = _some(random, _NAMES, 2)
    return RuleEnd(**found)


def draw(random: Random) -> Rule:
    """One rule of any kind."""
    protocol = random.choice(_PROTOCOLS) if random.randrange(3) else ""
    unwanted = random.choice(_PROTOCOLS) if not protocol and random.randrange(3) == 0 else ""
    match = random.choice([IcmpMatch(kind, code) for kind, code in ((8, -1), (8, 1), (13, 0), (128, -1), (128, 1))])
    other = random.choice((IcmpMatch(13), IcmpMatch(8, 1), IcmpMatch(128, 1), IcmpMatch(139)))
    ports = protocol in _WITH_PORTS
    named = (False, protocol in _NAMED)
    ends = [_end(random, ports, names) if random.randrange(3) else RuleEnd() for names in named]
    return Rule(
        action=random.choice(("Log", "Log", "Allow", "Deny", "Pass")),
        ip_version=random.choice((0, 0, 0, 0, 4, 6)),
        protocol=protocol,
        not_protocol=unwanted,
        icmp=match if protocol.startswith("ICMP") and random.randrange(2) else None,
        not_icmp=other if (protocol.startswith("ICMP") or not protocol) and random.randrange(3) == 0 else None,
        peer=ends[0],
        subject=ends[1],
    )


_PORT_80 = RuleEnd(ports=("80",))
_FIRST_NET = RuleEnd(nets=_NETS[0])

# --- a node's view --------------------------------------------------------------------------------------------------

SETTINGS = (
    PolicySettings(),
    PolicySettings(log_denied=True, log_prefix="audit", deny_action="Reject", nat_port_range="2000:60000"),
    PolicySettings(
        allow_action="Return", chain_insert_mode="Append", default_endpoint_to_host_action="Drop", mark_mask=0x88000000
    ),
    PolicySettings(default_endpoint_to_host_action="Return", established="Recheck", log_denied=True),
)


def view(turn: int, ingress: Sequence[Rule], egress: Sequence[Rule], versions: Sequence[int] = (4, 6)) -> PolicyView:
    """The rules in question are the first policy's; which settings, depends on the turn."""
    programs = {
        "gnp.security.a": _program("security", ingress, egress, log_denied=bool(turn % 2)),
        "gnp.security.b": _both("security", Rule(action="Pass", protocol="TCP"), Rule(protocol="SCTP")),
        "gnp.audit.c": _both("audit", Rule(action="Deny", protocol="TCP", peer=RuleEnd(groups=(_SECOND,)))),
        "gnp.last": _both("default", Rule(action="Pass", peer=_FIRST_NET), Rule(protocol="TCP", peer=_PORT_80)),
        "gnp.alone": _both("default", Rule(protocol="UDP"), Rule(action="Deny", protocol="SCTP")),
    }
    classes = {
        _class("x"): (
            ClassTier(name="security", policies=("gnp.security.a", "gnp.security.b")),
            ClassTier(name="audit", policies=("gnp.audit.c",), default_action="Pass"),
            ClassTier(name="default", policies=("gnp.last",)),
        ),
        _class("d"): (ClassTier(name="default", policies=("gnp.alone",)),),
        **{_class(one): (ClassTier(name="audit", policies=("gnp.audit.c",), default_action="Pass"),) for one in "fg"},
    }
    of = {"a": _class("x"), "b": _class("x"), "c": "open", **{one: _class(one) for one in "dfg"}}
    pools = (
        PoolSettings(name="four", cidr="10.244.0.0/16", nat_outgoing=True),
        PoolSettings(name="six", cidr="fd00::/64", nat_outgoing=True),
    )
    return PolicyView(
        endpoints={f"c-{name}": _endpoint(name, versions) for name in of},
        class_of={("default", name, f"uid-{name}"): owner for name, owner in of.items()},
        classes=classes,
        programs=programs,
        ports_of={("default", name, f"uid-{name}"): ports for name, ports in NAMED_PORTS.items()},
        groups=MEMBERS,
        group_types=TYPES,
        pools=tuple(pool for pool, version in zip(pools, (4, 6), strict=True) if version in versions),
        settings=SETTINGS[turn % len(SETTINGS)],
    )


def _endpoint(name: str, versions: Sequence[int]) -> LocalEndpoint:
    addresses = tuple(ADDRESSES[version][name] for version in versions)
    return LocalEndpoint("default", name, f"uid-{name}", f"c-{name}", INTERFACES[name], addresses)


def _class(letter: str) -> str:
    return f"pc-{letter * 20}"


def _both(tier: str, *rules: Rule) -> PolicyProgramSpec:
    return _program(tier, rules, rules)


def _program(tier: str, ingress: Sequence[Rule], egress: Sequence[Rule], log_denied: bool = False) -> PolicyProgramSpec:
    source = PolicySource(kind="GlobalNetworkPolicy", name="test", tier=tier)
    return PolicyProgramSpec(
        epoch=1,
        source=source,
        types=("Ingress", "Egress"),
        ingress=tuple(ingress),
        egress=tuple(egress),
        log_denied=log_denied,
    )


def only(whole: PolicyView, version: int) -> PolicyView:
    """The same node without the other family."""
    pools = tuple(pool for pool in whole.pools if (":" in pool.cidr) == (version == 6))
    endpoints = {
        key: replace(one, addresses=tuple(address for address in one.addresses if (":" in address) == (version == 6)))
        for key, one in whole.endpoints.items()
    }
    return replace(whole, pools=pools, endpoints=endpoints)
