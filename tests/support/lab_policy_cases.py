"""Owns the table of policies that are tried on a real cluster, each with connections whose fate the API's text settles.

It must not be clever: `allows` and `denies` are written by hand from the API's words, so that the reference semantics,
which judges all other connections, is itself held to something. ``x/a>y/b:80`` is TCP unless it says otherwise;
``<y/b>`` in a policy is that pod's address. Port ``web`` (TCP) is 80 on pods named a and b, 81 on those named c;
``data`` (UDP) is 80 on those named a, else 81; ``signal`` (SCTP) is 80 on all. x/a is on node1.
"""

from __future__ import annotations

from dataclasses import dataclass

DENY_IN = "{podSelector: {}, policyTypes: [Ingress]}"
DENY_OUT = "{podSelector: {}, policyTypes: [Egress]}"
DENY_BOTH = "{podSelector: {}, policyTypes: [Ingress, Egress]}"


@dataclass(frozen=True)
class Case:
    """Policies by ``namespace/name``, and connections separated by blanks."""

    name: str
    policies: dict[str, str]
    allows: str = ""
    denies: str = ""

    @property
    def families(self) -> str:
        """Of which `allows` and `denies` speak: of IPv4 alone where its addresses alone decide."""
        specs = [spec for spec in self.policies.values() if "cidr:" in spec or "nets:" in spec.lower()]
        return "4" if specs and not any("::" in spec for spec in specs) else "46"


def _on_a(rules: str) -> str:
    """A spec for pods named a."""
    return f"{{podSelector: {{matchLabels: {{pod: a}}}}, {rules}}}"


def _from(*peers: str) -> str:
    return _on_a(f"ingress: [{{from: [{', '.join(peers)}]}}]")


def _to(*peers: str) -> str:
    return _on_a(f"policyTypes: [Egress], egress: [{{to: [{', '.join(peers)}]}}]")


def _ports_in(*ports: str) -> str:
    return _on_a(f"ingress: [{{ports: [{', '.join(ports)}]}}]")


def _ports_out(*ports: str) -> str:
    return _on_a(f"policyTypes: [Egress], egress: [{{ports: [{', '.join(ports)}]}}]")


ISOLATION = (
    Case("no-policy", {}, "x/a>y/b:80 x/a>y/b:81/UDP x/a>y/b:80/SCTP outside>x/a:80 x/a>outside:80 node1>x/a:80"),
    Case(
        "deny-ingress",
        {"x/p": DENY_IN},
        "x/a>y/a:80 x/a>x/a:80 x/a>outside:80 node1>x/a:80 x/a>node1:10250",
        "y/a>x/a:80 x/b>x/a:80 outside>x/c:80 node2>x/a:80",
    ),
    Case(
        "deny-egress",
        {"x/p": DENY_OUT},
        "y/a>x/a:80 outside>x/a:80 node1>x/a:80 node2>x/a:80",
        "x/a>y/a:80 x/a>x/b:80/UDP x/a>outside:80 x/a>node2:10250",
    ),
    Case("deny-both", {"x/p": DENY_BOTH}, "y/a>z/a:80 x/b>x/b:80/UDP", "x/a>y/a:80 y/a>x/a:80/SCTP x/a>x/b:80"),
    Case(
        "deny-both-everywhere",
        {"x/p": DENY_BOTH, "y/p": DENY_BOTH, "z/p": DENY_BOTH},
        "z/c>z/c:81",
        "x/a>y/a:80 x/a>x/b:80 outside>z/c:81/UDP y/b>outside:80/SCTP",
    ),
    Case("allow-all-ingress", {"x/p": "{podSelector: {}, ingress: [{}]}"}, "y/a>x/a:80 outside>x/a:80 x/a>y/a:80"),
    Case(
        "allow-all-egress",
        {"x/p": "{podSelector: {}, policyTypes: [Egress], egress: [{}]}"},
        "x/a>y/a:80 x/a>outside:80 y/a>x/a:80",
    ),
    Case(
        "deny-and-allow-all", {"x/p": DENY_BOTH, "x/q": "{podSelector: {}, ingress: [{}], egress: [{}]}"}, "y/a>x/a:80"
    ),
    Case("types-defaulted-ingress", {"x/p": _on_a("ingress: []")}, "x/a>y/a:80 y/a>x/b:80", "y/a>x/a:80"),
    Case(
        "types-defaulted-both",
        {"x/p": _on_a("egress: [{to: [{podSelector: {matchLabels: {pod: b}}}]}]")},
        "x/a>x/b:80 y/a>x/b:80",
        "x/a>x/c:80 x/b>x/a:80 outside>x/a:80",
    ),
    Case(
        "types-egress-alone-leaves-ingress-rules-idle",
        {"x/p": _on_a("policyTypes: [Egress], ingress: [{from: [{podSelector: {}}]}]")},
        "y/a>x/a:80 outside>x/a:80",
        "x/a>y/a:80",
    ),
    Case(
        "types-ingress-alone-leaves-egress-rules-idle",
        {"x/p": _on_a("policyTypes: [Ingress], egress: [{to: [{podSelector: {}}]}]")},
        "x/a>y/a:80 x/a>outside:80",
        "y/a>x/a:80",
    ),
    Case("selects-no-pod", {"x/p": "{podSelector: {matchLabels: {pod: none}}}"}, "y/a>x/a:80 x/a>y/a:80"),
    Case(
        "selects-by-expression",
        {"x/p": "{podSelector: {matchExpressions: [{key: pod, operator: In, values: [a, b]}]}}"},
        "y/a>x/c:80",
        "y/a>x/a:80 y/a>x/b:80",
    ),
)

PEERS = (
    Case(
        "pod-selector",
        {"x/p": _from("{podSelector: {matchLabels: {pod: b}}}")},
        "x/b>x/a:80 x/b>x/a:81/UDP x/b>x/a:80/SCTP y/c>x/b:80",
        "x/c>x/a:80 y/b>x/a:80 outside>x/a:80",
    ),
    Case(
        "namespace-selector",
        {"x/p": _from("{namespaceSelector: {matchLabels: {ns: y}}}")},
        "y/a>x/a:80 y/c>x/a:80",
        "x/b>x/a:80 z/a>x/a:80",
    ),
    Case(
        "namespace-and-pod-selector-together",
        {"x/p": _from("{namespaceSelector: {matchLabels: {ns: y}}, podSelector: {matchLabels: {pod: b}}}")},
        "y/b>x/a:80",
        "y/a>x/a:80 x/b>x/a:80 z/b>x/a:80",
    ),
    Case(
        "namespace-or-pod-selector-apart",
        {"x/p": _from("{namespaceSelector: {matchLabels: {ns: y}}}", "{podSelector: {matchLabels: {pod: b}}}")},
        "y/a>x/a:80 y/b>x/a:80 x/b>x/a:80",
        "x/c>x/a:80 z/b>x/a:80",
    ),
    Case("empty-pod-selector", {"x/p": _from("{podSelector: {}}")}, "x/b>x/a:80", "y/b>x/a:80 outside>x/a:80"),
    Case("empty-namespace-selector", {"x/p": _from("{namespaceSelector: {}}")}, "z/c>x/a:80", "outside>x/a:80"),
    Case(
        "empty-namespace-selector-with-pods",
        {"x/p": _from("{namespaceSelector: {}, podSelector: {matchLabels: {pod: c}}}")},
        "x/c>x/a:80 z/c>x/a:80/UDP",
        "z/b>x/a:80 outside>x/a:80",
    ),
    Case("empty-from-is-everybody", {"x/p": _on_a("ingress: [{from: []}]")}, "z/c>x/a:80 outside>x/a:80"),
    Case(
        "expressions",
        {
            "x/p": _from(
                "{namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x]},"
                " {key: ns, operator: Exists}]},"
                " podSelector: {matchExpressions: [{key: none, operator: DoesNotExist},"
                " {key: pod, operator: In, values: [b, c]}]}}"
            )
        },
        "y/b>x/a:80 z/c>x/a:80",
        "x/b>x/a:80 y/a>x/a:80",
    ),
    Case(
        "namespace-by-its-name",
        {"x/p": _from("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: np-z}}}")},
        "z/a>x/a:80",
        "y/a>x/a:80",
    ),
    Case(
        "peer-selects-no-pod", {"x/p": _from("{podSelector: {matchLabels: {pod: none}}}")}, "", "x/b>x/a:80 y/a>x/a:80"
    ),
    Case(
        "egress-pod-selector",
        {"x/p": _to("{podSelector: {matchLabels: {pod: b}}}")},
        "x/a>x/b:80 y/a>x/a:80 x/b>y/b:80",
        "x/a>x/c:80 x/a>y/b:80 x/a>outside:80",
    ),
    Case(
        "egress-namespace-selector",
        {"x/p": _to("{namespaceSelector: {matchLabels: {ns: y}}}")},
        "x/a>y/a:80 x/a>y/b:80/SCTP",
        "x/a>z/a:80 x/a>x/b:80",
    ),
    Case(
        "egress-namespace-and-pod-selector",
        {"x/p": _to("{namespaceSelector: {matchLabels: {ns: y}}, podSelector: {matchLabels: {pod: b}}}")},
        "x/a>y/b:80",
        "x/a>y/a:80 x/a>x/b:80",
    ),
    Case(
        "both-ends-must-allow",
        {"x/p": _to("{namespaceSelector: {}}"), "y/p": DENY_IN},
        "x/a>z/a:80",
        "x/a>y/a:80 x/a>outside:80 z/a>y/a:80",
    ),
    Case(
        "replies-need-no-rule",
        {
            "x/p": DENY_BOTH,
            "x/q": _to("{namespaceSelector: {matchLabels: {ns: y}}}"),
            "y/p": DENY_BOTH,
            "y/q": "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}}]}]}",
        },
        "x/a>y/b:80 x/a>y/b:80/UDP x/a>y/b:81/SCTP",
        "y/b>x/a:80 y/b>x/a:80/UDP y/b>x/a:81/SCTP x/b>y/b:80",
    ),
)

BLOCKS = (
    Case("block-outside", {"x/p": _from("{ipBlock: {cidr: 203.0.113.0/24}}")}, "outside>x/a:80/UDP", "y/a>x/a:80"),
    Case(
        "block-with-except",
        {"x/p": _from("{ipBlock: {cidr: 0.0.0.0/0, except: [203.0.113.8/29, <y/b>/32]}}")},
        "y/a>x/a:80 x/b>x/a:80",
        "outside>x/a:80 y/b>x/a:80/UDP",
    ),
    Case("block-of-one-pod", {"x/p": _from("{ipBlock: {cidr: <z/c>/32}}")}, "z/c>x/a:81", "z/b>x/a:81 outside>x/a:80"),
    Case(
        "block-of-pods-but-one",
        {"x/p": _from("{ipBlock: {cidr: 10.244.0.0/16, except: [<x/b>/32]}}")},
        "x/c>x/a:80 z/a>x/a:80/SCTP",
        "x/b>x/a:80 outside>x/a:80",
    ),
    Case(
        "except-is-of-its-own-block-only",
        {"x/p": _from("{ipBlock: {cidr: 10.244.0.0/16, except: [<y/b>/32]}}", "{ipBlock: {cidr: <y/b>/32}}")},
        "y/b>x/a:80 y/a>x/a:80",
        "outside>x/a:80",
    ),
    Case(
        "except-and-selector-add-up",
        {
            "x/p": _from("{ipBlock: {cidr: 10.244.0.0/16, except: [<y/b>/32, <y/c>/32]}}", "{podSelector: {}}"),
            "x/q": _from("{namespaceSelector: {matchLabels: {ns: y}}, podSelector: {matchLabels: {pod: b}}}"),
        },
        "y/b>x/a:80 x/b>x/a:80",
        "y/c>x/a:80",
    ),
    Case(
        "block-of-one-address-outside", {"x/p": _to("{ipBlock: {cidr: <outside>/32}}")}, "x/a>outside:80", "x/a>x/b:80"
    ),
    Case(
        "egress-block-with-except",
        {"x/p": _to("{ipBlock: {cidr: 0.0.0.0/0, except: [203.0.113.0/24, <y/a>/32]}}")},
        "x/a>y/b:80 x/a>node1:10250 x/a>node2:10250",
        "x/a>outside:80 x/a>y/a:80",
    ),
    Case(
        "egress-block-but-nodes",
        {"x/p": _to("{ipBlock: {cidr: 0.0.0.0/0, except: [198.51.100.0/24]}}")},
        "x/a>outside:80 x/a>y/b:80",
        "x/a>node1:10250 x/a>node2:10250",
    ),
    Case(
        "block-of-nodes",
        {"x/p": _from("{ipBlock: {cidr: 198.51.100.0/24}}")},
        "node1>x/a:80 node2>x/a:80",
        "y/a>x/a:80",
    ),
)

PORTS = (
    Case("number", {"x/p": _ports_in("{port: 80}")}, "y/a>x/a:80 outside>x/a:80", "y/a>x/a:81 y/a>x/a:80/UDP"),
    Case("number-udp", {"x/p": _ports_in("{port: 81, protocol: UDP}")}, "y/a>x/a:81/UDP", "y/a>x/a:80/UDP y/a>x/a:81"),
    Case(
        "number-sctp",
        {"x/p": _ports_in("{port: 81, protocol: SCTP}")},
        "y/a>x/a:81/SCTP",
        "y/a>x/a:80/SCTP y/a>x/a:81 y/a>x/a:81/UDP",
    ),
    Case(
        "empty-port-is-all-of-tcp", {"x/p": _ports_in("{}")}, "y/a>x/a:80 y/a>x/a:81", "y/a>x/a:80/UDP y/a>x/a:80/SCTP"
    ),
    Case(
        "many-ports",
        {"x/p": _ports_in(*(f"{{port: {number}}}" for number in range(42, 81)), "{port: 90, endPort: 99}")},
        "y/a>x/a:80",
        "y/a>x/a:81 y/a>x/a:80/UDP",
    ),
    Case("protocol-alone", {"x/p": _ports_in("{protocol: UDP}")}, "y/a>x/a:80/UDP y/a>x/a:81/UDP", "y/a>x/a:80"),
    Case(
        "several-ports",
        {"x/p": _ports_in("{port: 80}", "{port: 81, protocol: UDP}", "{port: 80, protocol: SCTP}")},
        "y/a>x/a:80 y/a>x/a:81/UDP y/a>x/a:80/SCTP",
        "y/a>x/a:81 y/a>x/a:80/UDP y/a>x/a:81/SCTP",
    ),
    Case(
        "named-port-ingress",
        {"x/p": "{podSelector: {}, ingress: [{ports: [{port: web}]}]}"},
        "y/a>x/a:80 y/a>x/b:80 y/a>x/c:81",
        "y/a>x/a:81 y/a>x/c:80 y/a>x/a:80/UDP",
    ),
    Case(
        "named-port-udp",
        {"x/p": "{podSelector: {}, ingress: [{ports: [{port: data, protocol: UDP}]}]}"},
        "y/a>x/a:80/UDP y/a>x/b:81/UDP",
        "y/a>x/a:81/UDP y/a>x/b:80/UDP y/a>x/b:81",
    ),
    Case(
        "named-port-sctp",
        {"x/p": "{podSelector: {}, ingress: [{ports: [{port: signal, protocol: SCTP}]}]}"},
        "y/a>x/a:80/SCTP",
        "y/a>x/a:81/SCTP y/a>x/a:80",
    ),
    Case(
        "named-port-of-another-protocol",
        {"x/p": "{podSelector: {}, ingress: [{ports: [{port: web, protocol: UDP}]}]}"},
        "",
        "y/a>x/a:80 y/a>x/a:80/UDP",
    ),
    Case("named-port-of-nobody", {"x/p": _ports_in("{port: nothing}")}, "", "y/a>x/a:80 x/b>x/a:81"),
    Case(
        "named-port-egress",
        {"x/p": _ports_out("{port: web}")},
        "x/a>y/a:80 x/a>y/c:81",
        "x/a>y/a:81 x/a>y/c:80 x/a>outside:80",
    ),
    Case(
        "named-and-numbered-ports-egress",
        {"x/p": _ports_out("{port: web}", "{port: 80, protocol: SCTP}")},
        "x/a>y/c:81 x/a>outside:80/SCTP x/a>y/c:80/SCTP",
        "x/a>y/c:80 x/a>outside:80",
    ),
    Case(
        "range",
        {"x/p": _ports_in("{port: 79, endPort: 80}", "{port: 81, endPort: 90, protocol: UDP}")},
        "y/a>x/a:80 y/a>x/a:81/UDP",
        "y/a>x/a:81 y/a>x/a:80/UDP",
    ),
    Case(
        "range-of-both-sctp",
        {"x/p": _ports_in("{port: 80, endPort: 81, protocol: SCTP}")},
        "y/a>x/a:80/SCTP y/a>x/a:81/SCTP",
        "y/a>x/a:80",
    ),
    Case("range-of-one", {"x/p": _ports_in("{port: 81, endPort: 81}")}, "y/a>x/a:81", "y/a>x/a:80"),
    Case(
        "range-egress",
        {"x/p": _ports_out("{port: 81, endPort: 65535}", "{port: 1, endPort: 80, protocol: UDP}")},
        "x/a>y/a:81 x/a>outside:80/UDP x/a>node1:10250",
        "x/a>y/a:80 x/a>outside:81/UDP",
    ),
    Case(
        "ports-and-peers-of-one-rule",
        {"x/p": _on_a("ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 80}]}]")},
        "x/b>x/a:80",
        "x/b>x/a:81 x/c>x/a:80",
    ),
    Case(
        "two-rules-do-not-mix",
        {
            "x/p": _on_a(
                "ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 80}]},"
                " {from: [{namespaceSelector: {matchLabels: {ns: y}}}], ports: [{port: 81}]}]"
            )
        },
        "x/b>x/a:80 y/a>x/a:81",
        "x/b>x/a:81 y/a>x/a:80",
    ),
)

SEVERAL = (
    Case(
        "several-policies-add-up",
        {
            "x/p": DENY_IN,
            "x/q": _from("{podSelector: {matchLabels: {pod: b}}}"),
            "x/r": _on_a("ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}], ports: [{port: 81}]}]"),
            "x/s": _from("{ipBlock: {cidr: <outside>/32}}"),
        },
        "x/b>x/a:80 y/c>x/a:81 outside>x/a:80/UDP",
        "x/c>x/a:80 y/c>x/a:80 y/c>x/b:81 outside>x/b:80",
    ),
    Case(
        "directions-from-different-policies",
        {"x/p": DENY_OUT, "x/q": _from("{podSelector: {matchLabels: {pod: b}}}"), "x/r": _to("{podSelector: {}}")},
        "x/a>x/c:80 y/a>x/b:80",
        "x/b>x/a:80 x/c>x/a:80 x/a>y/a:80 y/a>x/a:80",
    ),
    Case(
        "namespaces-of-their-own",
        {
            ns + "/p": "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}], egress: [{to: [{podSelector: {}}]}]}"
            for ns in ("x", "y", "z")
        },
        "x/a>x/b:80 y/a>y/c:81/UDP z/b>z/c:80/SCTP",
        "x/a>y/a:80 z/b>y/b:80 outside>x/a:80 x/a>outside:80",
    ),
    Case(
        "long-names",
        {
            "x/" + "long.name-" * 25 + "abc": DENY_IN,
            "x/" + "long.name-" * 25 + "abd": _from("{podSelector: {matchLabels: {pod: b}}}"),
        },
        "x/b>x/a:80",
        "x/c>x/a:80 x/a>x/b:80",
    ),
    Case(
        "one-name-in-three-namespaces",
        {
            "x/p": DENY_IN,
            "y/p": _from("{namespaceSelector: {matchLabels: {ns: x}}}"),
            "z/p": _to("{namespaceSelector: {matchLabels: {ns: x}}}"),
        },
        "x/a>y/a:80 y/a>z/a:80",
        "z/a>y/a:80 z/a>x/a:80 y/a>x/a:80",
    ),
)

CASES = (*ISOLATION, *PEERS, *BLOCKS, *PORTS, *SEVERAL)
SHORT = tuple(
    case
    for case in CASES
    if case.name
    in (
        "deny-both-everywhere",
        "namespace-and-pod-selector-together",
        "replies-need-no-rule",
        "block-with-except",
        "egress-block-with-except",
        "named-port-ingress",
        "named-and-numbered-ports-egress",
        "range",
        "several-policies-add-up",
    )
)
"""One case of each kind, for where time is short."""
