"""Objects of every kind that policy depends on, by short builders; for tables and generators.

Owns: the builders of Calico's kinds, service accounts and endpoint slices, beside `policy_cases`' of Kubernetes' kinds.
Must not: draw anything at random.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from manx_core.api.calico_policy import GlobalNetworkPolicy, NetworkPolicy
from manx_core.api.core_v1 import (
    Container,
    ContainerPort,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    ObjectMeta,
    Pod,
    PodSpec,
    PodStatus,
    ServiceAccount,
)
from manx_core.api.network_set import GlobalNetworkSet, NetworkSet
from manx_core.api.tier import Tier
from manx_core.policy.cluster import Cluster, Direction, PodKey
from manx_core.policy.verdict import Verdict, verdict


def np(namespace: str, name: str, *, uid: str = "", **spec: Any) -> NetworkPolicy:
    """Fields of the spec as in YAML."""
    meta = {"namespace": namespace, "name": name, "uid": uid or f"uid-{name}"}
    return NetworkPolicy.parse({"metadata": meta, "spec": spec})


def gnp(name: str, *, uid: str = "", **spec: Any) -> GlobalNetworkPolicy:
    return GlobalNetworkPolicy.parse({"metadata": {"name": name, "uid": uid or f"uid-{name}"}, "spec": spec})


def raw_policy(policy: NetworkPolicy | GlobalNetworkPolicy) -> dict[str, Any]:
    """As the API server has it."""
    return policy.model_dump(mode="json", by_alias=True, exclude_unset=True)


def tier(name: str, order: float | None = None, action: str | None = None) -> Tier:
    spec = {"order": order, "defaultAction": action}
    return Tier.parse({"metadata": {"name": name}, "spec": {k: v for k, v in spec.items() if v is not None}})


def network_set(namespace: str, name: str, *nets: str, **labels: str) -> NetworkSet | GlobalNetworkSet:
    """Global where the namespace is empty."""
    meta: dict[str, Any] = {"name": name, "labels": labels, **({"namespace": namespace} if namespace else {})}
    kind = NetworkSet if namespace else GlobalNetworkSet
    return kind.parse({"metadata": meta, "spec": {"nets": list(nets)}})


def service_account(namespace: str, name: str, **labels: str) -> ServiceAccount:
    return ServiceAccount(metadata=ObjectMeta(namespace=namespace, name=name, labels=labels))


def endpoint_slice(
    namespace: str, service: str, addresses: tuple[str, ...], *ports: tuple[int | None, str], name: str = ""
) -> EndpointSlice:
    """A slice of a service: addresses of one family, and (number, protocol)."""
    meta = ObjectMeta(namespace=namespace, name=name or f"{service}-1", labels={"kubernetes.io/service-name": service})
    return EndpointSlice(
        metadata=meta,
        address_type="IPv6" if addresses and ":" in addresses[0] else "IPv4",
        endpoints=tuple(Endpoint(addresses=(address,)) for address in addresses),
        ports=tuple(EndpointPort(protocol=protocol, port=number) for number, protocol in ports),
    )


def pod(
    namespace: str,
    name: str,
    labels: dict[str, str] | None = None,
    *,
    account: str = "default",
    node: str = "n1",
    uid: str = "",
    ports: tuple[ContainerPort, ...] = (),
    phase: str = "Running",
    host_network: bool = False,
) -> Pod:
    spec = PodSpec(
        node_name=node,
        host_network=host_network,
        service_account_name=account,
        containers=(Container(name="c", ports=ports),),
    )
    meta = ObjectMeta(namespace=namespace, name=name, uid=uid or f"uid-{name}", labels=labels or {})
    return Pod(metadata=meta, spec=spec, status=PodStatus(phase=phase))


def relabelled(found: Pod, labels: dict[str, str]) -> Pod:
    return msgspec.structs.replace(found, metadata=msgspec.structs.replace(found.metadata, labels=labels))


def with_phase(found: Pod, phase: str) -> Pod:
    return msgspec.structs.replace(found, status=msgspec.structs.replace(found.status, phase=phase))


def with_policies(cluster: Cluster, *policies: NetworkPolicy | GlobalNetworkPolicy) -> Cluster:
    """The cluster with these Calico policies instead of its own."""
    return replace(cluster, calico_policies={(p.metadata.namespace, p.metadata.name): p for p in policies})


class Asked(NamedTuple):
    """A connection as a table has it: "10.0.0.1 TCP 80", "10.0.0.1 TCP 80 from 4000", "10.0.0.1 ICMP 8/0"."""

    peer: str
    protocol: str
    port: int = 0
    source_port: int = 0
    icmp_type: int | None = None
    icmp_code: int | None = None

    @classmethod
    def read(cls, text: str) -> Asked:
        peer, protocol, *rest = text.split()
        if protocol.startswith("ICMP"):
            kind, _, code = (rest[0] if rest else "8/0").partition("/")
            return cls(peer, protocol, icmp_type=int(kind), icmp_code=int(code or 0))
        return cls(peer, protocol, int(rest[0]) if rest else 0, int(rest[2]) if len(rest) > 1 else 40000)

    def verdict(self, cluster: Cluster, subject: PodKey, direction: Direction) -> Verdict:
        return verdict(
            cluster,
            subject,
            self.peer,
            self.port,
            self.protocol,
            direction,
            source_port=self.source_port,
            icmp_type=self.icmp_type,
            icmp_code=self.icmp_code,
        )
