"""Owns the table of what Calico's policies are as a whole: which pods they apply to, in which direction, in which
order, in which tier.

It must not be clever: `allows` and `denies` are written by hand from Calico's documentation, as in `lab_policy_cases`.
"""

from __future__ import annotations

from lab_policy_cases import DENY_BOTH, DENY_IN, Case

_B = "source: {selector: pod == 'b'}"


def _at(subject: str, rest: str) -> str:
    """A spec for the pod ``x/a``."""
    ns, _, name = subject.partition("/")
    return f"{{selector: \"projectcalico.org/namespace == 'np-{ns}' && pod == '{name}'\", {rest}}}"


APPLIES = (
    Case(
        "whom-policies-apply-to",
        {
            "gnp by-selector": "{selector: ns == 'x' || pod == 'a', namespaceSelector: ns == 'x', ingress: []}",
            "gnp by-namespace": "{namespaceSelector: ns == 'y', serviceAccountSelector: account == 'b'}",
            "np z/by-account": "{serviceAccountSelector: account == 'c'}",
        },
        "y/a>x/b:80 x/c>z/a:80 x/c>y/a:80 x/c>y/c:80 z/a>z/b:80 x/a>y/a:80",
        "y/a>x/a:80 x/c>y/b:80 x/c>z/c:80",
    ),
    Case(
        "namespaced-and-selecting-all",
        {"np x/all": "{selector: all(), ingress: [{action: Allow, source: {selector: all()}}]}", "np y/empty": "{}"},
        "x/b>x/a:80 y/a>z/a:80 x/a>z/a:80",
        "y/a>x/a:80 x/a>y/a:80 y/b>y/a:80 outside>x/a:80",
    ),
    Case(
        "global-and-selecting-all",
        {"gnp all": f"{{ingress: [{{action: Allow, {_B}}}]}}"},
        "x/b>x/a:80 x/b>z/a:80 x/a>outside:80 node1>x/a:80",
        "x/a>x/b:80 outside>x/a:80 node2>x/a:80",
    ),
    Case(
        "types-defaulted",
        {
            "gnp nothing": _at("x/a", "order: 1"),
            "gnp in": _at("y/a", "ingress: [{action: Allow}]"),
            "gnp out": _at("z/a", "egress: [{action: Allow, protocol: TCP}]"),
            "gnp both": _at("z/b", f"ingress: [{{action: Allow, {_B}}}], egress: [{{action: Allow, protocol: UDP}}]"),
        },
        "x/a>y/a:80 x/c>z/a:80 z/a>y/c:80 x/b>z/b:80 z/b>x/b:80/UDP",
        "x/b>x/a:80 z/a>y/c:80/UDP x/c>z/b:80 z/b>x/b:80",
    ),
    Case(
        "types-said",
        {
            "gnp in": _at("x/a", "types: [Ingress], egress: [{action: Deny}]"),
            "gnp out": _at("y/a", "types: [Egress], ingress: [{action: Deny}]"),
            "gnp both": _at("z/a", "types: [Egress, Ingress], egress: [{action: Allow}]"),
        },
        "x/a>y/b:80 x/b>y/a:80 z/a>y/b:80",
        "x/b>x/a:80 y/a>x/b:80 x/b>z/a:80",
    ),
)

SETS = (
    Case(
        "network-sets-of-the-world-outside",
        {
            "gset hosts": "{labels: {who: them}, nets: [203.0.113.0/28, '2001:db8:cb::/64', 198.51.100.12]}",
            "set y/hosts": "{labels: {who: them}, nets: [203.0.113.10, '2001:db8:cb::10/128']}",
            "gnp in": _at("x/a", "ingress: [{action: Allow, source: {selector: who == 'them'}}]"),
            "gnp not": _at("x/b", "ingress: [{action: Allow, source: {notSelector: who == 'them'}}]"),
            "np y/out": "{egress: [{action: Allow, destination: {selector: who == 'them'}, protocol: TCP}]}",
            "np z/in": "{ingress: [{action: Allow, source: {selector: who == 'them'}}]}",
        },
        "outside>x/a:80 outside>x/a:81/UDP x/c>x/b:80 y/a>outside:80",
        "x/c>x/a:80 outside>x/b:80 y/a>outside:80/UDP y/a>z/a:80 outside>z/a:80",
    ),
)

ORDERS = (
    Case(
        "policies-by-order",
        {
            "gnp z-first": _at("x/a", "order: 1.5, ingress: [{action: Deny, protocol: TCP}]"),
            "gnp a-second": _at("x/a", "order: 10, ingress: [{action: Allow}]"),
            "gnp a-last": _at("y/a", "ingress: [{action: Allow}]"),
            "gnp b-first": _at("y/a", "order: 100000, ingress: [{action: Deny, protocol: TCP}]"),
            "gnp b-after-a": _at("z/a", "order: 5, ingress: [{action: Deny, protocol: UDP}]"),
            "gnp a-before-b": _at("z/a", "order: 5, ingress: [{action: Allow, protocol: TCP}]"),
            "gnp c-after-b": _at("z/a", "order: 5, ingress: [{action: Allow}]"),
            "gnp negative": _at("z/b", "order: -1, ingress: [{action: Deny, protocol: TCP}]"),
            "gnp nought": _at("z/b", "order: 0, ingress: [{action: Allow}]"),
        },
        "x/b>x/a:80/UDP x/b>y/a:80/UDP x/b>z/a:80 x/b>z/a:80/SCTP x/b>z/b:80/UDP",
        "x/b>x/a:80 x/b>y/a:80 x/b>z/a:80/UDP x/b>z/b:80",
    ),
    Case(
        "among-kubernetes-policies",
        {
            "x/k": DENY_BOTH,
            "np x/before": "{selector: pod == 'a', order: 999, ingress: [{action: Allow, protocol: TCP}]}",
            "y/k": "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}",
            "np y/after": "{order: 1001, ingress: [{action: Allow, protocol: UDP}]}",
            "z/k": "{podSelector: {}, ingress: [{}]}",
            "gnp before": "{namespaceSelector: ns == 'z', order: 1, ingress: [{action: Deny, protocol: SCTP}]}",
        },
        "y/b>x/a:80 z/b>y/a:80 z/b>y/a:80/UDP y/b>z/a:80 y/b>z/a:81/UDP",
        "y/b>x/a:80/UDP y/b>x/b:80 x/a>y/b:80 z/b>y/a:81 y/b>z/a:80/SCTP",
    ),
)

TIERS = (
    Case(
        "a-tier-before-kubernetes",
        {
            "tier first": "{order: 10}",
            "x/k": DENY_IN,
            "y/k": DENY_IN,
            "z/k": DENY_IN,
            "gnp allow": _at("x/a", "tier: first, ingress: [{action: Allow, protocol: TCP}]"),
            "gnp pass": _at("y/a", "tier: first, ingress: [{action: Pass, protocol: TCP}, {action: Allow}]"),
            "gnp log": _at("z/a", "tier: first, ingress: [{action: Log}]"),
            "gnp deny": _at("z/b", "tier: first, ingress: [{action: Deny, protocol: UDP}, {action: Pass}]"),
        },
        "x/b>x/a:80 x/b>y/a:80/UDP",
        "x/b>x/a:80/UDP x/b>y/a:80 x/b>z/a:80 x/b>z/b:80 x/b>z/b:80/UDP x/b>x/c:80",
    ),
    Case(
        "default-actions",
        {
            "tier passing": "{order: 10, defaultAction: Pass}",
            "tier denying": "{order: 20, defaultAction: Deny}",
            "gnp p-out": _at("x/a", "tier: passing, ingress: [{action: Deny, protocol: TCP}]"),
            "gnp d-in": _at("y/a", "tier: denying, ingress: [{action: Allow, protocol: TCP}]"),
            "gnp p-z": _at("z/a", "tier: passing, ingress: [{action: Log}]"),
            "gnp d-z": _at("z/a", "tier: denying, ingress: [{action: Pass, protocol: TCP}]"),
            "gnp last": _at("z/a", "ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]"),
        },
        "x/b>x/a:80/UDP x/b>y/a:80 x/b>z/a:80 x/b>y/b:80",
        "x/b>x/a:80 x/b>y/a:80/UDP x/b>z/a:81 x/b>z/a:80/UDP",
    ),
    Case(
        "tiers-by-order",
        {
            "tier b-first": "{order: 1}",
            "tier a-second": "{order: 2}",
            "tier a-unordered": "{}",
            "tier after-default": "{order: 2000000}",
            "gnp f": _at("x/a", "tier: b-first, ingress: [{action: Allow, protocol: TCP}, {action: Pass}]"),
            "gnp s": _at(
                "x/a", "tier: a-second, ingress: [{action: Deny, protocol: TCP}, {action: Allow, protocol: UDP}]"
            ),
            "gnp u": _at("y/a", "tier: a-unordered, ingress: [{action: Deny, protocol: TCP}, {action: Pass}]"),
            "gnp d": _at("y/a", "ingress: [{action: Pass}]"),
            "gnp z": _at("z/a", "ingress: [{action: Pass, protocol: TCP}, {action: Allow}]"),
            "gnp after": _at(
                "z/a", "tier: after-default, ingress: [{action: Allow, destination: {ports: [80]}, protocol: TCP}]"
            ),
        },
        "x/b>x/a:80 x/b>x/a:80/UDP x/b>y/a:80/UDP x/b>z/a:80 x/b>z/a:81/UDP",
        "x/b>x/a:80/SCTP x/b>y/a:80 x/b>z/a:81",
    ),
    Case(
        "built-in-tiers",
        {
            "gnp admin": _at("x/a", "tier: adminnetworkpolicy, ingress: [{action: Allow, protocol: TCP}]"),
            "x/k": DENY_IN,
            "gnp baseline": _at("y/a", "tier: baselineadminnetworkpolicy, ingress: [{action: Deny, protocol: TCP}]"),
            "gnp passed": _at("z/a", "ingress: [{action: Pass}]"),
            "gnp judged": _at("z/a", "tier: baselineadminnetworkpolicy, ingress: [{action: Deny, protocol: UDP}]"),
        },
        "x/b>x/a:80 x/b>y/a:80/UDP x/b>z/a:80",
        "x/b>x/a:80/UDP x/b>y/a:80 x/b>z/a:80/UDP",
    ),
    Case(
        "egress-and-ingress-in-tiers",
        {
            "tier first": "{order: 10}",
            "gnp out": _at(
                "x/a", "tier: first, types: [Egress], egress: [{action: Pass, protocol: TCP}, {action: Deny}]"
            ),
            "np x/out": "{selector: pod == 'a', egress: [{action: Allow, destination: {nets: [<y/a>/32]}}]}",
            "gnp in": _at("y/a", "tier: first, types: [Ingress], ingress: [{action: Pass}]"),
            "np y/in": "{selector: pod == 'a', ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]}",
        },
        "x/a>y/a:80 x/b>y/a:80 y/b>x/a:80",
        "x/a>y/a:81 x/a>y/b:80 x/a>y/a:80/UDP x/b>y/a:81 x/a>outside:80",
    ),
)

ORDER_CASES = (*APPLIES, *SETS, *ORDERS, *TIERS)
