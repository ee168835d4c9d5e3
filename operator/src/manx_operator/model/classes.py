"""Policy classes: pods that are alike, the programs that apply to them, and the nodes that they are on.

Owns: every PolicyClass object, and the need of programs that comes of it. Must not: know single pods; it counts them.

A class is named after what makes its pods alike: their namespace, those of their labels that policies which may concern
the namespace read, and their service account where such a policy asks for it. So its name survives every change of
policy but one by which something is read for the first time there, or not at all any more, and then only for pods that
have it. The labels of namespaces and service accounts are attributes of the class: where they change, classes change
which programs they name, and no pod changes its class.

While a namespace is not known yet and some policy asks for namespaces by labels, nobody can tell what applies there:
its pods have no class, and are closed.
"""

from __future__ import annotations

from collections.abc import Iterable

from manx_core.api.v1alpha1 import OPEN_CLASS, PolicyClassSpec
from manx_core.policy import CompiledPolicy
from manx_core.policy.scope import SERVICE_ACCOUNT, hash20
from manx_core.selectors import Change, IncrementalIndex
from manx_operator.model.programs import ProgramTable
from manx_operator.model.surroundings import Surroundings
from manx_operator.model.tiers import TierTable
from manx_operator.model.types import DesiredObject, Key, ObjectKey, Span

Alike = tuple[str, tuple[tuple[str, str], ...]]
"""A namespace, and sorted pairs of labels; the service account is a label of the key SERVICE_ACCOUNT."""
Order = tuple[str, tuple[object, ...]]
"""A policy's tier, and its place in it."""


class PodClass:
    """A set of pods alike; made and ended by the table."""

    __slots__ = ("alike", "name", "programs", "span")

    def __init__(self, alike: Alike) -> None:
        self.alike = alike
        self.name = "pc-" + hash20(alike)
        self.programs: dict[str, None] = {}
        self.span = Span()

    @property
    def namespace(self) -> str:
        return self.alike[0]

    @property
    def service_account(self) -> str:
        """Empty where no policy asks for it."""
        return next((value for key, value in self.alike[1] if key == SERVICE_ACCOUNT), "")


class ClassTable:
    """All classes that have pods, and the pods' selectors of all policies."""

    def __init__(self, programs: ProgramTable, tiers: TierTable, around: Surroundings) -> None:
        self._programs = programs
        self._tiers = tiers
        self._around = around
        self._by_alike: dict[Alike, PodClass] = {}
        self._by_name: dict[str, PodClass] = {}
        self._by_namespace: dict[str, dict[PodClass, None]] = {}
        self._orders: dict[str, Order] = {}
        self._in_tier: dict[str, dict[str, None]] = {}
        self._asking: set[str] = set()
        """The policies that ask for namespaces by labels."""
        self._index: IncrementalIndex[str, str] = IncrementalIndex()
        self._dirty: set[str] = set()
        self._dirty_nodes: set[str] = set()

    # --- pods come and go

    def join(self, alike: Alike, node: str) -> PodClass:
        """One pod more that is such, on that node."""
        pod_class = self._by_alike.get(alike) or self._add(alike)
        if pod_class.span.add(node):
            self._dirty.add(pod_class.name)
            for program in pod_class.programs:
                self._programs.need(program, node)
        return pod_class

    def leave(self, pod_class: PodClass, node: str) -> None:
        """One pod less of that class on that node."""
        if pod_class.span.drop(node):
            self._dirty.add(pod_class.name)
            for program in pod_class.programs:
                self._programs.unneed(program, node)
        if not pod_class.span:
            self._remove(pod_class)

    # --- policies and tiers

    def set_policy(self, policy: CompiledPolicy) -> None:
        """The policy, whose program exists, applies to the pods that it says."""
        self._ask(policy.name, policy.asks_for_namespaces)
        self._place(policy.name, (policy.tier, policy.sort_key))
        self._move(self._index.set_selector(policy.name, policy.applies_to))

    def remove_policy(self, program: str) -> None:
        self._ask(program, False)
        self._place(program, None)
        self._move(self._index.remove_selector(program))

    def tier_changed(self, name: str) -> None:
        """Its order or default action."""
        for program in self._in_tier.get(name, ()):
            self._dirty.update(self._index.items_of(program))

    # --- what classes have of their surroundings

    def namespace_changed(self, name: str, *, came_or_went: bool) -> None:
        """Its labels, or whether it is known."""
        for pod_class in self._by_namespace.get(name, ()):
            self._relabel(pod_class)
            if came_or_went and self._asking:
                self._dirty_nodes.update(pod_class.span)

    def service_account_changed(self, key: ObjectKey) -> None:
        """Its labels."""
        for pod_class in self._by_namespace.get(key[0], ()):
            if pod_class.service_account == key[1]:
                self._relabel(pod_class)

    # --- what comes of it

    def effective_name(self, pod_class: PodClass) -> str:
        """What an endpoint names as its class; empty while that cannot be told."""
        if self._asking and not self._around.knows(pod_class.namespace):
            return ""
        return pod_class.name if pod_class.programs else OPEN_CLASS

    def drain(self) -> tuple[set[Key], set[str]]:
        """The classes that may have changed since the last drain, and the nodes where what endpoints name as their
        class may have."""
        changed: set[Key] = {("PolicyClass", name) for name in self._dirty}
        nodes, self._dirty_nodes = self._dirty_nodes, set()
        self._dirty.clear()
        return changed, nodes

    def desired(self, name: str) -> DesiredObject | None:
        """None where no pod is of that class, or no policy applies to it."""
        pod_class = self._by_name.get(name)
        if pod_class is None or not pod_class.programs:
            return None
        tiers = self._tiers.arrange(self._programs[program] for program in pod_class.programs)
        return DesiredObject("PolicyClass", name, PolicyClassSpec(epoch=0, tiers=tiers), frozenset(pod_class.span))

    def keys(self) -> set[Key]:
        return {("PolicyClass", pod_class.name) for pod_class in self._by_name.values() if pod_class.programs}

    # --- classes come, change and go

    def _add(self, alike: Alike) -> PodClass:
        pod_class = self._by_alike[alike] = PodClass(alike)
        self._by_name[pod_class.name] = pod_class
        self._by_namespace.setdefault(pod_class.namespace, {})[pod_class] = None
        self._relabel(pod_class)
        return pod_class

    def _remove(self, pod_class: PodClass) -> None:
        self._index.remove_item(pod_class.name)
        del self._by_alike[pod_class.alike], self._by_name[pod_class.name]
        of_namespace = self._by_namespace[pod_class.namespace]
        del of_namespace[pod_class]
        if not of_namespace:
            del self._by_namespace[pod_class.namespace]

    def _relabel(self, pod_class: PodClass) -> None:
        own = {key: value for key, value in pod_class.alike[1] if key != SERVICE_ACCOUNT}
        item = self._around.pod(pod_class.namespace, own, pod_class.service_account)
        self._move(self._index.set_item(pod_class.name, item))

    def _ask(self, program: str, asks: bool) -> None:
        before = bool(self._asking)
        (self._asking.add if asks else self._asking.discard)(program)
        if before != bool(self._asking):
            for pod_class in self._by_name.values():
                if not self._around.knows(pod_class.namespace):
                    self._dirty_nodes.update(pod_class.span)

    def _place(self, program: str, order: Order | None) -> None:
        old = self._orders.get(program)
        if old == order:
            return
        if old is not None:
            del self._orders[program], self._in_tier[old[0]][program]
            if not self._in_tier[old[0]]:
                del self._in_tier[old[0]]
        if order is not None:
            self._orders[program] = order
            self._in_tier.setdefault(order[0], {})[program] = None
            self._dirty.update(self._index.items_of(program))

    def _move(self, changes: Iterable[Change[str, str]]) -> None:
        for program, name, joined in changes:
            pod_class = self._by_name[name]
            was_open = not pod_class.programs
            if joined:
                self._apply(pod_class, program)
            else:
                self._unapply(pod_class, program)
            self._dirty.add(name)
            if was_open != (not pod_class.programs):
                self._dirty_nodes.update(pod_class.span)

    def _apply(self, pod_class: PodClass, program: str) -> None:
        pod_class.programs[program] = None
        for node in pod_class.span:
            self._programs.need(program, node)

    def _unapply(self, pod_class: PodClass, program: str) -> None:
        del pod_class.programs[program]
        for node in pod_class.span:
            self._programs.unneed(program, node)
