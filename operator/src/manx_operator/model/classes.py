"""Policy classes: pods that are alike, the programs that apply to them, and the nodes that they are on.

Owns: every PolicyClass object, and the need of programs that comes of it. Must not: know single pods; it counts them.

A class is named after what makes its pods alike: their namespace, and those of their labels that policies of that
namespace read. So its name survives every change of policy but one by which a label is read for the first time there,
or not at all any more, and then only for pods that have that label. What later policy kinds read of a pod besides (its
service account) will be labels like any other here.
"""

from __future__ import annotations

from manx_core.api.v1alpha1 import OPEN_CLASS, PolicyClassSpec
from manx_core.policy import Scope, item_labels
from manx_core.policy.scope import hash20
from manx_core.selectors import Change, IncrementalIndex
from manx_operator.model.programs import ProgramTable
from manx_operator.model.types import DesiredObject, Key, Span

Alike = tuple[str, tuple[tuple[str, str], ...]]
"""A namespace, and sorted pairs of labels."""


class PodClass:
    """A set of pods alike; made and ended by the table."""

    __slots__ = ("alike", "name", "programs", "span")

    def __init__(self, alike: Alike) -> None:
        self.alike = alike
        self.name = "pc-" + hash20(alike)
        self.programs: dict[str, None] = {}
        self.span = Span()

    def effective_name(self) -> str:
        """What an endpoint names as its class."""
        return self.name if self.programs else OPEN_CLASS


class ClassTable:
    """All classes that have pods, and the pods' selectors of all policies."""

    def __init__(self, programs: ProgramTable) -> None:
        self._programs = programs
        self._by_alike: dict[Alike, PodClass] = {}
        self._by_name: dict[str, PodClass] = {}
        self._index: IncrementalIndex[str, str] = IncrementalIndex()
        self._dirty: set[str] = set()
        self._dirty_nodes: set[str] = set()

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
            self._index.remove_item(pod_class.name)
            del self._by_alike[pod_class.alike], self._by_name[pod_class.name]

    def set_policy(self, program: str, applies_to: Scope) -> None:
        """The policy of that program, which exists, applies to these pods."""
        self._move(self._index.set_selector(program, applies_to.flat()))

    def remove_policy(self, program: str) -> None:
        self._move(self._index.remove_selector(program))

    def drain(self) -> tuple[set[Key], set[str]]:
        """The classes that may have changed since the last drain, and the nodes where one became open or stopped being
        so."""
        changed: set[Key] = {("PolicyClass", name) for name in self._dirty}
        nodes, self._dirty_nodes = self._dirty_nodes, set()
        self._dirty.clear()
        return changed, nodes

    def desired(self, name: str) -> DesiredObject | None:
        """None where no pod is of that class, or no policy applies to it."""
        pod_class = self._by_name.get(name)
        if pod_class is None or not pod_class.programs:
            return None
        spec = PolicyClassSpec(epoch=0, policies=tuple(sorted(pod_class.programs)))
        return DesiredObject("PolicyClass", name, spec, frozenset(pod_class.span))

    def keys(self) -> set[Key]:
        return {("PolicyClass", pod_class.name) for pod_class in self._by_name.values() if pod_class.programs}

    def _add(self, alike: Alike) -> PodClass:
        pod_class = self._by_alike[alike] = PodClass(alike)
        self._by_name[pod_class.name] = pod_class
        namespace, pairs = alike
        self._move(self._index.set_item(pod_class.name, item_labels(namespace, None, dict(pairs))))
        return pod_class

    def _move(self, changes: list[Change[str, str]]) -> None:
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
