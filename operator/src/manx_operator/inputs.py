"""Everything the operator reads: one informer for each kind, in every replica.

Owns: the informers, and handing their batches to whoever leads. Must not: judge what they hold.

Why in every replica: a standby is then warm, and has followed the AddressGroups from its own start, which is what makes
forgetting addresses quick after a failover (`forgetting.SpanVersions`). Users' kinds are read untyped: pydantic is to
say what is wrong with them, field by field, where a typed decoder would only refuse the object. Of their metadata only
what somebody reads is kept: who manages which field is longer than many an object itself. (For pods see `kept_pods`.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict, cast

from manx_core.api.core_v1 import EndpointSlice, Namespace, NetworkPolicy, Node, ServiceAccount
from manx_core.api.v1alpha1 import (
    AddressGroup,
    IPAMBlock,
    MeshNode,
    NodeReport,
    NodeState,
    PolicyClass,
    StoredProgram,
)
from manx_kube import resources as r
from manx_kube.client import KubeClient
from manx_kube.informer import Batch, Informer
from manx_operator.forgetting import SpanVersions
from manx_operator.kept_pods import KeptPod

Raw = dict[str, Any]


class _Metadata(TypedDict, total=False):
    name: str
    namespace: str
    uid: str
    resourceVersion: str
    generation: int
    labels: dict[str, str]
    annotations: dict[str, str]
    creationTimestamp: str
    deletionTimestamp: str
    finalizers: list[str]


class _UserObject(TypedDict, total=False):
    """What is kept of an object of users' kinds."""

    apiVersion: str
    kind: str
    metadata: _Metadata
    spec: Any
    status: Any


USER_OBJECT = cast("type[Raw]", _UserObject)
Listener = Callable[[r.Resource, Batch[Any]], None]

OURS: dict[r.Resource, type[Any]] = {
    r.ADDRESS_GROUPS: AddressGroup,
    r.POLICY_PROGRAMS: StoredProgram,
    r.POLICY_CLASSES: PolicyClass,
    r.IPAM_BLOCKS: IPAMBlock,
    r.MESH_NODES: MeshNode,
    r.NODE_STATES: NodeState,
    r.NODE_REPORTS: NodeReport,
}
"""manx.dev kinds, and what they are decoded to."""
CALICO_POLICY = (
    r.TIERS,
    r.CALICO_NETWORK_POLICIES,
    r.GLOBAL_NETWORK_POLICIES,
    r.NETWORK_SETS,
    r.GLOBAL_NETWORK_SETS,
)
"""Calico's kinds that policy is made of."""


class Inputs:
    """`listener`, while set, gets each batch of every informer, in the order heard."""

    def __init__(self, client: KubeClient) -> None:
        self.pods = Informer(client, r.PODS, KeptPod)
        self.namespaces = Informer(client, r.NAMESPACES, Namespace)
        self.nodes = Informer(client, r.NODES, Node)
        self.service_accounts = Informer(client, r.SERVICE_ACCOUNTS, ServiceAccount)
        self.endpoint_slices = Informer(client, r.ENDPOINT_SLICES, EndpointSlice)
        self.network_policies = Informer(client, r.NETWORK_POLICIES, NetworkPolicy)
        self.calico: dict[r.Resource, Informer[Raw]] = {
            kind: Informer(client, kind, USER_OBJECT) for kind in CALICO_POLICY
        }
        self.ip_pools: Informer[Raw] = Informer(client, r.IP_POOLS, USER_OBJECT)
        self.bgp_configurations: Informer[Raw] = Informer(client, r.BGP_CONFIGURATIONS, USER_OBJECT)
        self.bgp_peers: Informer[Raw] = Informer(client, r.BGP_PEERS, USER_OBJECT)
        self.felix_configurations: Informer[Raw] = Informer(client, r.FELIX_CONFIGURATIONS, USER_OBJECT)
        self.installations: Informer[Raw] = Informer(client, r.INSTALLATIONS, USER_OBJECT)
        self.ours: dict[r.Resource, Informer[Any]] = {kind: Informer(client, kind, OURS[kind]) for kind in OURS}
        self.blocks: Informer[IPAMBlock] = self.ours[r.IPAM_BLOCKS]
        self.reports: Informer[NodeReport] = self.ours[r.NODE_REPORTS]
        self.groups: Informer[AddressGroup] = self.ours[r.ADDRESS_GROUPS]
        self.versions = SpanVersions()
        self.groups.add_handler(self.versions.heard)
        self.listener: Listener | None = None
        for informer in self:
            informer.add_handler(self._hearing(informer.resource))

    def __iter__(self) -> Iterator[Informer[Any]]:
        yield from (self.pods, self.namespaces, self.nodes, self.service_accounts, self.endpoint_slices)
        yield self.network_policies
        yield from self.calico.values()
        yield from (
            self.ip_pools,
            self.bgp_configurations,
            self.bgp_peers,
            self.felix_configurations,
            self.installations,
        )
        yield from self.ours.values()

    def of(self, resource: r.Resource) -> Informer[Any]:
        """The informer of a kind. Raises StopIteration for one that is not read."""
        return next(informer for informer in self if informer.resource == resource)

    def _hearing(self, resource: r.Resource) -> Callable[[Batch[Any]], None]:
        def heard(batch: Batch[Any]) -> None:
            if self.listener is not None:
                self.listener(resource, batch)

        return heard

    @property
    def synced(self) -> bool:
        return all(informer.synced for informer in self)

    @property
    def unsynced(self) -> list[str]:
        """The kinds whose first list is not complete, for messages."""
        return [str(informer.resource) for informer in self if not informer.synced]

    def start(self) -> None:
        for informer in self:
            informer.start()

    async def stop(self) -> None:
        await asyncio.gather(*(informer.stop() for informer in self))

    @contextmanager
    def held(self) -> Iterator[None]:
        """No cache changes inside."""
        for informer in self:
            informer.hold()
        try:
            yield
        finally:
            for informer in self:
                informer.release()

    async def reach_consistent(self) -> None:
        """Until no cache is older than this call."""
        await asyncio.gather(*(informer.reach_consistent() for informer in self))

    def highest_epoch(self) -> int:
        """Of all our objects: a new leader's is higher, whatever became of the Lease."""
        epochs = (
            obj.spec.epoch
            for kind, informer in self.ours.items()
            if kind != r.NODE_REPORTS
            for obj in informer.cache.values()
        )
        return max(epochs, default=0)
