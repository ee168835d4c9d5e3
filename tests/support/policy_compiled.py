"""A cluster's policies, compiled, with every group resolved in the plainest way: what compiled policy says of a flow.

Owns: `Compiled`. Must not: share code with the operator's model, which does the same incrementally.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from manx_core.api.core_v1 import EndpointSlice
from manx_core.api.tier import BUILT_IN
from manx_core.api.v1alpha1 import ClassTier
from manx_core.policy import GroupDef, compile_calico_policy, compile_network_policy, network_set_item, pod_item
from manx_core.policy.cluster import Cluster, Direction, ObjectKey, PodKey, is_endpoint, named_ports
from manx_core.policy.compiled import CompiledPolicy, InvalidPolicy
from manx_core.policy.evaluate import Decision, Flow, Groups, evaluate
from manx_core.policy.own_ports import Holder, own_ports


class Compiled:
    """The cluster's policies as they would be in force if all were new."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        results: list[CompiledPolicy | InvalidPolicy] = [compile_network_policy(p) for p in cluster.policies.values()]
        results += [compile_calico_policy(p) for p in cluster.calico_policies.values()]
        self.policies = [r if isinstance(r, CompiledPolicy) else r.closed for r in results]
        self.programs = {policy.name: policy.program() for policy in self.policies}
        groups = {g.id: frozenset(self._members(g)) for p in self.policies for g in p.groups}
        self.groups = Groups(groups, own_ports(self._holders()))
        self._asking = any(policy.asks_for_namespaces for policy in self.policies)

    def decide(self, subject: PodKey, flow: Flow, direction: Direction) -> Decision:
        if self._asking and subject[0] not in self.cluster.namespaces:
            return Decision(False)
        return evaluate(self.tiers(subject), self.programs, self.groups, direction, flow)

    def tiers(self, subject: PodKey) -> list[ClassTier]:
        """The policies that apply to a pod, by tier."""
        labels = self._pod_labels(subject)
        applying = sorted((p for p in self.policies if p.applies_to.matches(labels)), key=lambda p: p.sort_key)
        return [
            ClassTier(
                name=name,
                policies=tuple(p.name for p in applying if p.tier == name),
                default_action=self._default_action(name),
            )
            for name in sorted({p.tier for p in applying}, key=self._tier_order)
        ]

    def _tier_order(self, name: str) -> tuple[bool, float, str]:
        if name in self.cluster.tiers:
            order = self.cluster.tiers[name].spec.order
            return False, math.inf if order is None else order, name
        return (False, BUILT_IN[name][0], name) if name in BUILT_IN else (True, math.inf, name)

    def _default_action(self, name: str) -> Literal["Deny", "Pass"]:
        if name in self.cluster.tiers:
            return self.cluster.tiers[name].default_action
        return BUILT_IN[name][1] if name in BUILT_IN else "Deny"

    # --- groups

    def _holders(self) -> Iterator[Holder]:
        """The pods that a policy may apply to: each by itself, for a rule asks of its own ports."""
        pods = ((key, pod) for key, pod in self.cluster.pods.items() if is_endpoint(pod))
        return ((self.cluster.addresses.get(key, ()), named_ports(pod)) for key, pod in pods)

    def _members(self, group: GroupDef) -> Iterator[str]:
        if group.service is not None:
            for found in self.cluster.endpoint_slices.values():
                if _service_of(found) == group.service[:2]:
                    yield from _slice_members(found, group.service.with_ports)
            return
        for key, pod in self.cluster.pods.items():
            if is_endpoint(pod) and group.selects.matches(self._pod_labels(key)):
                yield from group.members_of(self.cluster.addresses.get(key, ()), named_ports(pod))
        for name, network_set in self.cluster.network_sets.items():
            labels = network_set_item(name[0], self._namespace_labels(name[0]), network_set.metadata.labels)
            if group.selects.matches(labels):
                yield from group.members_of(network_set.spec.nets)

    def _pod_labels(self, key: PodKey) -> dict[str, str]:
        pod = self.cluster.pods[key]
        account = pod.spec.service_account_name
        known = self.cluster.service_accounts.get((key[0], account))
        labels = known.metadata.labels if known else None
        return pod_item(key[0], self._namespace_labels(key[0]), pod.metadata.labels, account, labels)

    def _namespace_labels(self, name: str) -> dict[str, str] | None:
        known = self.cluster.namespaces.get(name)
        return known.metadata.labels if known else None


def _service_of(found: EndpointSlice) -> ObjectKey:
    return found.metadata.namespace, found.metadata.labels.get("kubernetes.io/service-name", "")


def _slice_members(found: EndpointSlice, with_ports: bool) -> Iterator[str]:
    for address in (text for endpoint in found.endpoints for text in endpoint.addresses):
        if not with_ports:
            yield address
            continue
        yield from (f"{address},{port.protocol.lower()}:{port.port}" for port in found.ports if port.port is not None)
