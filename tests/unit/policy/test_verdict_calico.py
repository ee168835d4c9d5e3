"""The reference semantics of Calico's kinds, field by field: its resource reference as tables."""

from __future__ import annotations

from typing import Any

import pytest

from manx_core.policy.cluster import Cluster, Direction
from policy_cases import ingress, namespace, policy, port
from policy_objects import (
    Asked,
    endpoint_slice,
    gnp,
    network_set,
    np,
    pod,
    service_account,
    tier,
    with_policies,
)

FRONT, DB, TOOL, LOST = ("web", "front"), ("web", "db"), ("ops", "tool"), ("gone", "lost")
PODS = [
    pod("web", "front", {"app": "front"}, account="site", ports=(port(8080, "http"),)),
    pod("web", "db", {"app": "db", "size": "big"}, account="store", ports=(port(5432, "sql"), port(53, "sql", "UDP"))),
    pod("ops", "tool", {"app": "front", "env": "prod-eu"}, account="site", ports=(port(9090, "http"),)),
    pod("gone", "lost", {"app": "front"}),
]
CLUSTER = Cluster(
    namespaces={"web": namespace("web", {"team": "a"}), "ops": namespace("ops", {"team": "b", "env": "prod"})},
    pods={(p.metadata.namespace, p.metadata.name): p for p in PODS},
    addresses={
        FRONT: ("10.0.0.1", "fd00::1"),
        DB: ("10.0.0.2", "fd00::2"),
        TOOL: ("10.0.1.1", "fd00::1:1"),
        LOST: ("10.0.9.1",),
    },
    node_addresses={"n1": ("198.51.100.1", "2001:db8::1")},
    service_accounts={
        ("web", "site"): service_account("web", "site", role="public"),
        ("web", "store"): service_account("web", "store", role="private"),
        ("ops", "site"): service_account("ops", "site", role="admin"),
    },
    endpoint_slices={
        ("web", "store-1"): endpoint_slice("web", "store", ("10.0.0.2",), (5432, "TCP"), (None, "UDP")),
        ("web", "store-6"): endpoint_slice("web", "store", ("fd00::2",), (5432, "TCP"), name="store-6"),
        ("web", "site-1"): endpoint_slice("web", "site", ("10.0.0.1", "192.0.2.77"), (8080, "TCP")),
        ("ops", "site-1"): endpoint_slice("ops", "site", ("10.0.1.1",), (9090, "TCP")),
    },
    network_sets={
        ("web", "partners"): network_set("web", "partners", "192.0.2.0/28", "2001:db8:2::/64", kind="partner"),
        ("ops", "partners"): network_set("ops", "partners", "192.0.2.16/28", kind="partner"),
        ("", "internet"): network_set("", "internet", "203.0.113.0/24", "10.0.9.0/24", kind="partner"),
    },
)
PARTNER, OTHER_PARTNER, INTERNET, STRANGER = "192.0.2.7", "192.0.2.17", "203.0.113.5", "192.0.2.99"

A, B, C, D = f"10.0.0.1 TCP 5432;10.0.1.1 TCP 5432;{PARTNER} TCP 5432;{STRANGER} TCP 5432".split(";")
E, F, LOST_A = f"{OTHER_PARTNER} TCP 5432;{INTERNET} TCP 5432;10.0.9.1 TCP 5432".split(";")
EVERYBODY = {A, B, C, D, E, F, LOST_A}
"""The db's peers: front, tool, web's partner, a stranger, ops' partner, the internet, and a pod of no known namespace
whose address is one of the internet's."""


def check(cluster: Cluster, subject: tuple[str, str], direction: Direction, allowed: set[str], asked: set[str]) -> None:
    found = {text for text in asked | allowed if Asked.read(text).verdict(cluster, subject, direction).allowed}
    assert found == allowed


@pytest.mark.parametrize(
    ("source", "in_network_policy", "in_global"),
    [
        ({}, EVERYBODY, EVERYBODY),
        # "Match packets with IP in any of the listed CIDRs."
        ({"nets": ["10.0.0.0/24", "192.0.2.96/28"]}, {A, D}, {A, D}),
        ({"nets": ["0.0.0.0/0"]}, EVERYBODY, EVERYBODY),
        ({"nets": ["::/0"]}, set(), set()),
        # "Match packets with IP not in any of the listed CIDRs."
        ({"notNets": ["10.0.0.0/8", "192.0.2.0/24"]}, {F}, {F}),
        ({"notNets": ["0.0.0.0/0"]}, set(), set()),
        ({"notNets": ["2001:db8::/32"]}, set(), set()),
        ({"nets": ["192.0.2.0/24"], "notNets": ["192.0.2.0/28"]}, {D, E}, {D, E}),
        # Selectors: of the policy's namespace in a NetworkPolicy, of everything in a GlobalNetworkPolicy.
        ({"selector": "app == 'front'"}, {A}, {A, B, LOST_A}),
        ({"selector": "kind == 'partner'"}, {C}, {C, E, F, LOST_A}),
        ({"selector": "all()"}, {A, C}, {A, B, C, E, F, LOST_A}),
        ({"selector": "!has(size)"}, {A, C}, {A, B, C, E, F, LOST_A}),
        ({"selector": "projectcalico.org/namespace == 'ops'"}, set(), {B, E}),
        ({"selector": "projectcalico.org/orchestrator == 'k8s'"}, {A}, {A, B, LOST_A}),
        ({"selector": "projectcalico.org/serviceaccount == 'site'"}, {A}, {A, B}),
        ({"selector": "env starts with 'prod'"}, set(), {B}),
        ({"selector": "env ends with '-eu' || kind contains 'art'"}, {C}, {B, C, E, F, LOST_A}),
        ({"selector": "app in {'front', 'x'} && !(env == 'prod-eu')"}, {A}, {A, LOST_A}),
        # "notSelector: has(foo) matches packets from/to anywhere …, except traffic from/to endpoints and network sets
        # that have the label"; in a NetworkPolicy all of it is about the namespace.
        ({"notSelector": "app == 'front'"}, {C}, {C, D, E, F}),
        ({"notSelector": "kind == 'partner'"}, {A}, {A, B, D}),
        ({"selector": "all()", "notSelector": "kind == 'partner'"}, {A}, {A, B, LOST_A}),
        ({"namespaceSelector": "all()", "notSelector": "app == 'front'"}, {C, E}, {C, E}),
        # Namespaces.
        ({"namespaceSelector": "team == 'b'"}, {B, E}, {B, E}),
        ({"namespaceSelector": "projectcalico.org/name == 'ops'"}, {B, E}, {B, E}),
        ({"namespaceSelector": "all()"}, {A, B, C, E, LOST_A}, {A, B, C, E, LOST_A}),
        ({"namespaceSelector": "global()"}, {F, LOST_A}, {F, LOST_A}),
        ({"namespaceSelector": "global()", "selector": "kind == 'partner'"}, {F, LOST_A}, {F, LOST_A}),
        ({"namespaceSelector": "has(team)", "selector": "app == 'front'"}, {A, B}, {A, B}),
        # What a namespaceSelector reads are the namespace's labels, whatever their keys.
        ({"namespaceSelector": "has(projectcalico.org/namespace)"}, set(), set()),
        ({"namespaceSelector": "!has(projectcalico.org/namespace)"}, {A, B, C, E, F, LOST_A}, {A, B, C, E, F, LOST_A}),
        ({"namespaceSelector": "!(all())"}, {F, LOST_A}, {F, LOST_A}),
        ({"namespaceSelector": "all() && has(env)"}, {B, E}, {B, E}),
        # The namespace of the lost pod is not known: nothing about its labels holds. Global things have none.
        ({"namespaceSelector": "!has(env)", "selector": "app == 'front'"}, {A}, {A}),
        ({"namespaceSelector": "team != 'a'", "selector": "kind == 'partner'"}, {E, F, LOST_A}, {E, F, LOST_A}),
        # "Match endpoints running under service accounts."
        ({"serviceAccounts": {"names": ["site", "other"]}}, {A}, {A, B}),
        ({"serviceAccounts": {"selector": "role == 'admin'"}}, set(), {B}),
        ({"serviceAccounts": {"names": ["site"], "selector": "role != 'admin'"}}, {A}, {A}),
        ({"serviceAccounts": {"selector": "projectcalico.org/name == 'site'"}}, {A}, {A, B}),
        ({"serviceAccounts": {"names": ["site"]}, "namespaceSelector": "team == 'b'"}, {B}, {B}),
        ({"serviceAccounts": {"names": ["site"]}, "selector": "has(env)"}, set(), {B}),
        # "Match the specified service(s)": an ingress rule's source has their addresses.
        ({"services": {"name": "site", "namespace": "web"}}, {A}, {A}),
        ({"services": {"name": "site", "namespace": "ops"}}, {B}, {B}),
        ({"services": {"name": "nobody", "namespace": "web"}}, set(), set()),
        # All that is present must match.
        ({"selector": "all()", "nets": ["10.0.1.0/24"]}, set(), {B}),
        ({"selector": "app == 'front'", "notNets": ["10.0.0.0/24"]}, set(), {B, LOST_A}),
    ],
)
def test_who_is_at_the_source(source: dict[str, Any], in_network_policy: set[str], in_global: set[str]) -> None:
    rule = {"action": "Allow", "source": source}
    local = with_policies(CLUSTER, np("web", "p", selector="app == 'db'", ingress=[rule]))
    check(local, DB, "Ingress", in_network_policy, EVERYBODY)
    everywhere = with_policies(CLUSTER, gnp("p", selector="app == 'db'", ingress=[rule]))
    check(everywhere, DB, "Ingress", in_global, EVERYBODY)


TCP, UDP, SCTP = "10.0.0.1 TCP 5432", "10.0.0.1 UDP 53", "10.0.0.1 SCTP 5432"
PING, UNREACHABLE, PING6 = "10.0.0.1 ICMP 8/0", "10.0.0.1 ICMP 3/4", "fd00::1 ICMPv6 128/0"
TCP6, OSPF, LITE = "fd00::1 TCP 5432", "10.0.0.1 89", "10.0.0.1 UDPLite 53"
ALL = {TCP, UDP, SCTP, PING, UNREACHABLE, PING6, TCP6, OSPF, LITE}


@pytest.mark.parametrize(
    ("match", "allowed"),
    [
        ({}, ALL),
        ({"ipVersion": 4}, ALL - {PING6, TCP6}),
        ({"ipVersion": 6}, {PING6, TCP6}),
        ({"protocol": "TCP"}, {TCP, TCP6}),
        ({"protocol": 6}, {TCP, TCP6}),
        ({"protocol": "UDPLite"}, {LITE}),
        ({"protocol": "SCTP"}, {SCTP}),
        ({"protocol": 89}, {OSPF}),
        ({"protocol": "ICMP"}, {PING, UNREACHABLE}),
        ({"protocol": "ICMPv6"}, {PING6}),
        ({"notProtocol": "TCP"}, ALL - {TCP, TCP6}),
        ({"notProtocol": 1}, ALL - {PING, UNREACHABLE}),
        ({"protocol": "ICMP", "icmp": {"type": 8}}, {PING}),
        ({"protocol": "ICMP", "icmp": {"type": 3, "code": 4}}, {UNREACHABLE}),
        ({"protocol": "ICMP", "icmp": {"type": 3, "code": 1}}, set()),
        ({"protocol": "ICMP", "icmp": {}}, {PING, UNREACHABLE}),
        ({"protocol": "ICMPv6", "icmp": {"type": 128}}, {PING6}),
        ({"protocol": "ICMP", "notICMP": {"type": 8}}, {UNREACHABLE}),
        ({"protocol": "ICMP", "notICMP": {"type": 3, "code": 1}}, {PING, UNREACHABLE}),
        ({"notICMP": {"type": 8, "code": 0}}, ALL - {PING}),
        # Ports: numbers, ranges, names; of either end.
        ({"protocol": "TCP", "destination": {"ports": [5432]}}, {TCP, TCP6}),
        ({"protocol": "TCP", "destination": {"ports": ["5000:6000"]}}, {TCP, TCP6}),
        ({"protocol": "TCP", "destination": {"ports": ["5433:6000", 80]}}, set()),
        ({"protocol": "TCP", "destination": {"ports": ["sql"]}}, {TCP, TCP6}),
        ({"protocol": "UDP", "destination": {"ports": ["sql"]}}, {UDP}),
        ({"protocol": "SCTP", "destination": {"ports": ["sql"]}}, set()),
        ({"protocol": "TCP", "destination": {"notPorts": ["sql"]}}, set()),
        ({"protocol": "TCP", "destination": {"notPorts": ["http", 80]}}, {TCP, TCP6}),
        ({"protocol": "TCP", "source": {"ports": ["30000:50000"]}}, {TCP, TCP6}),
        ({"protocol": "TCP", "source": {"notPorts": [40000]}}, set()),
        ({"protocol": "TCP", "destination": {"ports": ["sql"], "selector": "app == 'front'"}}, set()),
        ({"protocol": "TCP", "destination": {"ports": ["sql"], "selector": "app == 'db'"}}, {TCP, TCP6}),
        # Both ends of a rule may ask for anything.
        ({"destination": {"selector": "size == 'big'"}}, ALL),
        ({"destination": {"selector": "size == 'small'"}}, set()),
        ({"destination": {"nets": ["10.0.0.2/32"]}}, ALL - {PING6, TCP6}),
        ({"destination": {"notNets": ["fd00::/64"]}}, set()),
        # Nothing that concerns packets.
        ({"metadata": {"annotations": {"why": "because"}}}, ALL),
    ],
)
def test_what_the_packet_is_like(match: dict[str, Any], allowed: set[str]) -> None:
    declared = np("web", "p", selector="app == 'db'", ingress=[{"action": "Allow", **match}])
    check(with_policies(CLUSTER, declared), DB, "Ingress", allowed, ALL)


@pytest.mark.parametrize(
    ("destination", "allowed"),
    [
        ({"services": {"name": "store", "namespace": "web"}}, {"10.0.0.2 TCP 5432", "fd00::2 TCP 5432"}),
        ({"services": {"name": "store"}}, {"10.0.0.2 TCP 5432", "fd00::2 TCP 5432"}),
        ({"services": {"name": "site", "namespace": "ops"}}, {"10.0.1.1 TCP 9090"}),
        ({"selector": "has(app)", "namespaceSelector": "all()", "ports": ["http"]}, {"10.0.1.1 TCP 9090"}),
        ({"ports": ["http"]}, {"10.0.1.1 TCP 9090"}),
        ({"notSelector": "app == 'db'", "ports": ["http"]}, set()),
        ({"nets": ["10.0.0.0/16"], "notPorts": ["http", "sql"]}, {"10.0.1.1 TCP 80"}),
    ],
)
def test_where_the_destination_is(destination: dict[str, Any], allowed: set[str]) -> None:
    asked = {"10.0.0.2 TCP 5432", "fd00::2 TCP 5432", "10.0.0.2 UDP 53", "10.0.1.1 TCP 9090", "10.0.1.1 TCP 80"}
    rule = {"action": "Allow", "destination": destination, **({} if "services" in destination else {"protocol": "TCP"})}
    check(with_policies(CLUSTER, np("web", "p", egress=[rule])), FRONT, "Egress", allowed, asked)


ALLOW, DENY, LOG, PASS = ({"action": action} for action in ("Allow", "Deny", "Log", "Pass"))


@pytest.mark.parametrize(
    ("spec", "ingress_isolated", "egress_isolated"),
    [
        # "If types has no value, Calico defaults as follows."
        ({}, True, False),
        ({"ingress": [PASS]}, True, False),
        ({"egress": [DENY]}, False, True),
        ({"ingress": [DENY], "egress": [DENY]}, True, True),
        ({"types": ["Ingress"], "egress": [DENY]}, True, False),
        ({"types": ["Egress"]}, False, True),
        ({"types": ["Ingress", "Egress"]}, True, True),
        # The pods that it applies to.
        ({"selector": "app == 'front'"}, False, False),
        ({"selector": "all()"}, True, False),
        ({"serviceAccountSelector": "role == 'private'"}, True, False),
        ({"serviceAccountSelector": "role == 'public'"}, False, False),
        ({"serviceAccountSelector": "projectcalico.org/name == 'store'", "selector": "has(size)"}, True, False),
        ({"performanceHints": ["AssumeNeededOnEveryNode"]}, True, False),
    ],
)
def test_whom_a_policy_isolates(spec: dict[str, Any], ingress_isolated: bool, egress_isolated: bool) -> None:
    if spec.get("ingress") == [PASS]:
        spec = {"ingress": [{"action": "Pass", "ipVersion": 6}]}
    for declared in (np("web", "p", **spec), gnp("p", **spec)):
        cluster = with_policies(CLUSTER, declared)
        assert Asked.read(TCP).verdict(cluster, DB, "Ingress").allowed != ingress_isolated
        assert Asked.read(TCP).verdict(cluster, DB, "Egress").allowed != egress_isolated
    assert Asked.read(TCP).verdict(with_policies(CLUSTER, np("ops", "p", **spec)), DB, "Ingress").allowed


@pytest.mark.parametrize(
    ("spec", "isolated"),
    [
        ({"namespaceSelector": "team == 'a'"}, True),
        ({"namespaceSelector": "team == 'b'"}, False),
        ({"namespaceSelector": "projectcalico.org/name == 'web'", "selector": "app == 'db'"}, True),
        ({"selector": "projectcalico.org/namespace == 'web'"}, True),
        ({"namespaceSelector": "all()"}, True),
        # "Meaningful only when applying policy to a host endpoint."
        ({"applyOnForward": True}, True),
        ({"doNotTrack": True, "applyOnForward": True}, False),
        ({"preDNAT": True, "applyOnForward": True, "types": ["Ingress"]}, False),
    ],
)
def test_whom_a_global_policy_isolates(spec: dict[str, Any], isolated: bool) -> None:
    assert Asked.read(TCP).verdict(with_policies(CLUSTER, gnp("p", **spec)), DB, "Ingress").allowed != isolated


FIRST, LAST = tier("first", 10), tier("last", 2_000_000)


@pytest.mark.parametrize(
    ("policies", "tiers", "allowed", "because"),
    [
        ([np("web", "p", ingress=[ALLOW])], [], True, "NetworkPolicy web/p allows it: ingress[0]"),
        ([np("web", "p", ingress=[DENY, ALLOW])], [], False, "NetworkPolicy web/p denies it: ingress[0]"),
        ([gnp("p", ingress=[LOG, ALLOW])], [], True, "GlobalNetworkPolicy p allows it: ingress[1]"),
        ([gnp("p")], [], False, "no rule decides it of GlobalNetworkPolicy p, and tier default denies"),
        ([gnp("p", ingress=[PASS, DENY])], [], True, "every tier passes it on"),
        ([gnp("p", types=["Egress"])], [], True, "no policy selects the pod for Ingress"),
        # Policies: by order, those without last; then by name.
        ([gnp("a", ingress=[DENY]), gnp("b", order=5, ingress=[ALLOW])], [], True, "GlobalNetworkPolicy b allows"),
        ([gnp("b", ingress=[DENY]), gnp("a", ingress=[ALLOW])], [], True, "GlobalNetworkPolicy a allows"),
        ([gnp("b", order=1, ingress=[DENY]), gnp("a", order=1.5, ingress=[ALLOW])], [], False, "GlobalNetworkPolicy b"),
        ([gnp("b", order=-1, ingress=[DENY]), gnp("a", order=0, ingress=[ALLOW])], [], False, "GlobalNetworkPolicy b"),
        ([np("web", "b", ingress=[DENY]), gnp("a", ingress=[ALLOW])], [], True, "GlobalNetworkPolicy a allows"),
        ([np("web", "a", ingress=[DENY]), gnp("b", ingress=[ALLOW])], [], False, "NetworkPolicy web/a denies"),
        # Kubernetes' policies: order 1000 in the default tier.
        (
            [policy("web", "k", rules=(ingress(),)), gnp("a", order=999, ingress=[DENY])],
            [],
            False,
            "GlobalNetworkPolicy a",
        ),
        (
            [policy("web", "k", rules=(ingress(),)), gnp("a", order=1001, ingress=[DENY])],
            [],
            True,
            "Kubernetes NetworkPolicy web/k allows it: ingress[0]",
        ),
        ([policy("web", "k"), gnp("a", order=1001, ingress=[ALLOW])], [], True, "GlobalNetworkPolicy a allows"),
        (
            [policy("web", "k"), gnp("a", order=1001)],
            [],
            False,
            "no rule decides it of Kubernetes NetworkPolicy web/k, GlobalNetworkPolicy a, and tier default denies",
        ),
        # Of one order and name: by namespace, then by kind.
        ([policy("web", "p", rules=(ingress(),)), np("web", "p", order=1000, ingress=[DENY])], [], True, "Kubernetes"),
        ([np("web", "p", order=1, ingress=[DENY]), gnp("p", order=1, ingress=[ALLOW])], [], True, "GlobalNetwork"),
        # Tiers: by order, those without last; then by name.
        ([gnp("p", tier="first", ingress=[DENY]), gnp("q", ingress=[ALLOW])], [FIRST], False, "GlobalNetworkPolicy p"),
        ([gnp("p", tier="last", ingress=[DENY]), gnp("q", ingress=[ALLOW])], [LAST], True, "GlobalNetworkPolicy q"),
        ([gnp("p", tier="x", ingress=[DENY]), gnp("q", ingress=[ALLOW])], [tier("x")], True, "GlobalNetworkPolicy q"),
        (
            [gnp("p", tier="x", ingress=[DENY]), gnp("q", tier="a", ingress=[ALLOW])],
            [tier("x", 3), tier("a", 3)],
            True,
            "GlobalNetworkPolicy q",
        ),
        # "If the Tier applies to the endpoint, but takes no action on the packet the packet is dropped."
        ([gnp("p", tier="first"), gnp("q", ingress=[ALLOW])], [FIRST], False, "and tier first denies"),
        ([gnp("p", tier="first", selector="has(x)"), gnp("q", ingress=[ALLOW])], [FIRST], True, "Policy q allows"),
        ([gnp("p", tier="first", types=["Egress"]), gnp("q", ingress=[ALLOW])], [FIRST], True, "Policy q allows"),
        ([gnp("p", tier="first"), gnp("q", ingress=[DENY])], [tier("first", 1, "Pass")], False, "Policy q denies"),
        ([gnp("p", tier="first")], [tier("first", 1, "Pass")], True, "every tier passes it on"),
        # "The Pass action in a Rule jumps to the next Tier."
        (
            [
                gnp("p", tier="first", ingress=[PASS]),
                gnp("p2", tier="first", ingress=[DENY]),
                gnp("q", ingress=[ALLOW]),
            ],
            [FIRST],
            True,
            "GlobalNetworkPolicy q allows it: ingress[0]",
        ),
        ([gnp("p", tier="first", ingress=[PASS]), gnp("q")], [FIRST], False, "and tier default denies"),
        ([gnp("p", tier="first", ingress=[PASS])], [FIRST], True, "every tier passes it on"),
        # Built-in tiers.
        (
            [gnp("p", tier="adminnetworkpolicy"), gnp("q", ingress=[DENY])],
            [],
            False,
            "GlobalNetworkPolicy q denies",
        ),
        ([gnp("p", tier="baselineadminnetworkpolicy"), gnp("q", ingress=[PASS])], [], True, "every tier passes it on"),
        # Manx: a tier that does not exist comes last, and denies.
        ([gnp("p", tier="nowhere", ingress=[DENY]), gnp("q", ingress=[ALLOW])], [], True, "GlobalNetworkPolicy q"),
        ([gnp("p", tier="nowhere")], [], False, "and tier nowhere denies"),
        # Manx: what is not valid, and never was, denies, at its place.
        ([gnp("p", ingress=[ALLOW, {"action": "Allow", "http": {}}])], [], False, "GlobalNetworkPolicy p is not valid"),
        (
            [gnp("p", ingress=[{"action": "Allow", "http": {}}]), gnp("a", ingress=[ALLOW])],
            [],
            True,
            "GlobalNetworkPolicy a allows",
        ),
    ],
)
def test_who_decides(policies: list[Any], tiers: list[Any], allowed: bool, because: str) -> None:
    kubernetes = {(p.metadata.namespace, p.metadata.name): p for p in policies if hasattr(p.spec, "pod_selector")}
    rest = [p for p in policies if not hasattr(p.spec, "pod_selector")]
    base = Cluster(
        namespaces=CLUSTER.namespaces,
        pods=CLUSTER.pods,
        addresses=CLUSTER.addresses,
        policies=kubernetes,
        tiers={t.metadata.name: t for t in tiers},
    )
    found = Asked.read(D).verdict(with_policies(base, *rest), DB, "Ingress")
    assert found.allowed == allowed
    assert because in found.because


def test_a_verdict_names_tier_policy_and_rule() -> None:
    declared: list[Any] = [
        gnp("p", tier="first", ingress=[LOG, PASS]),
        np("web", "q", ingress=[{**ALLOW, "ipVersion": 6}, DENY]),
    ]
    cluster = with_policies(Cluster(pods=CLUSTER.pods, addresses=CLUSTER.addresses, tiers={"first": FIRST}), *declared)
    found = Asked.read(D).verdict(cluster, DB, "Ingress")
    assert (found.allowed, found.tier) == (False, "default")
    assert found.rule is not None
    rule = found.rule
    assert (rule.tier, rule.kind, rule.namespace, rule.name, rule.rule, rule.action) == (
        "default",
        "NetworkPolicy",
        "web",
        "q",
        1,
        "Deny",
    )
    assert [(one.tier, one.name, one.rule, one.action) for one in found.passed] == [
        ("first", "p", 0, "Log"),
        ("first", "p", 1, "Pass"),
    ]


@pytest.mark.parametrize("policies", [[gnp("p")], [np("web", "p")]])
def test_itself_and_its_own_node(policies: list[Any]) -> None:
    cluster = with_policies(CLUSTER, *policies)
    for text in ("10.0.0.2 TCP 80", "fd00::2 TCP 80", "198.51.100.1 TCP 80", "2001:db8::1 TCP 80"):
        assert Asked.read(text).verdict(cluster, DB, "Ingress").allowed
    assert not Asked.read("198.51.100.2 TCP 80").verdict(cluster, DB, "Ingress").allowed


def test_labels_that_calico_adds_cannot_be_forged() -> None:
    forged = {"projectcalico.org/namespace": "web", "projectcalico.org/serviceaccount": "store", "app": "forged"}
    pods = {**CLUSTER.pods, TOOL: pod("ops", "tool", forged, account="site")}
    base = Cluster(namespaces=CLUSTER.namespaces, pods=pods, addresses=CLUSTER.addresses)
    for selector in ("projectcalico.org/namespace == 'web'", "projectcalico.org/serviceaccount == 'store'"):
        rule = {"action": "Allow", "source": {"selector": f"app == 'forged' && {selector}"}}
        cluster = with_policies(base, gnp("p", selector="app == 'db'", ingress=[rule]))
        assert not Asked.read(B).verdict(cluster, DB, "Ingress").allowed


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ({"namespaceSelector": "team == 'a'"}, False),
        ({"namespaceSelector": "!has(team)", "selector": "app == 'db'"}, False),
        ({"namespaceSelector": "all()", "selector": "app == 'db'"}, True),
        ({"namespaceSelector": "team == 'a'", "doNotTrack": True, "applyOnForward": True}, True),
        ({"selector": "projectcalico.org/namespace == 'web'"}, True),
    ],
)
def test_a_pod_whose_namespace_is_not_known(spec: dict[str, Any], allowed: bool) -> None:
    """Manx: closed, where a policy asks for namespaces by their labels and so nobody can tell what applies to it."""
    assert Asked.read(A).verdict(with_policies(CLUSTER, gnp("p", **spec)), LOST, "Ingress").allowed == allowed
