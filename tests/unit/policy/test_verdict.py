"""The reference semantics says what the API says, and compiled policy says the same as the reference."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings

from manx_core.api.core_v1 import LabelSelector, NetworkPolicy
from manx_core.api.v1alpha1 import ClassTier
from manx_core.policy import (
    Cluster,
    CompiledPolicy,
    Direction,
    Flow,
    GroupDef,
    Groups,
    PodKey,
    compile_network_policy,
    is_endpoint,
    named_ports,
    pod_item,
)
from manx_core.policy.evaluate import evaluate
from manx_core.policy.own_ports import own_ports
from manx_core.policy.verdict import verdict
from policy_cases import (
    BROKEN,
    NUMBERS,
    cluster_strategy,
    egress,
    ingress,
    namespace,
    peer,
    pod,
    policy,
    port,
    requirement,
    select,
    to_port,
)

WEB, DB, OTHER, HOST = ("web", "front"), ("web", "db"), ("ops", "tool"), ("web", "agent")
ADDRESSES = {WEB: ("10.0.0.1",), DB: ("10.0.0.2",), OTHER: ("10.0.1.1",)}
OUTSIDE, NODE = "192.0.2.7", "198.51.100.1"


def cluster(*policies: NetworkPolicy) -> Cluster:
    pods = [
        pod("web", "front", {"app": "front"}, ports=(port(8080, "http"),)),
        pod("web", "db", {"app": "db"}, ports=(port(5432, "sql"), port(53, "sql", "UDP"))),
        pod("ops", "tool", {"app": "front"}, ports=(port(9090, "http"),)),
        pod("web", "agent", {"app": "front"}, host_network=True),
    ]
    return Cluster(
        namespaces={"web": namespace("web", {"team": "a"}), "ops": namespace("ops", {"team": "b"})},
        pods={(p.metadata.namespace, p.metadata.name): p for p in pods},
        policies={(p.metadata.namespace, p.metadata.name): p for p in policies},
        addresses=ADDRESSES,
        node_addresses={"n1": (NODE,)},
    )


FRONT = select(app="front")
EVERY = LabelSelector()


@pytest.mark.parametrize(
    ("policies", "peer", "port", "allowed", "because"),
    [
        ([], "10.0.0.1", 5432, True, "no policy selects the pod for Ingress"),
        ([policy("ops", "p")], "10.0.0.1", 5432, True, "no policy selects the pod for Ingress"),
        ([policy("web", "p", types=("Egress",))], "10.0.0.1", 5432, True, "no policy selects the pod for Ingress"),
        ([policy("web", "p", FRONT)], "10.0.0.1", 5432, True, "no policy selects the pod for Ingress"),
        (
            [policy("web", "p")],
            "10.0.0.1",
            5432,
            False,
            "no rule decides it of Kubernetes NetworkPolicy web/p, and tier default denies",
        ),
        ([policy("web", "p")], "10.0.0.2", 5432, True, "a pod cannot block access to itself"),
        ([policy("web", "p")], NODE, 5432, True, "the source is the pod's own node"),
        (
            [policy("web", "p", rules=(ingress(),))],
            OUTSIDE,
            1,
            True,
            "Kubernetes NetworkPolicy web/p allows it: ingress[0]",
        ),
        (
            [policy("web", "p"), policy("web", "q", rules=(ingress(), ingress()))],
            OUTSIDE,
            1,
            True,
            "Kubernetes NetworkPolicy web/q allows it: ingress[0]",
        ),
        (
            [policy("web", "p"), policy("web", "q")],
            OUTSIDE,
            1,
            False,
            "no rule decides it of Kubernetes NetworkPolicy web/p, Kubernetes NetworkPolicy web/q,"
            " and tier default denies",
        ),
        (
            [policy("web", "p", rules=(ingress((peer(FRONT),)),))],
            "10.0.0.1",
            1,
            True,
            "Kubernetes NetworkPolicy web/p allows it: ingress[0]",
        ),
        (
            [policy("web", "p", rules=(ingress((peer(FRONT),)),))],
            "10.0.1.1",
            1,
            False,
            "no rule decides it of Kubernetes NetworkPolicy web/p, and tier default denies",
        ),
        (
            [policy("web", "p", rules=(ingress((peer(FRONT),)),))],
            OUTSIDE,
            1,
            False,
            "no rule decides it of Kubernetes NetworkPolicy web/p, and tier default denies",
        ),
        (
            [policy("web", "p", rules=(ingress((peer(FRONT, EVERY),)),))],
            "10.0.1.1",
            1,
            True,
            "Kubernetes NetworkPolicy web/p allows it: ingress[0]",
        ),
        (
            [policy("web", "p", rules=(ingress((peer(FRONT, select(team="a")),)),))],
            "10.0.1.1",
            1,
            False,
            "no rule decides it of Kubernetes NetworkPolicy web/p, and tier default denies",
        ),
        (
            [policy("web", "p", rules=(ingress((peer(namespaces=select(team="b")),)),))],
            "10.0.1.1",
            1,
            True,
            "Kubernetes NetworkPolicy web/p allows it: ingress[0]",
        ),
        (
            [policy("web", "p", rules=(ingress((peer(cidr="192.0.2.0/24", except_=("192.0.2.0/29",)),)),))],
            OUTSIDE,
            1,
            False,
            "no rule decides it of Kubernetes NetworkPolicy web/p, and tier default denies",
        ),
        (
            [policy("web", "p", rules=(ingress((), to_port("sql")),))],
            OUTSIDE,
            5432,
            True,
            "Kubernetes NetworkPolicy web/p allows it: ingress[0]",
        ),
        (
            [policy("web", "p", rules=(ingress((), to_port("sql")),))],
            OUTSIDE,
            53,
            False,
            "no rule decides it of Kubernetes NetworkPolicy web/p, and tier default denies",
        ),
        (
            [policy("web", "p", rules=(ingress((), to_port(5000, 6000)),))],
            OUTSIDE,
            6000,
            True,
            "Kubernetes NetworkPolicy web/p allows it: ingress[0]",
        ),
        (
            [policy("web", "p", rules=(ingress((), to_port(5000, 6000)),))],
            OUTSIDE,
            6001,
            False,
            "no rule decides it of Kubernetes NetworkPolicy web/p, and tier default denies",
        ),
        (
            [policy("web", "p", BROKEN)],
            OUTSIDE,
            1,
            False,
            "no rule decides it of Kubernetes NetworkPolicy web/p, and tier default denies",
        ),
    ],
)
def test_ingress_to_the_database(
    policies: list[NetworkPolicy], peer: str, port: int, allowed: bool, because: str
) -> None:
    answer = verdict(cluster(*policies), DB, peer, port, "TCP", "Ingress")
    assert (answer.allowed, answer.because) == (allowed, because)


@pytest.mark.parametrize(
    ("rule", "peer", "port", "allowed"),
    [
        (egress((), to_port("http")), "10.0.1.1", 9090, True),
        (egress((), to_port("http")), "10.0.1.1", 8080, False),
        (egress((), to_port("http")), OUTSIDE, 9090, False),
        (egress((peer(cidr="10.0.0.0/24"),), to_port("http")), "10.0.1.1", 9090, False),
        (egress((peer(FRONT),), to_port("http")), "10.0.0.1", 8080, True),
        (egress((peer(FRONT),), to_port("http")), "10.0.1.1", 9090, False),
        (egress((peer(LabelSelector(match_expressions=(requirement("app", "Exists"),))),)), NODE, 80, False),
    ],
)
def test_egress_from_the_database(rule: object, peer: str, port: int, allowed: bool) -> None:
    declared = policy("web", "p", select(app="db"), out=(rule,), types=("Egress",))  # type: ignore[arg-type]
    assert verdict(cluster(declared), DB, peer, port, "TCP", "Egress").allowed == allowed


def test_a_host_network_pod_is_its_node() -> None:
    declared = cluster(policy("web", "p"))
    assert verdict(declared, HOST, OUTSIDE, 1, "TCP", "Ingress").allowed


# --- compiled = reference ---------------------------------------------------------------------------------------------


def members(group: GroupDef, cluster: Cluster) -> frozenset[str]:
    """The plain resolution of a group."""
    found: set[str] = set()
    for key, item in cluster.pods.items():
        known = cluster.namespaces.get(key[0])
        labels = pod_item(key[0], known.metadata.labels if known else None, item.metadata.labels)
        if is_endpoint(item) and group.selects.matches(labels):
            found.update(group.members_of(cluster.addresses.get(key, ()), named_ports(item)))
    return frozenset(found)


class Compiled:
    """A cluster's policies, compiled, with every group resolved."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        results = [compile_network_policy(declared) for _, declared in sorted(cluster.policies.items())]
        self.policies = [r if isinstance(r, CompiledPolicy) else r.closed for r in results]
        self.programs = {p.name: p.program() for p in self.policies}
        groups = {g.id: members(g, cluster) for p in self.policies for g in p.groups}
        own = own_ports((held, named_ports(cluster.pods[key])) for key, held in cluster.addresses.items())
        self.groups = Groups(groups, own)

    def allows(self, subject: PodKey, flow: Flow, direction: Direction) -> bool:
        labels = pod_item(subject[0], None, self.cluster.pods[subject].metadata.labels)
        applying = tuple(p.name for p in self.policies if p.applies_to.matches(labels))
        return evaluate(
            [ClassTier(name="default", policies=applying)], self.programs, self.groups, direction, flow
        ).allowed


STRANGERS = ("192.0.2.7", "203.0.113.9", "2001:db8::1")
DESTINATIONS = [*((n, p) for n in (*NUMBERS, 60) for p in ("TCP", "UDP")), (80, "SCTP"), (0, "ICMP")]


@settings(max_examples=200, deadline=None)
@given(cluster_strategy())
def test_compiled_policy_decides_as_the_reference(cluster: Cluster) -> None:
    compiled = Compiled(cluster)
    for subject in filter(lambda key: is_endpoint(cluster.pods[key]), cluster.pods):
        own = cluster.addresses[subject][0]
        others = [a for key, addresses in cluster.addresses.items() for a in addresses if key != subject]
        for other, (number, protocol) in itertools.product([*others, *STRANGERS], DESTINATIONS):
            incoming = verdict(cluster, subject, other, number, protocol, "Ingress")
            assert compiled.allows(subject, Flow(other, own, protocol, number), "Ingress") == incoming.allowed
            outgoing = verdict(cluster, subject, other, number, protocol, "Egress")
            assert compiled.allows(subject, Flow(own, other, protocol, number), "Egress") == outgoing.allowed
