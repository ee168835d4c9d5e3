"""Small clusters for policy tests: builders with short names, and hypothesis strategies over a few names and labels.

The alphabets are small on purpose: selectors then often match, and policies often meet.
"""

from __future__ import annotations

from hypothesis import strategies as st

from manx_core.api.core_v1 import (
    Container,
    ContainerPort,
    IPBlock,
    LabelSelector,
    LabelSelectorRequirement,
    Namespace,
    NetworkPolicy,
    NetworkPolicyEgressRule,
    NetworkPolicyIngressRule,
    NetworkPolicyPeer,
    NetworkPolicyPort,
    NetworkPolicySpec,
    ObjectMeta,
    Pod,
    PodSpec,
    PodStatus,
)
from manx_core.policy import Cluster

NAMESPACES = ("east", "west")
NODES = ("n1", "n2", "n3")
POD_NAMES = ("a", "b", "c")
KEYS = ("app", "tier")
VALUES = ("x", "y", "z")
PORT_NAMES = ("http", "dns")
NUMBERS = (53, 80, 81, 8080)
PROTOCOLS = ("TCP", "UDP", "SCTP")


def pod(
    namespace: str,
    name: str,
    labels: dict[str, str] | None = None,
    *,
    node: str = "n1",
    uid: str = "",
    ports: tuple[ContainerPort, ...] = (),
    phase: str = "Running",
    host_network: bool = False,
) -> Pod:
    spec = PodSpec(node_name=node, host_network=host_network, containers=(Container(name="c", ports=ports),))
    meta = ObjectMeta(namespace=namespace, name=name, uid=uid or f"uid-{name}", labels=labels or {})
    return Pod(metadata=meta, spec=spec, status=PodStatus(phase=phase))


def namespace(name: str, labels: dict[str, str] | None = None) -> Namespace:
    return Namespace(metadata=ObjectMeta(name=name, labels=labels or {}))


def port(number: int, name: str = "", protocol: str = "TCP") -> ContainerPort:
    return ContainerPort(container_port=number, name=name, protocol=protocol)


def select(**labels: str) -> LabelSelector:
    return LabelSelector(match_labels=labels)


def requirement(key: str, operator: str, *values: str) -> LabelSelectorRequirement:
    return LabelSelectorRequirement(key=key, operator=operator, values=values)


def peer(
    pods: LabelSelector | None = None,
    namespaces: LabelSelector | None = None,
    cidr: str = "",
    except_: tuple[str, ...] = (),
) -> NetworkPolicyPeer:
    block = IPBlock(cidr=cidr, except_=except_) if cidr else None
    return NetworkPolicyPeer(pod_selector=pods, namespace_selector=namespaces, ip_block=block)


def to_port(port: int | str | None = None, end: int | None = None, protocol: str = "TCP") -> NetworkPolicyPort:
    return NetworkPolicyPort(protocol=protocol, port=port, end_port=end)


def ingress(peers: tuple[NetworkPolicyPeer, ...] = (), *ports: NetworkPolicyPort) -> NetworkPolicyIngressRule:
    return NetworkPolicyIngressRule(from_=peers, ports=ports)


def egress(peers: tuple[NetworkPolicyPeer, ...] = (), *ports: NetworkPolicyPort) -> NetworkPolicyEgressRule:
    return NetworkPolicyEgressRule(to=peers, ports=ports)


def policy(
    namespace: str,
    name: str,
    selector: LabelSelector | None = None,
    rules: tuple[NetworkPolicyIngressRule, ...] = (),
    out: tuple[NetworkPolicyEgressRule, ...] = (),
    types: tuple[str, ...] = (),
    uid: str = "",
) -> NetworkPolicy:
    meta = ObjectMeta(namespace=namespace, name=name, uid=uid or f"uid-{name}")
    spec = NetworkPolicySpec(pod_selector=selector or LabelSelector(), policy_types=types, ingress=rules, egress=out)
    return NetworkPolicy(metadata=meta, spec=spec)


# --- strategies -------------------------------------------------------------------------------------------------------

labels_strategy = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=2)

_values = st.lists(st.sampled_from(VALUES), min_size=1, max_size=2).map(tuple)
_expressions = st.one_of(
    st.builds(
        LabelSelectorRequirement,
        key=st.sampled_from(KEYS),
        operator=st.sampled_from(("In", "NotIn")),
        values=_values,
    ),
    st.builds(
        LabelSelectorRequirement, key=st.sampled_from(KEYS), operator=st.sampled_from(("Exists", "DoesNotExist"))
    ),
)
selector_strategy = st.builds(
    LabelSelector,
    match_labels=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=1),
    match_expressions=st.lists(_expressions, max_size=1).map(tuple),
)

BLOCKS = ("10.0.0.0/8", "10.0.0.4/30", "10.0.0.3/32", "192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0")
_blocks = st.one_of(
    st.builds(IPBlock, cidr=st.sampled_from(BLOCKS)),
    st.sampled_from(
        [
            IPBlock(cidr="0.0.0.0/0", except_=("10.0.0.0/30", "192.0.2.0/25")),
            IPBlock(cidr="10.0.0.0/8", except_=("10.0.0.4/30",)),
            IPBlock(cidr="::/0", except_=("2001:db8::/32",)),
        ]
    ),
)
peer_strategy = st.one_of(
    st.builds(NetworkPolicyPeer, pod_selector=selector_strategy),
    st.builds(NetworkPolicyPeer, namespace_selector=selector_strategy),
    st.builds(NetworkPolicyPeer, pod_selector=selector_strategy, namespace_selector=selector_strategy),
    st.builds(NetworkPolicyPeer, ip_block=_blocks),
)
port_strategy = st.one_of(
    st.builds(
        NetworkPolicyPort,
        protocol=st.sampled_from(PROTOCOLS),
        port=st.one_of(st.none(), st.sampled_from(NUMBERS), st.sampled_from(PORT_NAMES)),
    ),
    st.builds(
        NetworkPolicyPort, protocol=st.sampled_from(PROTOCOLS), port=st.just(60), end_port=st.sampled_from((60, 90))
    ),
)
_peers = st.lists(peer_strategy, max_size=3).map(tuple)
_ports = st.lists(port_strategy, max_size=3).map(tuple)
spec_strategy = st.builds(
    NetworkPolicySpec,
    pod_selector=selector_strategy,
    policy_types=st.sampled_from(((), ("Ingress",), ("Egress",), ("Ingress", "Egress"))),
    ingress=st.lists(st.builds(NetworkPolicyIngressRule, from_=_peers, ports=_ports), max_size=2).map(tuple),
    egress=st.lists(st.builds(NetworkPolicyEgressRule, to=_peers, ports=_ports), max_size=2).map(tuple),
)
BROKEN = LabelSelector(match_expressions=(LabelSelectorRequirement(key="app", operator="Near"),))
broken_spec_strategy = st.one_of(
    st.builds(NetworkPolicySpec, pod_selector=st.just(BROKEN), policy_types=st.just(("Ingress",))),
    st.builds(NetworkPolicySpec, pod_selector=selector_strategy, policy_types=st.just(("Sideways",))),
    st.builds(NetworkPolicySpec, pod_selector=selector_strategy, ingress=st.just((ingress((peer(),)),))),
)
any_spec_strategy = st.one_of(spec_strategy, spec_strategy, spec_strategy, broken_spec_strategy)

_named = st.builds(
    ContainerPort,
    container_port=st.sampled_from(NUMBERS),
    name=st.sampled_from(PORT_NAMES),
    protocol=st.sampled_from(PROTOCOLS),
)
ports_strategy = st.lists(_named, max_size=2).map(tuple)
phase_strategy = st.sampled_from(("Running", "Running", "Running", "Pending", "Succeeded"))


@st.composite
def pod_strategy(draw: st.DrawFn, namespace: str, name: str) -> Pod:
    return pod(
        namespace,
        name,
        draw(labels_strategy),
        node=draw(st.sampled_from((*NODES, ""))),
        uid=draw(st.sampled_from(("u1", "u1", "u2"))),
        ports=draw(ports_strategy),
        phase=draw(phase_strategy),
        host_network=draw(st.sampled_from((False, False, False, True))),
    )


@st.composite
def cluster_strategy(draw: st.DrawFn) -> Cluster:
    """A cluster of up to six pods, each with one address where it is an endpoint, and up to three policies."""
    keys = [(ns, name) for ns in NAMESPACES for name in POD_NAMES]
    pods = {key: draw(pod_strategy(*key)) for key in draw(st.lists(st.sampled_from(keys), unique=True, min_size=1))}
    known = draw(st.lists(st.sampled_from(NAMESPACES), unique=True, min_size=1))
    policies = {}
    for number in range(draw(st.integers(0, 3))):
        key = (draw(st.sampled_from(NAMESPACES)), f"p{number}")
        meta = ObjectMeta(namespace=key[0], name=key[1], uid=f"uid-{key[1]}")
        policies[key] = NetworkPolicy(metadata=meta, spec=draw(any_spec_strategy))
    return Cluster(
        namespaces={name: namespace(name, draw(labels_strategy)) for name in known},
        pods=pods,
        policies=policies,
        addresses={key: (address_of(key),) for key in pods},
    )


def address_of(key: tuple[str, str]) -> str:
    """The address that a test's pod has: 10.0.0.1 to 10.0.0.6."""
    return f"10.0.0.{1 + NAMESPACES.index(key[0]) * len(POD_NAMES) + POD_NAMES.index(key[1])}"
