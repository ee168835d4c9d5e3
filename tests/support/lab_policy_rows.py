"""Owns the table of Calico's rules that are tried on a real cluster: each field of a rule, with connections whose fate
Calico's documentation settles.

It must not be clever: what is allowed and denied is written by hand, so that the reference, which judges all other
connections, is held to something. A row's rules are those of a policy that applies to one pod, its subject. They are
tried as ingress and as egress rules: ``peer`` stands for the other end (source, or destination), ``own`` for the
subject's. ``y/b:80`` is a connection over TCP between the subject and y/b: from y/b to the subject's port 80 as
ingress, from the subject to y/b's as egress, over both families unless it ends in /4 or /6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["ingress", "egress"]
BOTH: tuple[Direction, ...] = ("ingress", "egress")
INGRESS: tuple[Direction, ...] = ("ingress",)
EGRESS: tuple[Direction, ...] = ("egress",)


@dataclass(frozen=True)
class Row:
    """`rules`: YAML of a list. `subject`: the pod that it has to be, if any will not do. `namespaced`: in a
    NetworkPolicy rather than a GlobalNetworkPolicy."""

    name: str
    rules: str
    allows: str = ""
    denies: str = ""
    directions: tuple[Direction, ...] = BOTH
    subject: str = ""
    namespaced: bool = False


def _peer(text: str) -> str:
    return f"[{{action: Allow, peer: {{{text}}}}}]"


def _each_family(four: str, six: str) -> str:
    """A rule must not have addresses of both."""
    return f"[{{action: Allow, peer: {{{four}}}}}, {{action: Allow, peer: {{{six}}}}}]"


def _allow(text: str) -> str:
    return f"[{{action: Allow, {text}}}]"


NETS = (
    Row("nets", _each_family("nets: [<y/b>/32]", "nets: ['<y/b|6>/128']"), "y/b:80 y/b:81/UDP y/b:80/SCTP",
        "y/c:80 z/b:80 outside:80"),
    Row("nets-of-one-family", _peer("nets: [0.0.0.0/0]"), "y/b:80/4 outside:80/4", "y/b:80/6 outside:80/6"),
    Row("nets-of-the-other-family", _peer("nets: ['::/0']"), "y/b:80/6", "y/b:80/4 z/a:80/UDP/4"),
    Row("nets-of-a-host-outside", _peer("nets: [203.0.113.0/24]"), "outside:80/4", "outside:80/6 y/b:80"),
    Row("nets-many", _peer("nets: [<y/b>/32, <z/c>/32, 192.0.2.0/24]"), "z/c:80/4 y/b:80/4", "y/b:80/6"),
    Row("nets-many-6", _peer("nets: ['<y/b|6>/128', '2001:db8:cb::/64']"), "outside:80/6 y/b:80/6", "y/b:80/4"),
    Row("not-nets", _peer("notNets: [<y/b>/32, <z/a>/32]"), "y/c:80/4 outside:80/4", "y/b:80 z/a:81 y/c:80/6"),
    Row("not-nets-6", _peer("notNets: ['<y/b|6>/128']"), "y/c:80/6 outside:80/6", "y/b:80 y/c:80/4"),
    Row("not-nets-all-of-a-family", _peer("notNets: [0.0.0.0/0]"), "", "y/b:80 outside:80"),
    Row("nets-but-not-nets", _peer("nets: [10.244.0.0/16], notNets: [<y/b>/32]"), "y/c:80/4", "y/b:80/4 y/c:80/6"),
    Row("nets-of-both-families", _each_family("nets: [0.0.0.0/0]", "nets: ['::/0']"), "y/b:80 outside:81/UDP"),
)  # fmt: skip

SELECTORS = (
    Row("selector", _peer("selector: pod == 'b'"), "y/b:80 z/b:81/UDP", "y/c:80 outside:80"),
    Row("not-selector", _peer("notSelector: pod == 'b'"), "y/c:80 outside:80", "y/b:80 z/b:80"),
    Row("selector-but-not", _peer("selector: has(pod), notSelector: pod == 'b'"), "y/c:80", "y/b:80 outside:80"),
    Row("namespace-selector", _peer("namespaceSelector: ns == 'y'"), "y/b:80 y/c:80", "z/b:80 outside:80"),
    Row("both-selectors", _peer("namespaceSelector: ns == 'y', selector: pod == 'b'"), "y/b:80", "y/c:80 z/b:80"),
    Row("namespace-by-name", _peer("namespaceSelector: projectcalico.org/name == 'np-y'"), "y/b:80", "z/b:80"),
    Row("namespaces-all", _peer("namespaceSelector: all()"), "y/b:80 z/c:81", "outside:80"),
    Row("namespace-label", _peer("selector: projectcalico.org/namespace == 'np-z'"), "z/b:80", "y/b:80"),
    Row("orchestrator-label", _peer("selector: projectcalico.org/orchestrator == 'k8s'"), "z/b:80", "outside:80"),
    Row("account-label", _peer("selector: projectcalico.org/serviceaccount == 'b'"), "z/b:80", "z/c:80"),
    Row("in", _peer("""selector: 'pod in {"b", "none"}'"""), "y/b:80", "y/c:80"),
    Row("not-in", _peer("""selector: "pod not in {'b'}" """), "y/c:80", "y/b:80 outside:80"),
    Row("not-equal", _peer("selector: pod != 'b'"), "y/c:80", "y/b:80 outside:80"),
    Row("not-equal-of-no-such-label", _peer("selector: none != 'b'"), "y/c:80 y/b:80", "outside:80"),
    Row("contains", _peer("selector: projectcalico.org/namespace contains 'p-y'"), "y/c:80", "z/b:80"),
    Row("starts-with", _peer("selector: projectcalico.org/namespace starts with 'np-'"), "y/c:80", "outside:80"),
    Row("ends-with", _peer("selector: projectcalico.org/namespace ends with '-z'"), "z/c:80", "y/b:80"),
    Row("has", _peer("selector: has(pod)"), "z/c:80", "outside:80"),
    Row("has-not", _peer("selector: '!has(none)'"), "z/c:80", "outside:80"),
    Row("and-or", _peer("""selector: "ns == 'q' || pod == 'b' && has(pod)" """), "z/b:80", "z/c:80"),
    Row("not-and-parentheses", _peer("""selector: "!(pod == 'b' || pod == 'a')" """), "z/c:80", "z/b:80 y/a:80"),
    Row("all", _peer("selector: all()"), "z/c:80 y/b:80", "outside:80"),
    Row("matches-nothing", _peer("selector: pod == 'nobody'"), "", "z/c:80 y/b:80 outside:80"),
    Row("accounts-by-name", _peer("serviceAccounts: {names: [b, none]}"), "y/b:80", "y/c:80 outside:80"),
    Row("accounts-by-label", _peer("""serviceAccounts: {selector: "account == 'c'"}"""), "y/c:80 z/c:80", "y/b:80"),
    Row(
        "accounts-and-labels",
        _peer("""selector: "pod in {'b', 'c'}", serviceAccounts: {names: [c]}"""),
        "y/c:80",
        "y/b:80 y/a:80",
    ),
    Row("account-in-a-namespace", _peer("namespaceSelector: ns == 'z', serviceAccounts: {names: [c]}"), "z/c:80",
        "y/c:80"),
    Row("namespaced-selector", _peer("selector: has(pod)"), "x/b:80", "y/b:80", BOTH, "x/a", True),
    Row("namespaced-not-selector", _peer("notSelector: pod == 'c'"), "x/b:80", "x/c:80", BOTH, "x/a", True),
    Row(
        "namespaced-with-namespace-selector",
        _peer("selector: pod == 'b', namespaceSelector: all()"),
        "x/b:80 y/b:80",
        "y/c:80 x/c:80",
        BOTH,
        "x/a",
        True,
    ),
    Row("namespaced-accounts", _peer("serviceAccounts: {names: [b]}"), "x/b:80", "x/c:80 y/b:80", BOTH, "x/a", True),
)  # fmt: skip

SETS = (
    Row("global-network-set", _peer("selector: lab-set == 'global'"), "z/c:80", "y/c:80 z/b:80 outside:80"),
    Row("global-alone", _peer("namespaceSelector: global(), selector: has(lab-set)"), "z/c:80", "y/c:80 y/b:80"),
    Row("global-by-no-selector", _peer("namespaceSelector: global()"), "z/c:80", "y/c:80 y/b:80"),
    Row("network-set-of-another-namespace", _peer("selector: lab-set == 'z'"), "y/c:80", "y/b:80 z/c:80"),
    Row("network-set-by-namespace", _peer("namespaceSelector: ns == 'z', selector: has(lab-set)"), "y/c:80", "z/c:80"),
    Row("namespaced-network-set", _peer("selector: has(lab-set)"), "y/c:80", "z/c:80 y/b:80", BOTH, "z/a", True),
    Row("namespaced-global", _peer("namespaceSelector: global()"), "z/c:80", "y/c:80 y/b:80", BOTH, "z/a", True),
)
SET_OBJECTS = {
    "gset outer": "{labels: {lab-set: global}, nets: [192.0.2.0/24, '2001:db8:99::/64', <z/c>, '<z/c|6>']}",
    "set z/inner": "{labels: {lab-set: z}, nets: [<y/c>/32, '<y/c|6>/128']}",
}
"""Selectors that say what labels are not match sets, too: no row denies what is in them by such a selector."""

SERVICES = (
    Row(
        "services-as-sources",
        "[{action: Allow, source: {services: {name: lab-service, namespace: np-y}}}]",
        "y/b:80 y/b:81",
        "y/c:80 z/b:80",
        INGRESS,
    ),
    Row(
        "services-as-destinations",
        "[{action: Allow, destination: {services: {name: lab-service, namespace: np-y}}}]",
        "y/b:80",
        "y/b:81 y/b:80/UDP y/c:80",
        EGRESS,
    ),
    Row(
        "namespaced-services",
        "[{action: Allow, destination: {services: {name: lab-service}}}]",
        "y/b:80",
        "y/b:81 y/c:80",
        EGRESS,
        "y/a",
        True,
    ),
)

PROTOCOLS = (
    Row("tcp", _allow("protocol: TCP"), "y/b:80 outside:81", "y/b:80/UDP y/b:80/SCTP y/b:8/ICMP/4"),
    Row("udp", _allow("protocol: UDP"), "y/b:80/UDP", "y/b:80 y/b:80/UDPLite"),
    Row("sctp", _allow("protocol: SCTP"), "y/b:81/SCTP", "y/b:80"),
    Row("udplite", _allow("protocol: UDPLite"), "y/b:80/UDPLite", "y/b:80/UDP"),
    Row("protocol-by-number", _allow("protocol: 6"), "y/b:80", "y/b:80/UDP"),
    Row("protocol-without-name", _allow("protocol: 253"), "y/b:0/253", "y/b:80 y/b:80/UDP"),
    Row("not-tcp", _allow("notProtocol: TCP"), "y/b:80/UDP y/b:0/253 y/b:8/ICMP/4", "y/b:80"),
    Row("not-by-number", _allow("notProtocol: 17"), "y/b:80", "y/b:80/UDP"),
    Row("icmp", _allow("protocol: ICMP"), "y/b:8/ICMP/4 y/b:13/ICMP/4", "y/b:80 y/b:128/ICMPv6"),
    Row("icmpv6", _allow("protocol: ICMPv6"), "y/b:128/ICMPv6", "y/b:80 y/b:8/ICMP/4"),
    Row("icmp-type", _allow("protocol: ICMP, icmp: {type: 8}"), "y/b:8/ICMP/4 y/b:8.5/ICMP/4", "y/b:13/ICMP/4"),
    Row("icmp-code", _allow("protocol: ICMP, icmp: {type: 8, code: 5}"), "y/b:8.5/ICMP/4", "y/b:8/ICMP/4"),
    Row("icmp-code-0", _allow("protocol: ICMP, icmp: {type: 8, code: 0}"), "y/b:8/ICMP/4", "y/b:8.5/ICMP/4"),
    Row("not-icmp-type", _allow("protocol: ICMP, notICMP: {type: 8}"), "y/b:13/ICMP/4", "y/b:8/ICMP/4 y/b:80"),
    Row("not-icmp-code", _allow("protocol: ICMP, notICMP: {type: 8, code: 5}"), "y/b:8/ICMP/4", "y/b:8.5/ICMP/4"),
    Row("icmpv6-type", _allow("protocol: ICMPv6, icmp: {type: 128}"), "y/b:128/ICMPv6 y/b:128.5/ICMPv6", "y/b:80"),
    Row("icmpv6-code", _allow("protocol: ICMPv6, icmp: {type: 128, code: 5}"), "y/b:128.5/ICMPv6", "y/b:128/ICMPv6"),
    Row("not-icmpv6", _allow("protocol: ICMPv6, notICMP: {type: 128, code: 5}"), "y/b:128/ICMPv6", "y/b:128.5/ICMPv6"),
    Row("version-4", _allow("ipVersion: 4"), "y/b:80/4 y/b:8/ICMP/4", "y/b:80/6 y/b:128/ICMPv6"),
    Row("version-6", _allow("ipVersion: 6, protocol: TCP"), "y/b:80/6", "y/b:80/4 y/b:80/UDP"),
)

PORTS = (
    Row("port", _allow("protocol: TCP, destination: {ports: [80]}"), "y/b:80", "y/b:81 y/b:80/UDP"),
    Row("ports-udp", _allow("protocol: UDP, destination: {ports: [81]}"), "y/b:81/UDP", "y/b:80/UDP y/b:81"),
    Row("ports-sctp", _allow("protocol: SCTP, destination: {ports: [80]}"), "y/b:80/SCTP", "y/b:81/SCTP"),
    Row("range", _allow("protocol: TCP, destination: {ports: ['79:80', 8080]}"), "y/b:80", "y/b:81"),
    Row(
        "ports-many",
        _allow(f"protocol: TCP, destination: {{ports: [{', '.join(str(n) for n in range(60, 81))}, '90:99']}}"),
        "y/b:80",
        "y/b:81",
    ),
    Row("port-as-text", _allow("protocol: TCP, destination: {ports: ['80']}"), "y/b:80", "y/b:81"),
    Row("not-ports", _allow("protocol: TCP, destination: {notPorts: [80]}"), "y/b:81", "y/b:80 y/b:81/UDP"),
    Row("not-range", _allow("protocol: UDP, destination: {notPorts: ['81:90']}"), "y/b:80/UDP", "y/b:81/UDP"),
    Row(
        "not-ports-many",
        _allow(f"protocol: TCP, destination: {{notPorts: [{', '.join(str(n) for n in range(62, 81))}]}}"),
        "y/b:81",
        "y/b:80",
    ),
    Row("named-egress", _allow("protocol: TCP, destination: {ports: [web]}"), "y/b:80 y/c:81", "y/b:81 y/c:80", EGRESS),
    Row("named-not", _allow("protocol: TCP, destination: {notPorts: [web]}"), "y/b:81 y/c:80", "y/b:80 y/c:81", EGRESS),
    Row("named", _allow("protocol: TCP, destination: {ports: [web]}"), "y/b:80", "y/b:81", INGRESS, "z/b"),
    Row("named-81", _allow("protocol: TCP, destination: {ports: [web]}"), "y/b:81", "y/b:80", INGRESS, "x/c"),
    Row("named-udp", _allow("protocol: UDP, destination: {ports: [data]}"), "y/b:80/UDP", "y/b:81/UDP", INGRESS, "y/a"),
    Row("named-sctp", _allow("protocol: SCTP, destination: {ports: [signal]}"), "y/b:80/SCTP", "y/b:81/SCTP"),
    Row("named-of-nobody", _allow("protocol: TCP, destination: {ports: [nobody]}"), "", "y/b:80 y/b:81"),
    Row(
        "named-and-numbered",
        _allow("protocol: TCP, destination: {ports: [web, 81]}"),
        "y/b:80 y/b:81 y/c:81",
        "y/b:80/UDP",
        INGRESS,
        "z/a",
    ),
    Row("source-ports", _allow("protocol: TCP, source: {ports: ['10000:19999']}"), "y/b:80/TCP/low", "y/b:80"),
    Row("source-not-ports", _allow("protocol: TCP, source: {notPorts: ['10000:19999']}"), "y/b:80", "y/b:80/TCP/low"),
    Row(
        "ports-at-both-ends",
        _allow("protocol: TCP, source: {ports: ['10000:19999']}, destination: {ports: ['80:90']}"),
        "y/b:80/TCP/low",
        "y/b:80 y/b:81",
    ),
)

ACTIONS = (
    Row("no-rules", "[]", "", "y/b:80 outside:80 y/b:8/ICMP/4"),
    Row("deny-then-allow", "[{action: Deny, peer: {selector: pod == 'b'}}, {action: Allow}]", "y/c:80", "y/b:80"),
    Row("allow-then-deny", "[{action: Allow, peer: {selector: pod == 'b'}}, {action: Deny}]", "y/b:80", "y/c:80"),
    Row("deny-all", "[{action: Deny}, {action: Allow}]", "", "y/b:80 outside:80"),
    Row("log-goes-on", "[{action: Log}, {action: Allow, protocol: TCP}]", "y/b:80", "y/b:80/UDP"),
    Row("log-alone", "[{action: Log}]", "", "y/b:80"),
    Row("pass-with-no-tier-after", "[{action: Pass, protocol: TCP}]", "y/b:80", "y/b:80/UDP"),
    Row("annotated", "[{action: Allow, protocol: TCP, metadata: {annotations: {why: because}}}]", "y/b:80",
        "y/b:80/UDP"),
    Row(
        "first-match-wins",
        "[{action: Allow, protocol: TCP, destination: {ports: [80]}}, {action: Deny, protocol: TCP}, {action: Allow}]",
        "y/b:80 y/b:80/UDP",
        "y/b:81",
    ),
)  # fmt: skip

BOTH_ENDS = (
    Row("own-selector", "[{action: Allow, own: {selector: pod == 'a'}, peer: {selector: pod == 'b'}}]",
        "y/b:80", "y/c:80", BOTH, "z/a"),
    Row("own-selector-of-others", "[{action: Allow, own: {selector: pod == 'c'}}]", "", "y/b:80", BOTH, "z/a"),
    Row("own-not-selector", "[{action: Allow, own: {notSelector: pod == 'a'}}]", "", "y/b:80", BOTH, "y/a"),
    Row("own-nets", "[{action: Allow, own: {nets: [<z/a>/32]}}]", "y/b:80/4", "y/b:80/6", BOTH, "z/a"),
    Row("own-not-nets", "[{action: Allow, own: {notNets: [<y/a>/32]}}]", "", "y/b:80", BOTH, "y/a"),
    Row("own-account", "[{action: Allow, own: {serviceAccounts: {names: [a]}}}]", "y/b:80", "", BOTH, "y/a"),
    Row("own-account-of-others", "[{action: Allow, own: {serviceAccounts: {names: [b]}}}]", "", "y/b:80", BOTH, "x/a"),
    Row("own-port-and-peer",
        "[{action: Allow, protocol: TCP, source: {selector: pod == 'b'}, destination: {ports: [80]}}]",
        "y/b:80", "y/b:81 y/c:80", INGRESS),
    Row("everything",
        "[{action: Allow, ipVersion: 4, protocol: TCP, source: {selector: pod == 'b', notNets: [<z/b>/32],"
        " ports: ['10000:19999']}, destination: {nets: [10.244.0.0/16], notSelector: pod == 'c', notPorts: [81]}}]",
        "y/b:80/TCP/low/4", "y/b:80/4 z/b:80/TCP/low/4 y/b:80/TCP/low/6 y/b:81", INGRESS, "z/a"),
)  # fmt: skip

ROWS = (*NETS, *SELECTORS, *SETS, *SERVICES, *PROTOCOLS, *PORTS, *ACTIONS, *BOTH_ENDS)
