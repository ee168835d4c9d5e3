"""Tiers, and the order in which policies of all kinds are asked. Part of the reference semantics.

Owns: one view of a policy, whatever its kind (`Judge`), and the order of tiers and of policies in them.
Must not: know what a rule matches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from manx_core.api import core_v1
from manx_core.api.calico_policy import GlobalNetworkPolicy, NetworkPolicy
from manx_core.api.tier import BUILT_IN
from manx_core.policy.cluster import Cluster
from manx_core.policy.reference import calico, kubernetes
from manx_core.policy.reference.connection import Connection, Item

DEFAULT = "default"
KUBERNETES_ORDER = 1000.0
"""Calico evaluates Kubernetes' NetworkPolicies in the default tier with this order."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A policy of any kind."""

    policy: core_v1.NetworkPolicy | calico.CalicoPolicy

    @property
    def kind(self) -> Literal["KubernetesNetworkPolicy", "NetworkPolicy", "GlobalNetworkPolicy"]:
        if isinstance(self.policy, core_v1.NetworkPolicy):
            return "KubernetesNetworkPolicy"
        return "NetworkPolicy" if isinstance(self.policy, NetworkPolicy) else "GlobalNetworkPolicy"

    @property
    def name(self) -> str:
        """For people: "Kubernetes NetworkPolicy web/p", "GlobalNetworkPolicy p"."""
        meta = self.policy.metadata
        kind = "Kubernetes NetworkPolicy" if isinstance(self.policy, core_v1.NetworkPolicy) else self.kind
        return f"{kind} {meta.namespace}/{meta.name}" if meta.namespace else f"{kind} {meta.name}"

    @property
    def tier(self) -> str:
        return DEFAULT if isinstance(self.policy, core_v1.NetworkPolicy) else self.policy.spec.tier

    @property
    def order(self) -> tuple[float, str, str, str]:
        """ "Calico applies the policy with the lowest value first"; without one, last; equal ones by name, then by
        namespace and kind (Felix, PolKVLess)."""
        if isinstance(self.policy, core_v1.NetworkPolicy):
            order: float | None = KUBERNETES_ORDER
        else:
            order = self.policy.spec.order
        meta = self.policy.metadata
        return math.inf if order is None else order, meta.name, meta.namespace, self.kind

    def applies(self, pod: Item, direction: str) -> bool:
        """Whether the policy has a say for that pod in that direction."""
        if isinstance(self.policy, core_v1.NetworkPolicy):
            return direction in kubernetes.types_of(self.policy) and kubernetes.applies(self.policy, pod)
        return direction in calico.types_of(self.policy) and calico.applies(self.policy, pod)

    def matching_rules(self, asked: Connection) -> Iterator[tuple[int, str]]:
        """The numbers and actions of the rules that match, in order."""
        if isinstance(self.policy, core_v1.NetworkPolicy):
            return kubernetes.matching_rules(self.policy, asked)
        return calico.matching_rules(self.policy, asked)

    @property
    def asks_for_namespaces(self) -> bool:
        """Whether nobody can tell to which pods it applies whose namespace is not known."""
        return isinstance(self.policy, GlobalNetworkPolicy) and calico.asks_for_namespaces(self.policy)

    @property
    def closes(self) -> bool:
        """Manx: of a Calico policy that is not valid, and never was, nobody knows what it would have allowed, denied or
        passed on: what it selects is denied."""
        return not isinstance(self.policy, core_v1.NetworkPolicy) and not calico.is_valid(self.policy)


@dataclass(frozen=True, slots=True)
class TierView:
    """A tier, with all its policies in order."""

    name: str
    default_action: Literal["Deny", "Pass"]
    policies: tuple[Judge, ...]


def tiers_of(cluster: Cluster) -> list[TierView]:
    """Every tier that a policy is in, in order: "Tiers are sorted by their order - smallest number first"; without one,
    last; equal ones by name (Felix, TierLess)."""
    judges = [Judge(policy) for policy in (*cluster.policies.values(), *cluster.calico_policies.values())]
    names = sorted({judge.tier for judge in judges}, key=lambda name: _tier_order(cluster, name))
    return [
        TierView(
            name,
            _default_action(cluster, name),
            tuple(sorted((judge for judge in judges if judge.tier == name), key=lambda judge: judge.order)),
        )
        for name in names
    ]


def _tier_order(cluster: Cluster, name: str) -> tuple[bool, float, str]:
    if name in cluster.tiers:
        order = cluster.tiers[name].spec.order
        return False, math.inf if order is None else order, name
    if name in BUILT_IN:
        return False, BUILT_IN[name][0], name
    # Manx: a tier that does not exist comes after all that do (as Felix sorts it), and denies what its policies do not
    # decide; Calico's API server refuses such policies.
    return True, math.inf, name


def _default_action(cluster: Cluster, name: str) -> Literal["Deny", "Pass"]:
    if name in cluster.tiers:
        return cluster.tiers[name].default_action
    return BUILT_IN[name][1] if name in BUILT_IN else "Deny"
