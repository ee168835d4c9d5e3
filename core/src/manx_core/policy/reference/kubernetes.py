"""networking.k8s.io/v1 NetworkPolicy: whom it isolates and what it allows. Part of the reference semantics.

Owns: the API's sentences (API reference, and the concept page "Network Policies"), each beside its branch.
"""

from __future__ import annotations

from collections.abc import Iterator

from manx_core.api.core_v1 import LabelSelector, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort
from manx_core.policy.reference.connection import PROTOCOLS, Connection, End, Item, within
from manx_core.policy.validate import check_network_policy, parse_network
from manx_core.selectors import check_label_selector


def types_of(policy: NetworkPolicy) -> tuple[str, ...]:
    """The directions in which the policy isolates."""
    types = policy.spec.policy_types
    if any(kind not in ("Ingress", "Egress") for kind in types):
        return ("Ingress", "Egress")  # Manx: what is not valid isolates as widely as it may have meant.
    if types:
        return types
    # "If this field is not specified, … policies that contain an egress section are assumed to affect egress, and all
    # policies (whether or not they contain an ingress section) are assumed to affect ingress."
    return ("Ingress", "Egress") if policy.spec.egress else ("Ingress",)


def applies(policy: NetworkPolicy, pod: Item) -> bool:
    """Whether the policy selects the pod."""
    if policy.metadata.namespace != pod.namespace:
        return False
    if check_label_selector(policy.spec.pod_selector):
        return True  # Manx: of a selector that is not valid, the whole namespace.
    # "An empty selector matches all pods in the policy's namespace."
    return _selects(policy.spec.pod_selector, pod)


def matching_rules(policy: NetworkPolicy, asked: Connection) -> Iterator[tuple[int, str]]:
    """The number and action of each rule that matches; every rule allows."""
    if check_network_policy(policy):
        return  # Manx: a policy that is not valid, and never was, allows nothing.
    if asked.direction == "Ingress":
        rules = [(rule.from_, rule.ports) for rule in policy.spec.ingress]
    else:
        rules = [(rule.to, rule.ports) for rule in policy.spec.egress]
    for number, (peers, ports) in enumerate(rules):
        # "Traffic must match both ports and from [to]."
        if _any_peer(asked, policy, peers) and _any_port(asked, ports):
            yield number, "Allow"


def _any_peer(asked: Connection, policy: NetworkPolicy, peers: tuple[NetworkPolicyPeer, ...]) -> bool:
    if not peers:
        # "If this field is empty or missing, this rule matches all sources [destinations]."
        return True
    # "Items in this list are combined using a logical OR operation."
    return any(_peer_matches(asked.peer, asked, policy, peer) for peer in peers)


def _peer_matches(end: End, asked: Connection, policy: NetworkPolicy, peer: NetworkPolicyPeer) -> bool:
    if peer.ip_block is not None:
        # "except is a slice of CIDRs that should not be included within an ipBlock"
        excluded = [str(parse_network(text)) for text in peer.ip_block.except_]
        return within(end.address, [str(parse_network(peer.ip_block.cidr))]) and not within(end.address, excluded)
    # Selectors select pods, and so no network sets, and no nodes.
    return any(_pod_matches(item, asked, policy, peer) for item in end.items if item.pod is not None)


def _pod_matches(item: Item, asked: Connection, policy: NetworkPolicy, peer: NetworkPolicyPeer) -> bool:
    if peer.namespace_selector is None:
        # "Otherwise it selects the pods matching podSelector in the policy's own namespace."
        in_namespace = item.namespace == policy.metadata.namespace
    else:
        # "namespaceSelector selects namespaces using cluster-scoped labels … if present but empty, it selects all
        # namespaces." A namespace that is not known is not selected.
        known = asked.cluster.namespaces.get(item.namespace)
        in_namespace = known is not None and selects_labels(peer.namespace_selector, known.metadata.labels)
    if peer.pod_selector is None:
        # "Otherwise it selects all pods in the namespaces selected by namespaceSelector."
        return in_namespace
    # "If namespaceSelector is also set, then the NetworkPolicyPeer as a whole selects the pods matching podSelector in
    # the namespaces selected by namespaceSelector."
    return in_namespace and _selects(peer.pod_selector, item)


def _any_port(asked: Connection, ports: tuple[NetworkPolicyPort, ...]) -> bool:
    if not ports:
        # "If this field is empty or missing, this rule matches all ports (traffic not restricted by port)."
        return True
    return any(_port_matches(asked, port) for port in ports)


def _port_matches(asked: Connection, port: NetworkPolicyPort) -> bool:
    if PROTOCOLS[port.protocol.lower()] != asked.protocol:
        return False
    if port.port is None:
        # "If this field is not provided, this matches all port names and numbers."
        return True
    if isinstance(port.port, str):
        # "This can either be a numerical or named port on a pod": the destination's.
        return asked.destination.port in _numbers(asked.destination, port.port, port.protocol)
    # "endPort indicates that the range of ports from port to endPort if set, inclusive, should be allowed."
    return port.port <= asked.destination.port <= (port.end_port or port.port)


def _numbers(end: End, name: str, protocol: str) -> list[int]:
    ports = [port for item in end.items for port in item.ports]
    return [port.number for port in ports if port.name == name and port.protocol == protocol]


def _selects(selector: LabelSelector, pod: Item) -> bool:
    return selects_labels(selector, pod.own_labels)


def selects_labels(selector: LabelSelector, labels: dict[str, str]) -> bool:
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
