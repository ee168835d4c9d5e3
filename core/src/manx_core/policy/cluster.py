"""A cluster as far as policy depends on it, and what makes a pod an endpoint.

Owns: the plain value that `verdict` is asked about, and the reading of pods that both semantics share.
Must not: index or cache; it is for the reference, for tests and for explaining. Nor import at run time what users'
kinds are made of: agents import this module, and do without pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from manx_core.api.core_v1 import Container, EndpointSlice, Namespace, NetworkPolicy, Pod, ServiceAccount
from manx_core.policy.endpoint import NamedPort

if TYPE_CHECKING:
    from manx_core.api import calico_policy
    from manx_core.api.network_set import GlobalNetworkSet, NetworkSet
    from manx_core.api.tier import Tier

PodKey = tuple[str, str]
"""Namespace and name."""
PolicyKey = tuple[str, str]
"""Namespace and name."""
ObjectKey = tuple[str, str]
"""Namespace, empty for objects of none, and name."""

Direction = Literal["Ingress", "Egress"]

FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Everything that policy depends on."""

    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    pods: Mapping[PodKey, Pod] = field(default_factory=dict)
    policies: Mapping[PolicyKey, NetworkPolicy] = field(default_factory=dict)
    """Kubernetes' NetworkPolicies."""
    addresses: Mapping[PodKey, tuple[str, ...]] = field(default_factory=dict)
    """The addresses allocated to each pod."""
    node_addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Node name → all addresses of that node itself."""
    service_accounts: Mapping[ObjectKey, ServiceAccount] = field(default_factory=dict)
    endpoint_slices: Mapping[ObjectKey, EndpointSlice] = field(default_factory=dict)
    calico_policies: Mapping[ObjectKey, calico_policy.NetworkPolicy | calico_policy.GlobalNetworkPolicy] = field(
        default_factory=dict
    )
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    """Those that users declare. The built-in ones are there without being declared."""
    network_sets: Mapping[ObjectKey, NetworkSet | GlobalNetworkSet] = field(default_factory=dict)


def is_endpoint(pod: Pod) -> bool:
    """Whether the pod has, or will have, an address of its own that policy applies to.

    A hostNetwork pod is its node ("pods on hostNetwork: … network plugin ignores them", docs, network policies); a pod
    that finished has given its address back; one that is not scheduled is nowhere. A terminating pod still talks.
    """
    return bool(pod.spec.node_name) and not pod.spec.host_network and pod.status.phase not in FINISHED


def named_ports(pod: Pod) -> tuple[NamedPort, ...]:
    """The ports that a policy's named port may refer to, sorted: those of containers and of sidecars (KEP-753)."""
    containers = pod.spec.containers
    if pod.spec.init_containers:
        containers = (*containers, *filter(_is_sidecar, pod.spec.init_containers))
    ports = {
        NamedPort(port.name, port.protocol, port.container_port) for c in containers for port in c.ports if port.name
    }
    return tuple(sorted(ports)) if ports else ()


def _is_sidecar(container: Container) -> bool:
    return container.restart_policy == "Always"
