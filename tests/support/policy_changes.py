"""Random sequences of changes: of every kind that policy depends on, one at a time.

Owns: `Changing`: the inputs as they are, an incremental model and agents that follow it, and the steps.
Must not: decide what is right.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from manx_agent.model import LocalEndpoint
from manx_core.api import core_v1
from manx_core.api.calico_policy import GlobalNetworkPolicy, NetworkPolicy, check
from manx_core.api.core_v1 import EndpointSlice, Namespace, Pod, ServiceAccount
from manx_core.api.network_set import GlobalNetworkSet, NetworkSet
from manx_core.api.tier import Tier
from manx_core.policy.cluster import Cluster, ObjectKey, PodKey, is_endpoint
from manx_core.policy.validate import check_network_policy
from manx_operator.model import PolicyId, PolicyModel
from policy_agents import Agents
from policy_chain import interface_of, set_facts
from policy_objects import gnp, np, raw_policy, relabelled, with_phase
from policy_random import ACCOUNTS, NAMESPACES, NODES, PODS, SERVICES, TIERS, Drawer, addresses_of

CalicoPolicy = NetworkPolicy | GlobalNetworkPolicy
SPARE = ("10.0.0.7", "fd00::7")
"""Addresses that any pod may have, if no other has them."""
POLICIES = (*((ns, f"p{number}") for ns in ("", *NAMESPACES) for number in range(3)),)
SETS = tuple((ns, f"s{number}") for ns in ("", *NAMESPACES) for number in range(2))


class Changing:
    """A cluster that changes, with a model and agents that only ever hear what changed."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.draw = Drawer(random)
        self.model = PolicyModel()
        self.agents = Agents(NODES)
        self.namespaces: dict[str, Namespace] = {}
        self.accounts: dict[ObjectKey, ServiceAccount] = {}
        self.pods: dict[PodKey, Pod] = {}
        self.addresses: dict[tuple[PodKey, str], tuple[str, ...]] = {}
        self.tiers: dict[str, Tier] = {}
        self.sets: dict[ObjectKey, NetworkSet | GlobalNetworkSet] = {}
        self.slices: dict[ObjectKey, EndpointSlice] = {}
        self.kubernetes: dict[ObjectKey, core_v1.NetworkPolicy] = {}
        self.calico: dict[ObjectKey, CalicoPolicy] = {}
        """Of policies, what is in force: as declared; or as last valid, for the same uid; or a reading that closes."""
        self._populate()
        self.settle()

    @property
    def cluster(self) -> Cluster:
        """What is in force, as the reference takes it."""
        return Cluster(
            namespaces=dict(self.namespaces),
            pods=dict(self.pods),
            policies=dict(self.kubernetes),
            addresses={key: self.addresses.get((key, pod.metadata.uid), ()) for key, pod in self.pods.items()},
            service_accounts=dict(self.accounts),
            endpoint_slices=dict(self.slices),
            calico_policies=dict(self.calico),
            tiers=dict(self.tiers),
            network_sets=dict(self.sets),
        )

    def step(self) -> str:
        """One change; its name."""
        change = self.draw.one(STEPS)
        change(self)
        return change.__name__

    def settle(self) -> None:
        """Everything comes to where it should be."""
        self.agents.follow(self.model, self.model.drain())
        cluster = self.cluster
        for node, agent in self.agents.by_node.items():
            here = [key for key, pod in self.pods.items() if is_endpoint(pod) and pod.spec.node_name == node]
            agent.attach(_attached(key, self.pods[key], cluster.addresses[key]) for key in here)
            agent.apply()

    def _populate(self) -> None:
        for name in NAMESPACES:
            self._set_namespace(name, self.draw.namespace(name))
        for key in PODS:
            if self.random.randrange(4):
                self._set_pod(key, self.draw.pod(key))
                self._set_addresses(key, addresses_of(key))
        for step in (Changing.set_calico, Changing.set_kubernetes, Changing.set_calico, Changing.set_network_set):
            step(self)

    # --- steps --------------------------------------------------------------------------------------------------------

    def set_pod(self) -> None:
        """A pod comes, or is another one of the same name."""
        key = self.draw.one(PODS)
        self._set_pod(key, self.draw.pod(key))
        if self.random.randrange(4):
            self._set_addresses(key, addresses_of(key))

    def remove_pod(self) -> None:
        self._set_pod(self.draw.one(PODS), None)

    def relabel_pod(self) -> None:
        key = self.draw.one(PODS)
        if key in self.pods:
            self._set_pod(key, relabelled(self.pods[key], self.draw.labels()))

    def finish_pod(self) -> None:
        key = self.draw.one(PODS)
        if key in self.pods:
            self._set_pod(key, with_phase(self.pods[key], self.draw.one(("Succeeded", "Failed", "Running"))))

    def readdress(self) -> None:
        """An address goes, or comes, perhaps one that another pod had."""
        key = self.draw.one(PODS)
        if key in self.pods:
            self._set_addresses(key, self.draw.one(((), addresses_of(key), addresses_of(key)[1:], SPARE)))

    def set_namespace(self) -> None:
        name = self.draw.one(NAMESPACES)
        self._set_namespace(name, self.draw.namespace(name) if self.random.randrange(4) else None)

    def set_account(self) -> None:
        key = self.draw.one(NAMESPACES), self.draw.one(ACCOUNTS)
        found = self.draw.service_account(*key) if self.random.randrange(4) else None
        _put(self.accounts, key, found)
        self.model.set_service_account(key, found)

    def set_network_set(self) -> None:
        key = self.draw.one(SETS)
        found = self.draw.network_set(*key) if self.random.randrange(4) else None
        _put(self.sets, key, found)
        self.model.set_network_set(key, set_facts(found) if found else None)

    def set_slice(self) -> None:
        service = self.draw.one(SERVICES)
        key = service[0], f"slice-{self.random.randrange(2)}"
        found = self.draw.endpoint_slice(service, key[1]) if self.random.randrange(4) else None
        _put(self.slices, key, found)
        self.model.set_endpoint_slice(key, found)

    def set_tier(self) -> None:
        name = self.draw.one(TIERS)
        found = self.draw.tier(name) if self.random.randrange(4) else None
        _put(self.tiers, name, found)
        self.model.set_tier(name, found)

    def set_kubernetes(self) -> None:
        key = self.draw.one(NAMESPACES), f"p{self.random.randrange(2)}"
        found = self.draw.kubernetes_policy(*key) if self.random.randrange(5) else None
        self.model.set_policy(PolicyId("knp", *key), found)
        before = self.kubernetes.get(key)
        if found is None:
            self.kubernetes.pop(key, None)
        elif not (check_network_policy(found) and _keeps(before, found, lambda: not check_network_policy(before))):  # type: ignore[arg-type]
            self.kubernetes[key] = found

    def set_calico(self) -> None:
        key = self.draw.one(POLICIES)
        policy_id = PolicyId("np" if key[0] else "gnp", *key)
        if not self.random.randrange(5):
            self.calico.pop(key, None)
            self.model.set_policy(policy_id, None)
            return
        drawn = self.draw.calico_policy(*key)
        declared, reading = raw_policy(drawn), drawn
        if self.random.randrange(8) == 0:
            declared, reading = _spoilt(drawn, self.draw)
        self.model.set_policy(policy_id, declared)
        before = self.calico.get(key)
        if not (check(reading) and _keeps(before, reading, lambda: not check(before))):  # type: ignore[arg-type]
            self.calico[key] = reading

    # --- inputs -------------------------------------------------------------------------------------------------------

    def _set_namespace(self, name: str, found: Namespace | None) -> None:
        _put(self.namespaces, name, found)
        self.model.set_namespace(name, found)

    def _set_pod(self, key: PodKey, pod: Pod | None) -> None:
        """A pod that would have an address that another has in the meantime has none."""
        _put(self.pods, key, pod)
        self.model.set_pod(key, pod)
        if pod is not None and self._taken(key, self.addresses.get((key, pod.metadata.uid), ())):
            self._set_addresses(key, ())

    def _set_addresses(self, key: PodKey, addresses: tuple[str, ...]) -> None:
        uid = self.pods[key].metadata.uid
        held = () if self._taken(key, addresses) else addresses
        _put(self.addresses, (key, uid), held or None)
        self.model.set_addresses(key, uid, held)

    def _taken(self, key: PodKey, addresses: tuple[str, ...]) -> bool:
        """Whether another endpoint has one of these."""
        others = {
            held
            for (other, uid), all_held in self.addresses.items()
            if other != key and other in self.pods and self.pods[other].metadata.uid == uid
            for held in all_held
        }
        return not others.isdisjoint(addresses)


STEPS: tuple[Callable[[Changing], None], ...] = (
    Changing.set_pod,
    Changing.set_pod,
    Changing.remove_pod,
    Changing.relabel_pod,
    Changing.finish_pod,
    Changing.readdress,
    Changing.readdress,
    Changing.set_namespace,
    Changing.set_account,
    Changing.set_network_set,
    Changing.set_slice,
    Changing.set_tier,
    Changing.set_kubernetes,
    Changing.set_calico,
    Changing.set_calico,
    Changing.set_calico,
)


def _put(table: dict[Any, Any], key: object, value: object) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _attached(key: PodKey, pod: Pod, addresses: tuple[str, ...]) -> LocalEndpoint:
    return LocalEndpoint(*key, pod.metadata.uid, f"{key}-{pod.metadata.uid}", interface_of(key), addresses)


def _keeps(before: Any, new: Any, was_valid: Callable[[], bool]) -> bool:
    """Whether the last valid version stays in force: it is the same object."""
    return before is not None and before.metadata.uid == new.metadata.uid and was_valid()


def _spoilt(policy: CalicoPolicy, draw: Drawer) -> tuple[dict[str, Any], CalicoPolicy]:
    """What the API server would have refused, and how it is to be read: as widely as it may have been meant."""
    declared, reading = raw_policy(policy), raw_policy(policy)
    types = list(policy.spec.effective_types)
    for spec in (declared["spec"], reading["spec"]):
        spec["types"] = types
    kind = draw.random.randrange(3)
    if kind == 0:
        declared["spec"]["ingress"] = [{"action": "Alow"}]
    elif kind == 1:
        declared["spec"]["selector"] = "app =="
        reading["spec"].pop("selector", None)
    else:
        declared["spec"]["types"] = ["Sideways"]
        reading["spec"]["types"] = ["Ingress", "Egress"]
    reading["spec"]["ingress"] = [{"action": "Allow", "http": {}}]
    meta = policy.metadata
    made = np(meta.namespace, meta.name, uid=meta.uid, **reading["spec"]) if meta.namespace else None
    return declared, made or gnp(meta.name, uid=meta.uid, **reading["spec"])
