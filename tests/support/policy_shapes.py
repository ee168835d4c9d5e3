"""Views that between them make the agent write every shape of rule that it can: what goldens, and the tests that feed
rules to the real programs, are made of.

Owns: `SHAPES`. Must not: be large; each view is rendered, read and compared by people.
"""

from __future__ import annotations

from dataclasses import replace

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

GROUP, OTHER, PORTS = (f"ag-{letter * 20}" for letter in "gop")
CLASS = f"pc-{'c' * 20}"
_PODS = (
    LocalEndpoint("shop", "web", "u1", "c1", "mnx00000000001", ("10.244.0.11", "fd00::b")),
    LocalEndpoint("shop", "db", "u2", "c2", "mnx00000000002", ("10.244.0.12",)),
)
POOLS = (
    PoolSettings(name="four", cidr="10.244.0.0/16", nat_outgoing=True),
    PoolSettings(name="six", cidr="fd00::/64", nat_outgoing=True),
)
_MANY = tuple(str(port) for port in range(1, 15))
_NETS = ("10.0.0.0/8", "192.0.2.1/32", "fd00:1::/32", "2001:db8::1/128")

ENDS = RuleEnd(
    groups=(GROUP, OTHER),
    not_groups=(OTHER,),
    nets=_NETS,
    not_nets=("10.1.0.0/16", "10.2.0.0/16", "fd00:1:2::/48", "fd00:1:3::/48"),
    ports=("80", "8000-8080"),
    not_ports=("81", "8001-8002"),
    port_groups=(PORTS,),
    not_port_groups=(PORTS,),
)
CONDITIONS = (
    Rule(protocol="TCP", peer=ENDS, subject=ENDS),
    Rule(protocol="UDPLite", subject=RuleEnd(ports=(*_MANY, "20-30"), not_ports=(*_MANY, "20-30"))),
    Rule(protocol="SCTP", peer=RuleEnd(ports=("7",)), subject=RuleEnd(nets=("10.244.0.0/16", "::/0"))),
    Rule(peer=RuleEnd(nets=("192.0.2.0/24", "2001:db8:1::/48"), not_nets=("192.0.2.7/32",))),
    Rule(peer=RuleEnd(nets=("0.0.0.0/0", "::ffff:192.0.2.1")), subject=RuleEnd(nets=("0.0.0.0/0", "::/0"))),
    Rule(protocol="ICMP"),
    Rule(protocol="ICMPv6"),
    Rule(protocol="ICMP", icmp=IcmpMatch(8)),
    Rule(protocol="ICMP", icmp=IcmpMatch(3), not_icmp=IcmpMatch(3, 4), peer=RuleEnd(groups=(GROUP,))),
    Rule(protocol="ICMPv6", icmp=IcmpMatch(128, 0)),
    Rule(protocol="ICMPv6", not_icmp=IcmpMatch(1, 3), peer=RuleEnd(not_groups=(GROUP,))),
    Rule(not_icmp=IcmpMatch(5)),
    Rule(not_protocol="SCTP", not_icmp=IcmpMatch(5)),
    Rule(protocol="47"),
    Rule(protocol="253"),
    Rule(not_protocol="UDP"),
    Rule(not_protocol="50", peer=RuleEnd(groups=(GROUP,))),
    Rule(ip_version=6, protocol="17"),
    Rule(protocol="TCP", subject=RuleEnd(ports=("80",), named_ports=("web", "A_name-that-is-longer"))),
    Rule(action="Deny", protocol="SCTP", subject=RuleEnd(named_ports=("web", "web2"), not_named_ports=("alt",))),
    Rule(action="Deny", not_protocol="TCP", not_icmp=IcmpMatch(5)),
)


def program(tier: str, name: str, *rules: Rule, log_denied: bool = False) -> PolicyProgramSpec:
    """Of both directions, with the same rules in each."""
    source = PolicySource(kind="GlobalNetworkPolicy", name=name, tier=tier)
    numbered = tuple(
        Rule(**{**{key: getattr(rule, key) for key in rule.__struct_fields__}, "index": index})
        for index, rule in enumerate(rules)
    )
    return PolicyProgramSpec(
        epoch=1, source=source, types=("Ingress", "Egress"), ingress=numbered, egress=numbered, log_denied=log_denied
    )


_PLAIN = PolicyView(
    endpoints={one.container_id: one for one in _PODS},
    class_of={("shop", "web", "u1"): CLASS, ("shop", "db", "u2"): "open"},
    classes={CLASS: (ClassTier(name="default", policies=("gnp.web",)),)},
    programs={
        "gnp.web": program("default", "web", Rule(protocol="TCP", peer=RuleEnd(groups=(GROUP,))), Rule(action="Deny"))
    },
    groups={
        GROUP: frozenset({"10.244.1.5", "10.9.0.0/24", "fd00:0:0:1::5", "::ffff:192.0.2.1", "::1.2.3.4"}),
        OTHER: frozenset({"192.0.2.0/24", "::/0"}),
        PORTS: frozenset({"10.244.0.11,tcp:80", "fd00::b,udp:53", "10.244.0.11,sctp:9", "fd00::b,udplite:7"}),
    },
    group_types={GROUP: "Addresses", OTHER: "Addresses", PORTS: "AddressPorts"},
    ports_of={("shop", "web", "u1"): (NamedPort("alt", "SCTP", 9), NamedPort("web", "TCP", 80))},
    pools=POOLS,
)

_WORK = (
    Rule(action="Log", protocol="UDP"),
    Rule(action="Pass", peer=RuleEnd(groups=(GROUP,))),
    Rule(action="Deny", protocol="TCP", peer=RuleEnd(groups=(OTHER,))),
    Rule(peer=RuleEnd(nets=("192.0.2.9/32", "2001:db8::9/128"))),
)
_TIERED = replace(
    _PLAIN,
    classes={
        CLASS: (
            ClassTier(name="security", policies=("gnp.security.a", "gnp.security.b")),
            ClassTier(name="audit", policies=("gnp.audit.c",), default_action="Pass"),
            ClassTier(name="default", policies=("gnp.web", "gnp.last")),
        )
    },
    programs={
        **_PLAIN.programs,
        "gnp.security.a": program("security", "security.a", *_WORK, log_denied=True),
        "gnp.security.b": program("security", "security.b", *_WORK[2:]),
        "gnp.audit.c": program("audit", "audit.c", _WORK[0], _WORK[2]),
        "gnp.last": program("default", "last", _WORK[1]),
    },
)

SHAPES: dict[str, PolicyView] = {
    "plain": _PLAIN,
    "ipv4": replace(
        _PLAIN,
        endpoints={"c2": _PODS[1]},
        class_of={("shop", "db", "u2"): CLASS},
        pools=POOLS[:1],
    ),
    "conditions": replace(_PLAIN, programs={"gnp.web": program("default", "web", *CONDITIONS)}),
    "tiers": _TIERED,
    "logged": replace(_TIERED, settings=PolicySettings(log_denied=True, log_prefix="audit", deny_action="Reject")),
    "returning": replace(
        _TIERED,
        settings=PolicySettings(
            allow_action="Return",
            chain_insert_mode="Append",
            default_endpoint_to_host_action="Drop",
            mark_mask=0x88000000,
        ),
    ),
    "to the host": replace(
        _PLAIN,
        settings=PolicySettings(
            default_endpoint_to_host_action="Return", nat_port_range="1024:65535", established="Recheck"
        ),
    ),
}
