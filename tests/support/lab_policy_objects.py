"""Owns objects of the policy tests' world as a user writes them, and what the API server has of them as the value that
`verdict` is asked about.

It must not judge, nor talk to a cluster. Policies are written short: a key says kind and place, the value is the spec
as YAML, with `labels` and `annotations` beside the spec's fields:

| key | object |
|---|---|
| ``x/p`` | Kubernetes NetworkPolicy p in namespace np-x |
| ``np x/p`` | Calico NetworkPolicy |
| ``gnp p`` | GlobalNetworkPolicy |
| ``tier t`` | Tier |
| ``set x/s``, ``gset s`` | NetworkSet, GlobalNetworkSet |
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import yaml

from manx_core import policy
from manx_core.api.calico_policy import GlobalNetworkPolicy
from manx_core.api.calico_policy import NetworkPolicy as CalicoPolicy
from manx_core.api.core_v1 import EndpointSlice, Namespace, NetworkPolicy, Node, Pod, ServiceAccount
from manx_core.api.network_set import GlobalNetworkSet, NetworkSet
from manx_core.api.tier import Tier
from manx_kube.codec import decode

PREFIX = "np-"
MARK = "manx-policy-test"
CALICO = "projectcalico.org/v3"
KINDS = {
    "": ("networking.k8s.io/v1", "NetworkPolicy"),
    "np": (CALICO, "NetworkPolicy"),
    "gnp": (CALICO, "GlobalNetworkPolicy"),
    "tier": (CALICO, "Tier"),
    "set": (CALICO, "NetworkSet"),
    "gset": (CALICO, "GlobalNetworkSet"),
}
RESOURCES = {
    "": "networkpolicies.networking.k8s.io",
    "np": "networkpolicies.projectcalico.org",
    "gnp": "globalnetworkpolicies.projectcalico.org",
    "set": "networksets.projectcalico.org",
    "gset": "globalnetworksets.projectcalico.org",
    "tier": "tiers.projectcalico.org",
}
"""In an order in which they may be deleted: tiers after what is in them."""
SURROUNDINGS = ("namespaces", "pods", "nodes", "serviceaccounts", "endpointslices.discovery.k8s.io")


def document(key: str, text: str) -> dict[str, Any]:
    """The object that a key and its spec's YAML stand for."""
    kind, _, place = key.rpartition(" ")
    namespace, _, name = place.rpartition("/")
    api_version, word = KINDS[kind]
    spec = yaml.safe_load(text) or {}
    metadata: dict[str, Any] = {"name": name, "labels": {MARK: "yes", **spec.pop("labels", {})}}
    if annotations := spec.pop("annotations", None):
        metadata["annotations"] = annotations
    if namespace:
        metadata["namespace"] = PREFIX + namespace
    return {"apiVersion": api_version, "kind": word, "metadata": metadata, "spec": spec}


def identity(item: dict[str, Any]) -> tuple[str, str, str, str]:
    """What tells one object from all others."""
    meta = item["metadata"]
    return item["apiVersion"], item["kind"], meta.get("namespace", ""), meta["name"]


def cluster_of(items: Iterable[dict[str, Any]]) -> policy.Cluster:
    """The value that `verdict` is asked about, from objects as the API server gives them. Raises InvalidObject."""
    by_kind: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for item in items:
        by_kind.setdefault((item["apiVersion"].partition("/")[0], item["kind"]), []).append(item)

    def core(group: str, kind: type[Any]) -> list[Any]:
        return [decode(json.dumps(item).encode(), kind) for item in by_kind.get((group, kind.__name__), ())]

    def calico(*kinds: type[Any]) -> dict[tuple[str, str], Any]:
        calicos = [(kind, by_kind.get((CALICO.partition("/")[0], kind.__name__), ())) for kind in kinds]
        return {_key(item["metadata"]): kind.parse(item) for kind, found in calicos for item in found}

    pods, nodes = core("v1", Pod), core("v1", Node)
    return policy.Cluster(
        namespaces={found.metadata.name: found for found in core("v1", Namespace)},
        pods=_by_key(pods),
        policies=_by_key(core("networking.k8s.io", NetworkPolicy)),
        addresses={(p.metadata.namespace, p.metadata.name): tuple(ip.ip for ip in p.status.pod_ips) for p in pods},
        node_addresses={n.metadata.name: tuple(a.address for a in n.status.addresses) for n in nodes},
        service_accounts=_by_key(core("v1", ServiceAccount)),
        endpoint_slices=_by_key(core("discovery.k8s.io", EndpointSlice)),
        calico_policies=calico(CalicoPolicy, GlobalNetworkPolicy),
        tiers={name: tier for (_, name), tier in calico(Tier).items()},
        network_sets=calico(NetworkSet, GlobalNetworkSet),
    )


def _by_key(found: Iterable[Any]) -> dict[tuple[str, str], Any]:
    return {(each.metadata.namespace, each.metadata.name): each for each in found}


def _key(metadata: dict[str, Any]) -> tuple[str, str]:
    return metadata.get("namespace", ""), metadata["name"]
