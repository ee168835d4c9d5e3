"""A connection that is asked about, and what is known of its two ends.

Owns: the reading of addresses, protocols and pods' automatic labels, as rules of every kind see them.
Must not: know rules.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from manx_core.api.core_v1 import Pod
from manx_core.policy.cluster import Cluster, Direction, PodKey, is_endpoint, named_ports
from manx_core.policy.endpoint import NamedPort

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132, "udplite": 136}
"""IANA's numbers of the protocols that policies may name."""
ICMP, ICMPV6 = 1, 58
ADDED = ("projectcalico.org/namespace", "projectcalico.org/orchestrator", "projectcalico.org/serviceaccount")
"""Labels that Calico adds by itself, so that selectors may read them."""


def protocol_number(protocol: str | int) -> int:
    """6, "6" and "TCP" are one. Raises ValueError for a name that policies do not know."""
    text = str(protocol).lower()
    return PROTOCOLS[text] if text in PROTOCOLS else int(text)


def within(address: str, networks: Iterable[str]) -> bool:
    """Whether one of these CIDRs holds the address; none of the other family does. No address is nowhere."""
    if not address:
        return False
    return any(_address(address) in _network(text) for text in networks)


@lru_cache(maxsize=4096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


@lru_cache(maxsize=4096)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


@dataclass(frozen=True, slots=True)
class Item:
    """What selectors may select: a pod with an address of its own, or a network set."""

    namespace: str
    """Empty for a GlobalNetworkSet."""
    own_labels: dict[str, str]
    """What Kubernetes' selectors see."""
    labels: Mapping[str, str]
    """What Calico's selectors see: its own, and those that Calico adds."""
    namespace_labels: Mapping[str, str] | None
    """None: the namespace is not known."""
    service_account_labels: Mapping[str, str]
    pod: PodKey | None = None
    ports: tuple[NamedPort, ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection."""

    address: str
    """Empty for a subject without an address of that family."""
    port: int
    items: tuple[Item, ...]
    """The pods and network sets that have the address."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection's first packet."""

    cluster: Cluster
    direction: Direction
    source: End
    destination: End
    version: int
    protocol: int
    icmp_type: int | None = None
    icmp_code: int | None = None

    @property
    def subject(self) -> End:
        return self.destination if self.direction == "Ingress" else self.source

    @property
    def peer(self) -> End:
        return self.source if self.direction == "Ingress" else self.destination


def end_at(cluster: Cluster, address: str, port: int, subject: PodKey | None = None) -> End:
    """The end at an address; `subject` is a pod that is known to be there."""
    keys = [key for key, held in cluster.addresses.items() if address in held and key in cluster.pods]
    if subject is not None and subject not in keys:
        keys.append(subject)
    pods = [pod_item(cluster, key) for key in keys if is_endpoint(cluster.pods[key])]
    sets = [set_item(cluster, key) for key, found in cluster.network_sets.items() if within(address, found.spec.nets)]
    return End(address, port, (*pods, *sets))


def pod_item(cluster: Cluster, key: PodKey) -> Item:
    """A pod as selectors see it."""
    pod, namespace = cluster.pods[key], key[0]
    added = {"projectcalico.org/namespace": namespace, "projectcalico.org/orchestrator": "k8s"}
    if pod.spec.service_account_name:
        added["projectcalico.org/serviceaccount"] = pod.spec.service_account_name
    return Item(
        namespace=namespace,
        own_labels=pod.metadata.labels,
        labels={**_written(pod.metadata.labels), **added},
        namespace_labels=_namespace_labels(cluster, namespace),
        service_account_labels=_service_account_labels(cluster, namespace, pod),
        pod=key,
        ports=named_ports(pod),
    )


def set_item(cluster: Cluster, key: tuple[str, str]) -> Item:
    """A NetworkSet, or a GlobalNetworkSet where the namespace is empty, as selectors see it."""
    namespace, own = key[0], cluster.network_sets[key].metadata.labels
    labels = _written(own)
    if namespace:
        labels["projectcalico.org/namespace"] = namespace
        return Item(namespace, own, labels, _namespace_labels(cluster, namespace), {})
    return Item("", own, labels, {}, {})


def _written(labels: Mapping[str, str]) -> dict[str, str]:
    """What a user wrote under the keys of labels that Calico adds does not count."""
    return {key: value for key, value in labels.items() if key not in ADDED}


def _namespace_labels(cluster: Cluster, namespace: str) -> dict[str, str] | None:
    known = cluster.namespaces.get(namespace)
    # "The label projectcalico.org/name is set to the name of the namespace."
    return {**known.metadata.labels, "projectcalico.org/name": namespace} if known else None


def _service_account_labels(cluster: Cluster, namespace: str, pod: Pod) -> dict[str, str]:
    name = pod.spec.service_account_name
    known = cluster.service_accounts.get((namespace, name))
    # "Similarly, the projectcalico.org/name label is applied to ServiceAccounts and allows for matching by name."
    # Manx: a service account that is not known has no labels.
    return {**known.metadata.labels, "projectcalico.org/name": name} if known else {}
