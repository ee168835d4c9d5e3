"""Endpoints: the pods that policy applies to, each in its class, by node and by namespace.

Owns: which pods exist, what counts of them, and each node's list. Must not: know policies; it is told which labels they
read in each namespace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from manx_core.api.core_v1 import Pod
from manx_core.api.v1alpha1 import Endpoint
from manx_core.policy import NamedPort, PodKey, is_endpoint, named_ports
from manx_operator.model.classes import Alike, ClassTable, PodClass


@dataclass(frozen=True, slots=True)
class PodFacts:
    """All of a pod that the model depends on."""

    uid: str
    node: str
    labels: dict[str, str]
    ports: tuple[NamedPort, ...]


def facts_of(pod: Pod | None) -> PodFacts | None:
    """None where there is no pod, or it is no endpoint."""
    if pod is None or not is_endpoint(pod):
        return None
    return PodFacts(pod.metadata.uid, pod.spec.node_name, pod.metadata.labels, named_ports(pod))


@dataclass(slots=True)
class _Namespace:
    """A namespace's pods, and the labels that its policies read, each with the number of policies."""

    pods: dict[PodKey, None] = field(default_factory=dict)
    read: Counter[str] = field(default_factory=Counter)


class EndpointTable:
    """All endpoints."""

    def __init__(self, classes: ClassTable) -> None:
        self._classes = classes
        self._facts: dict[PodKey, PodFacts] = {}
        self._class_of: dict[PodKey, PodClass] = {}
        self._by_node: dict[str, dict[PodKey, None]] = {}
        self._namespaces: dict[str, _Namespace] = {}
        self._dirty: set[str] = set()

    # --- pods

    def facts(self, pod: PodKey) -> PodFacts | None:
        return self._facts.get(pod)

    def put(self, pod: PodKey, facts: PodFacts) -> None:
        """The pod is an endpoint. Its node stays the same: else it is removed first."""
        old = self._facts.get(pod)
        self._facts[pod] = facts
        if old is None or old.uid != facts.uid:
            self._dirty.add(facts.node)
        self._by_node.setdefault(facts.node, {})[pod] = None
        self._namespace(pod[0]).pods[pod] = None
        self._classify(pod)

    def remove(self, pod: PodKey) -> None:
        """The pod, which was an endpoint, is none any more."""
        facts = self._facts.pop(pod)
        self._classes.leave(self._class_of.pop(pod), facts.node)
        self._dirty.add(facts.node)
        del self._by_node[facts.node][pod], self._namespaces[pod[0]].pods[pod]
        if not self._by_node[facts.node]:
            del self._by_node[facts.node]
        self._forget_empty(pod[0])

    def in_namespace(self, name: str) -> tuple[PodKey, ...]:
        return tuple(self._namespaces[name].pods) if name in self._namespaces else ()

    # --- labels that policies read

    def read(self, namespace: str, keys: Iterable[str]) -> None:
        """A policy more of the namespace reads these labels."""
        state = self._namespace(namespace)
        first = {key for key in keys if not state.read[key]}
        state.read.update(keys)
        self._reclassify(state, first)

    def unread(self, namespace: str, keys: Iterable[str]) -> None:
        """A policy less of the namespace reads these labels."""
        state = self._namespace(namespace)
        state.read.subtract(keys)
        last = {key for key in keys if not state.read[key]}
        for key in last:
            del state.read[key]
        self._reclassify(state, last)
        self._forget_empty(namespace)

    # --- what comes of it

    def drain(self) -> set[str]:
        """The nodes whose endpoints may have changed since the last drain."""
        changed, self._dirty = self._dirty, set()
        return changed

    def nodes(self) -> frozenset[str]:
        return frozenset(self._by_node)

    def endpoints(self, node: str) -> tuple[Endpoint, ...]:
        """Sorted by namespace and name."""
        return tuple(self._endpoint(pod) for pod in sorted(self._by_node.get(node, ())))

    def _endpoint(self, pod: PodKey) -> Endpoint:
        return Endpoint(
            namespace=pod[0],
            name=pod[1],
            uid=self._facts[pod].uid,
            policy_class=self._class_of[pod].effective_name(),
        )

    # --- classes

    def _classify(self, pod: PodKey) -> None:
        """New class first, so that what both need is not given up in between."""
        facts, old = self._facts[pod], self._class_of.get(pod)
        alike = self._alike(pod[0], facts.labels)
        if old is not None and old.alike == alike:
            return
        new = self._class_of[pod] = self._classes.join(alike, facts.node)
        if old is None:
            return
        if old.effective_name() != new.effective_name():
            self._dirty.add(facts.node)
        self._classes.leave(old, facts.node)

    def _alike(self, namespace: str, labels: dict[str, str]) -> Alike:
        read = self._namespaces[namespace].read
        return namespace, tuple(sorted((key, labels[key]) for key in read if key in labels))

    def _reclassify(self, state: _Namespace, keys: set[str]) -> None:
        if not keys:
            return
        for pod in state.pods:
            if not keys.isdisjoint(self._facts[pod].labels):
                self._classify(pod)

    def _namespace(self, name: str) -> _Namespace:
        return self._namespaces.setdefault(name, _Namespace())

    def _forget_empty(self, name: str) -> None:
        state = self._namespaces[name]
        if not state.pods and not state.read:
            del self._namespaces[name]
