"""PolicyModel: the one door to the model.

Owns: what each input does to which table, and policies' validity. Must not: do I/O, or raise on what a user wrote.

Inputs may come in any order and be repeated; each is the whole of what is known of one object now. Results are asked
for after `drain`, which says where to ask. Not for use by several threads.

A policy that becomes invalid stays in force as it last was valid, for as long as this model lives and the object keeps
its uid. One that never was valid isolates the pods that it selects and allows them nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from manx_core.api.core_v1 import Namespace, NetworkPolicy, Pod
from manx_core.api.v1alpha1 import AddressGroup, Endpoint, PolicyClass, PolicyProgram
from manx_core.policy import (
    CompiledPolicy,
    PodKey,
    PolicyKey,
    Problem,
    compile_network_policy,
    item_labels,
)
from manx_operator.model.classes import ClassTable
from manx_operator.model.endpoints import EndpointTable, PodFacts, facts_of
from manx_operator.model.groups import GroupTable
from manx_operator.model.programs import ProgramTable
from manx_operator.model.types import Changes, DesiredObject, Key, Kind


@dataclass(frozen=True, slots=True)
class _Policy:
    """A policy as it is in force."""

    uid: str
    compiled: CompiledPolicy
    valid_once: bool
    problems: tuple[Problem, ...] = ()


class PolicyModel:
    """See the module. `adopt` first, then every input, then the first `drain`."""

    def __init__(self) -> None:
        self._groups = GroupTable()
        self._programs = ProgramTable(self._groups)
        self._classes = ClassTable(self._programs)
        self._endpoints = EndpointTable(self._classes)
        self._namespaces: dict[str, dict[str, str]] = {}
        self._addresses: dict[PodKey, dict[str, tuple[str, ...]]] = {}
        self._policies: dict[PolicyKey, _Policy] = {}
        self._dirty_policies: set[PolicyKey] = set()
        self._adopted: set[Key] = set()

    # --- inputs

    def adopt(self, objects: Iterable[PolicyClass | PolicyProgram | AddressGroup]) -> None:
        """What exists on the API server: chunks keep their members, and the first drain names all of it, so that what
        is not desired is deleted."""
        objects = list(objects)
        self._groups.adopt(found for found in objects if isinstance(found, AddressGroup))
        self._adopted.update((_kind(found), found.metadata.name) for found in objects)

    def set_namespace(self, name: str, namespace: Namespace | None) -> None:
        """None: gone. Its pods are then in no group that selects namespaces by labels."""
        labels = None if namespace is None else namespace.metadata.labels
        if labels == self._namespaces.get(name):
            return
        if labels is None:
            del self._namespaces[name]
        else:
            self._namespaces[name] = labels
        for pod in self._endpoints.in_namespace(name):
            self._regroup(pod)

    def set_pod(self, key: PodKey, pod: Pod | None) -> None:
        """None: gone. A pod that is no endpoint (`manx_core.policy.is_endpoint`) is the same as none."""
        old, new = self._endpoints.facts(key), facts_of(pod)
        if old == new:
            return
        if old is not None and (new is None or new.node != old.node):
            self._groups.remove_pod(key)
            self._endpoints.remove(key)
        if new is not None:
            self._endpoints.put(key, new)
            self._set_facts(key, new)
            self._regroup(key)

    def set_addresses(self, key: PodKey, uid: str, addresses: Iterable[str]) -> None:
        """The addresses allocated to the pod of that uid; none any more where empty."""
        by_uid, new = self._addresses.get(key, {}), tuple(sorted(set(addresses)))
        if by_uid.get(uid, ()) == new:
            return
        by_uid.pop(uid, None)
        self._addresses[key] = {**by_uid, uid: new} if new else by_uid
        if not self._addresses[key]:
            del self._addresses[key]
        facts = self._endpoints.facts(key)
        if facts is not None and facts.uid == uid:
            self._set_facts(key, facts)

    def set_policy(self, key: PolicyKey, policy: NetworkPolicy | None) -> None:
        """None: gone."""
        old = self._policies.get(key)
        new = None if policy is None else _in_force(policy, old)
        if old == new:
            return
        if (old.problems if old else ()) != (new.problems if new else ()):
            self._dirty_policies.add(key)
        if new is None:
            del self._policies[key]
        else:
            self._policies[key] = new
        self._enforce(key[0], old.compiled if old else None, new.compiled if new else None)

    # --- outputs

    def drain(self) -> Changes:
        """Where results may differ from those at the drain before."""
        classes, opened = self._classes.drain()
        objects = classes | self._programs.drain() | self._groups.drain() | self._adopted
        changes = Changes(
            frozenset(objects), frozenset(self._endpoints.drain() | opened), frozenset(self._dirty_policies)
        )
        self._dirty_policies.clear()
        self._adopted.clear()
        return changes

    def desired(self, kind: Kind, name: str) -> DesiredObject | None:
        """None: no such object shall exist."""
        table: ClassTable | ProgramTable | GroupTable = self._groups
        if kind != "AddressGroup":
            table = self._classes if kind == "PolicyClass" else self._programs
        return table.desired(name)

    def all_keys(self) -> frozenset[Key]:
        """Every object that shall exist."""
        return frozenset(self._classes.keys() | self._programs.keys() | self._groups.keys())

    def endpoints(self, node: str) -> tuple[Endpoint, ...]:
        """The node's endpoints, sorted by namespace and name; none for a node that is not known."""
        return self._endpoints.endpoints(node)

    def nodes(self) -> frozenset[str]:
        """The nodes that have endpoints."""
        return self._endpoints.nodes()

    def problems(self, key: PolicyKey) -> tuple[Problem, ...]:
        """Why the policy, as it is now declared, is not in force. Empty for a valid one, and for one not known."""
        policy = self._policies.get(key)
        return policy.problems if policy else ()

    # --- between the tables

    def _regroup(self, pod: PodKey) -> None:
        facts = self._endpoints.facts(pod)
        if facts is not None:
            self._groups.set_labels(pod, item_labels(pod[0], self._namespaces.get(pod[0]), facts.labels))

    def _set_facts(self, pod: PodKey, facts: PodFacts) -> None:
        self._groups.set_facts(pod, self._addresses.get(pod, {}).get(facts.uid, ()), facts.ports)

    def _enforce(self, namespace: str, old: CompiledPolicy | None, new: CompiledPolicy | None) -> None:
        """Labels are read before the policy comes, and until it is gone, so that each class has what decides."""
        if old == new:
            return
        if new is not None:
            self._endpoints.read(namespace, new.applies_to.pod_selector.reads)
            self._programs.put(new)
            self._classes.set_policy(new.name, new.applies_to)
        elif old is not None:
            self._classes.remove_policy(old.name)
            self._programs.remove(old.name)
        if old is not None:
            self._endpoints.unread(namespace, old.applies_to.pod_selector.reads)


def _in_force(policy: NetworkPolicy, old: _Policy | None) -> _Policy:
    """What a declaration comes to, after what was in force before."""
    uid, result = policy.metadata.uid, compile_network_policy(policy)
    if isinstance(result, CompiledPolicy):
        return _Policy(uid, result, True)
    if old is not None and old.uid == uid and old.valid_once:
        return _Policy(uid, old.compiled, True, result.problems)
    return _Policy(uid, result.closed, False, result.problems)


def _kind(found: PolicyClass | PolicyProgram | AddressGroup) -> Kind:
    if isinstance(found, AddressGroup):
        return "AddressGroup"
    return "PolicyClass" if isinstance(found, PolicyClass) else "PolicyProgram"
