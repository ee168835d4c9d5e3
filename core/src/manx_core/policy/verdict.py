"""verdict(): what Kubernetes NetworkPolicy says of a connection. The reference semantics.

Owns: the API's sentences (networking.k8s.io/v1 and the concept page "Network Policies"), each beside its branch, over
the users' own objects. Must not: be fast, or share code with what it is the reference for: neither selectors'
canonical form nor the compiler is used here, save for what counts as valid.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from manx_core.api.core_v1 import LabelSelector, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, Pod
from manx_core.policy.cluster import Cluster, Direction, PodKey, is_endpoint, named_ports
from manx_core.policy.validate import check_network_policy, parse_network
from manx_core.selectors import check_label_selector


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the connection is allowed in that direction, and the sentence that decides it."""

    allowed: bool
    because: str


@dataclass(frozen=True, slots=True)
class _Question:
    """A connection of `subject`, and the pods at both ends where they are pods with addresses of their own."""

    cluster: Cluster
    subject: PodKey
    peer: str
    destination: PodKey | None
    peer_pod: PodKey | None
    port: int
    protocol: str


def verdict(cluster: Cluster, subject: PodKey, peer: str, port: int, protocol: str, direction: Direction) -> Verdict:
    """May `peer` (an IP address) connect to the pod `subject` (Ingress), or `subject` to `peer` (Egress)?

    `port` is the destination's, of `protocol` (TCP, UDP, SCTP; any other has no ports). A connection between pods is
    allowed where both directions are, each asked with its own subject. Raises KeyError for an unknown subject.
    """
    pod = cluster.pods[subject]
    peer_pod = _pod_at(cluster, peer)
    if not is_endpoint(pod):
        return Verdict(True, "policy does not apply to a pod without an address of its own")
    if peer_pod == subject:
        # "A Pod cannot block access to itself."
        return Verdict(True, "a pod cannot block access to itself")
    if direction == "Ingress" and peer in cluster.node_addresses.get(pod.spec.node_name, ()):
        # "… OR if the traffic source is the pod's local node"
        return Verdict(True, "the source is the pod's own node")
    destination = subject if direction == "Ingress" else peer_pod
    question = _Question(cluster, subject, peer, destination, peer_pod, port, protocol)
    return _by_policies(question, pod, direction)


def _by_policies(question: _Question, pod: Pod, direction: Direction) -> Verdict:
    policies = [
        policy
        for _, policy in sorted(question.cluster.policies.items())
        if direction in _types(policy) and _applies(policy, question.subject, pod)
    ]
    if not policies:
        # "By default, a pod is non-isolated": traffic is allowed if no policy selects the pod for the direction.
        return Verdict(True, f"no policy selects the pod for {direction}")
    for policy in policies:
        # "Network policies do not conflict; they are additive": it takes one rule of one policy.
        found = _allowing_rule(question, policy, direction)
        if found:
            return Verdict(True, f"{_name(policy)} allows it: {found}")
    return Verdict(False, f"no rule allows it of {', '.join(map(_name, policies))}")


def _name(policy: NetworkPolicy) -> str:
    return f"{policy.metadata.namespace}/{policy.metadata.name}"


def _types(policy: NetworkPolicy) -> tuple[str, ...]:
    types = policy.spec.policy_types
    if any(kind not in ("Ingress", "Egress") for kind in types):
        return ("Ingress", "Egress")  # Manx: what is not valid isolates as widely as it may have meant.
    if types:
        return types
    # "If this field is not specified, … policies that contain an egress section are assumed to affect egress, and all
    # policies (whether or not they contain an ingress section) are assumed to affect ingress."
    return ("Ingress", "Egress") if policy.spec.egress else ("Ingress",)


def _applies(policy: NetworkPolicy, subject: PodKey, pod: Pod) -> bool:
    if policy.metadata.namespace != subject[0]:
        return False
    if check_label_selector(policy.spec.pod_selector):
        return True  # Manx: of a selector that is not valid, the whole namespace.
    # "An empty selector matches all pods in the policy's namespace."
    return _selects(policy.spec.pod_selector, pod.metadata.labels)


def _allowing_rule(question: _Question, policy: NetworkPolicy, direction: Direction) -> str:
    """The rule that allows it, for people; empty for none."""
    if check_network_policy(policy):
        return ""  # Manx: a policy that is not valid, and never was, allows nothing.
    if direction == "Ingress":
        rules = [(rule.from_, rule.ports) for rule in policy.spec.ingress]
    else:
        rules = [(rule.to, rule.ports) for rule in policy.spec.egress]
    for number, (peers, ports) in enumerate(rules):
        # "Traffic must match both ports and from [to]."
        if _any_peer(question, policy, peers) and _any_port(question, ports):
            return f"{direction.lower()}[{number}]"
    return ""


def _any_peer(question: _Question, policy: NetworkPolicy, peers: tuple[NetworkPolicyPeer, ...]) -> bool:
    if not peers:
        # "If this field is empty or missing, this rule matches all sources [destinations]."
        return True
    # "Items in this list are combined using a logical OR operation."
    return any(_peer_matches(question, policy, peer) for peer in peers)


def _peer_matches(question: _Question, policy: NetworkPolicy, peer: NetworkPolicyPeer) -> bool:
    if peer.ip_block is not None:
        address = ipaddress.ip_address(question.peer)
        # "except is a slice of CIDRs that should not be included within an ipBlock"
        excluded = any(address in parse_network(text) for text in peer.ip_block.except_)
        return address in parse_network(peer.ip_block.cidr) and not excluded
    if question.peer_pod is None:
        return False  # Selectors select pods.
    namespace = question.peer_pod[0]
    if peer.namespace_selector is None:
        # "Otherwise it selects the pods matching podSelector in the policy's own namespace."
        in_namespace = namespace == policy.metadata.namespace
    else:
        # "namespaceSelector selects namespaces using cluster-scoped labels … if present but empty, it selects all
        # namespaces." A namespace that is not known is not selected.
        known = question.cluster.namespaces.get(namespace)
        in_namespace = known is not None and _selects(peer.namespace_selector, known.metadata.labels)
    if peer.pod_selector is None:
        # "Otherwise it selects all pods in the namespaces selected by namespaceSelector."
        return in_namespace
    # "If namespaceSelector is also set, then the NetworkPolicyPeer as a whole selects the pods matching podSelector in
    # the namespaces selected by namespaceSelector."
    return in_namespace and _selects(peer.pod_selector, question.cluster.pods[question.peer_pod].metadata.labels)


def _any_port(question: _Question, ports: tuple[NetworkPolicyPort, ...]) -> bool:
    if not ports:
        # "If this field is empty or missing, this rule matches all ports (traffic not restricted by port)."
        return True
    return any(_port_matches(question, port) for port in ports)


def _port_matches(question: _Question, port: NetworkPolicyPort) -> bool:
    if port.protocol != question.protocol:
        return False
    if port.port is None:
        # "If this field is not provided, this matches all port names and numbers."
        return True
    if isinstance(port.port, str):
        # "This can either be a numerical or named port on a pod": the destination's.
        return question.port in _numbers(question, port.port)
    # "endPort indicates that the range of ports from port to endPort if set, inclusive, should be allowed."
    return port.port <= question.port <= (port.end_port or port.port)


def _numbers(question: _Question, name: str) -> list[int]:
    if question.destination is None:
        return []
    pod = question.cluster.pods[question.destination]
    return [p.number for p in named_ports(pod) if p.name == name and p.protocol == question.protocol]


def _selects(selector: LabelSelector, labels: dict[str, str]) -> bool:
    """ "The result of matchLabels and matchExpressions are ANDed." """
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    for expression in selector.match_expressions:
        value = labels.get(expression.key)
        holds = {
            "In": value is not None and value in expression.values,
            "NotIn": value is None or value not in expression.values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[expression.operator]:
            return False
    return True


def _pod_at(cluster: Cluster, address: str) -> PodKey | None:
    """The pod with an address of its own that has this one."""
    for key, addresses in cluster.addresses.items():
        pod = cluster.pods.get(key)
        if pod is not None and is_endpoint(pod) and address in addresses:
            return key
    return None
