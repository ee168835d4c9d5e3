"""PolicyModel: the one door to the model.

Owns: what each input does to which table. Must not: do I/O, or raise on what a user wrote.

Inputs may come in any order and be repeated; each is the whole of what is known of one object now. Results are asked
for after `drain`, which says where to ask. Not for use by several threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from manx_core.api.core_v1 import EndpointSlice, Namespace, Pod, ServiceAccount
from manx_core.api.tier import Tier
from manx_core.api.v1alpha1 import AddressGroup, PolicyClass, StoredProgram
from manx_core.policy import PodKey, Problem, is_endpoint
from manx_core.policy.endpoint import Endpoint, endpoint_of
from manx_operator.model.classes import ClassTable
from manx_operator.model.endpoints import EndpointTable, PodFacts, Shape
from manx_operator.model.groups import NOTHING, Facts, GroupTable
from manx_operator.model.policies import Declared, InForce, judge
from manx_operator.model.programs import ProgramTable
from manx_operator.model.services import slice_facts
from manx_operator.model.surroundings import Surroundings
from manx_operator.model.tiers import TierTable
from manx_operator.model.types import Changes, DesiredObject, Key, Kind, ObjectKey, PolicyId


@dataclass(frozen=True, slots=True)
class NetworkSetFacts:
    """All of a NetworkSet or GlobalNetworkSet that the model depends on."""

    labels: Mapping[str, str]
    nets: tuple[str, ...]
    """Each once, in canonical form; a network of one address as that address."""


class _SetItem:
    """A network set, as an item of `GroupTable`."""

    __slots__ = ("facts",)

    def __init__(self, facts: NetworkSetFacts) -> None:
        self.facts = facts

    def holders(self) -> Iterator[Facts]:
        yield self.facts.nets, ()


class PolicyModel:
    """See the module. `adopt` first, then every input, then the first `drain`."""

    def __init__(self) -> None:
        self._around = Surroundings()
        self._tiers = TierTable()
        self._groups = GroupTable()
        self._programs = ProgramTable(self._groups)
        self._classes = ClassTable(self._groups, self._tiers, self._around)
        self._endpoints = EndpointTable(self._classes)
        self._unclaimed: dict[tuple[PodKey, str], tuple[str, ...]] = {}
        """Addresses of pods, by key and uid, that are not known, or are others now."""
        self._sets: dict[ObjectKey, _SetItem] = {}
        self._sets_of: dict[str, dict[ObjectKey, None]] = {}
        self._listed: dict[str, int] = {}
        """Addresses and networks in network sets, each with the number of sets."""
        self._policies: dict[PolicyId, InForce] = {}
        self._dirty_policies: set[PolicyId] = set()
        self._adopted: set[Key] = set()
        self._stored: dict[str, str] = {}

    # --- inputs

    def adopt(self, objects: Iterable[PolicyClass | StoredProgram | AddressGroup]) -> None:
        """What exists on the API server: chunks keep their members, policies their last valid version, and the first
        drain names all of it, so that what is not desired is deleted."""
        objects = list(objects)
        self._groups.adopt(found for found in objects if isinstance(found, AddressGroup))
        self._stored.update(
            {found.metadata.name: found.declared for found in objects if isinstance(found, StoredProgram)}
        )
        self._adopted.update((_kind(found), found.metadata.name) for found in objects)

    def set_namespace(self, name: str, namespace: Namespace | None) -> None:
        """None: gone. Its pods are then in no group that selects namespaces by labels."""
        known, labels = self._around.knows(name), None if namespace is None else namespace.metadata.labels
        if not self._around.set_namespace(name, labels):
            return
        self._classes.namespace_changed(name, came_or_went=known != (namespace is not None))
        for shape in self._endpoints.in_namespace(name):
            self._regroup(shape)
        for key in self._sets_of.get(name, ()):
            self._regroup_set(key)

    def set_service_account(self, key: ObjectKey, account: ServiceAccount | None) -> None:
        """None: gone."""
        if not self._around.set_service_account(key, None if account is None else account.metadata.labels):
            return
        self._classes.service_account_changed(key)
        for shape in self._endpoints.of_service_account(key):
            self._regroup(shape)

    def await_service_account(self, key: ObjectKey, awaited: bool) -> None:
        """Whether nobody can tell yet what the service account is: its pods are closed meanwhile. (One that is not
        there, and not awaited, has no labels.)"""
        self._endpoints.await_account(key, awaited)

    def set_pod(self, key: PodKey, pod: Pod | None) -> None:
        """None: gone. A pod that is no endpoint (`manx_core.policy.is_endpoint`) is the same as none."""
        old = self._endpoints.get(key)
        if pod is None or not is_endpoint(pod):
            if old is not None:
                self._remove_pod(key, old)
            return
        if old is not None and old.node != pod.spec.node_name:
            self._remove_pod(key, old)
            old = None
        new = self._endpoints.facts_of(key[0], pod, old)
        if new is not old:
            self._put_pod(key, old, new)

    def set_addresses(self, key: PodKey, uid: str, addresses: Iterable[str]) -> None:
        """The addresses allocated to the pod of that uid; none any more where empty."""
        new, facts = tuple(addresses), self._endpoints.get(key)
        if len(new) > 1:
            new = tuple(sorted(set(new)))
        if facts is not None and facts.uid == uid:
            if facts.addresses != new:
                old = facts.held
                facts.addresses = new
                self._groups.change(facts.shape, old, facts.held)
        elif new:
            self._unclaimed[key, uid] = new
        else:
            self._unclaimed.pop((key, uid), None)

    def set_network_set(self, key: ObjectKey, found: NetworkSetFacts | None) -> None:
        """A NetworkSet, or, where the namespace is empty, a GlobalNetworkSet. None: gone."""
        item = self._sets.get(key)
        old = item.facts if item is not None else None
        if old == found:
            return
        self._list(old, found)
        if found is None:
            self._remove_network_set(key)
        elif item is None:
            self._sets[key] = _SetItem(found)
            self._sets_of.setdefault(key[0], {})[key] = None
            self._regroup_set(key)
        else:
            before, item.facts = item.facts, found
            self._groups.change(item, (before.nets, ()), (found.nets, ()))
            self._regroup_set(key)

    def set_endpoint_slice(self, key: ObjectKey, found: EndpointSlice | None) -> None:
        """None: gone."""
        self._groups.set_slice(key, slice_facts(found))

    def set_tier(self, name: str, tier: Tier | None) -> None:
        """A valid Tier; None: gone, or never was valid."""
        if tier is None:
            changed = self._tiers.remove(name)
        else:
            changed = self._tiers.set(name, tier.spec.order, tier.default_action)
        if changed:
            self._classes.tier_changed(name)

    def set_policy(self, policy: PolicyId, declared: Declared | None) -> None:
        """None: gone."""
        old = self._policies.get(policy)
        if declared is None and old is None:
            return
        stored = self._stored.get(policy.program, "") if self._stored else ""
        new = None if declared is None else judge(policy, declared, old, stored)
        if old is not None and new is not None and old == new and old.same_program(new):
            return
        if (old.problems if old else ()) != (new.problems if new else ()):
            self._dirty_policies.add(policy)
        if new is None:
            del self._policies[policy]
        else:
            self._policies[policy] = new
        self._enforce(old, new)

    # --- outputs

    def drain(self) -> Changes:
        """Where results may differ from those at the drain before."""
        remarked = self._programs.users(self._groups.turned())
        classes, opened, moved = self._classes.drain()
        objects = dict.fromkeys([*self._groups.drain(), *self._programs.drain(), *classes, *self._adopted])
        changes = Changes(
            objects.keys(),
            frozenset(self._endpoints.drain() | opened),
            frozenset(self._dirty_policies),
            remarked,
            moved,
        )
        self._dirty_policies.clear()
        self._adopted.clear()
        self._stored.clear()
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

    def lines(self, node: str) -> tuple[str, ...]:
        """The node's endpoints as NodeState lists them, sorted by namespace and name; none for a node that is not
        known."""
        return self._endpoints.lines(node)

    def endpoints(self, node: str) -> tuple[Endpoint, ...]:
        """The same, read."""
        return tuple(map(endpoint_of, self.lines(node)))

    def nodes_of(self, program: str) -> frozenset[str]:
        """The nodes with a pod that the program's policy applies to."""
        return self._programs.nodes(program)

    def remarks(self, program: str) -> tuple[str, ...]:
        """What of the program's policy is legal, and hardly meant: `manx_core.policy.remarks`."""
        return self._programs.remarks(program)

    def nodes(self) -> frozenset[str]:
        """The nodes that have endpoints."""
        return self._endpoints.nodes()

    def problems(self, policy: PolicyId) -> tuple[Problem, ...]:
        """Why the policy, as it is now declared, is not in force. Empty for a valid one, and for one not known."""
        found = self._policies.get(policy)
        return found.problems if found else ()

    def lists(self, address: str) -> bool:
        """Whether a network set lists this one address."""
        return address in self._listed

    def lists_in(self, group_id: str, address: str) -> bool:
        """Whether a network set lists this one address, and so it may be in that group for a pod that has it or not."""
        return self.lists(address) and self._groups.selects_holder_of(group_id, address)

    # --- between the tables

    def _put_pod(self, key: PodKey, old: PodFacts | None, new: PodFacts) -> None:
        """`old`: what the pod was before, on the same node."""
        shape = new.shape
        if old is not None and old.uid == new.uid:
            new.addresses = old.addresses
        else:
            self._unclaim(key, old)
            new.addresses = self._unclaimed.pop((key, new.uid), ())
        if not shape.pods:
            self._regroup(shape)
        self._endpoints.put(key, new)
        if old is None or old.shape is shape:
            self._groups.change(shape, old.held if old is not None else NOTHING, new.held)
        else:
            self._groups.transfer(old.shape, old.held, shape, new.held)
            self._discard(old.shape)

    def _remove_pod(self, key: PodKey, facts: PodFacts) -> None:
        self._unclaim(key, facts)
        self._groups.change(facts.shape, facts.held, NOTHING)
        self._discard(self._endpoints.remove(key))

    def _discard(self, shape: Shape) -> None:
        if self._endpoints.discard(shape):
            self._groups.remove_item(shape)

    def _unclaim(self, key: PodKey, facts: PodFacts | None) -> None:
        if facts is not None and facts.addresses:
            self._unclaimed[key, facts.uid] = facts.addresses

    def _remove_network_set(self, key: ObjectKey) -> None:
        item = self._sets.pop(key)
        self._groups.change(item, (item.facts.nets, ()), NOTHING)
        self._groups.remove_item(item)
        del self._sets_of[key[0]][key]
        if not self._sets_of[key[0]]:
            del self._sets_of[key[0]]

    def _regroup(self, shape: Shape) -> None:
        self._groups.set_labels(shape, self._around.pod(shape.namespace, shape.labels, shape.service_account))

    def _regroup_set(self, key: ObjectKey) -> None:
        item = self._sets[key]
        self._groups.set_labels(item, self._around.network_set(key[0], item.facts.labels))

    def _list(self, old: NetworkSetFacts | None, new: NetworkSetFacts | None) -> None:
        for found, change in ((new, 1), (old, -1)):
            for net in found.nets if found is not None else ():
                self._listed[net] = self._listed.get(net, 0) + change
                if not self._listed[net]:
                    del self._listed[net]

    def _enforce(self, old: InForce | None, new: InForce | None) -> None:
        """What is read, is read before the policy comes and until it is gone, so that each class has what decides."""
        if old is not None and new is not None and old.same_program(new):
            return
        before = self._programs.get(old.compiled.name) if old is not None else None
        if new is not None:
            self._endpoints.read(new.compiled.namespace, new.compiled.applies_to.reads)
            self._classes.set_policy(self._programs.put(new), before)
            if before is not None:
                self._programs.release(before)
        elif before is not None:
            self._classes.remove_policy(before)
            self._programs.remove(before)
        if old is not None:
            self._endpoints.unread(old.compiled.namespace, old.compiled.applies_to.reads)


def _kind(found: PolicyClass | StoredProgram | AddressGroup) -> Kind:
    if isinstance(found, AddressGroup):
        return "AddressGroup"
    return "PolicyClass" if isinstance(found, PolicyClass) else "PolicyProgram"
