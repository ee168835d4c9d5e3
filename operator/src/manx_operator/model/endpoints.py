"""Endpoints: the pods that policy applies to, each in its class, by node, by namespace and by service account.

Owns: which pods exist, what counts of them, and each node's list. Must not: know policies; it is told what they read of
the pods of one namespace, or of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from manx_core.api.core_v1 import Pod
from manx_core.api.v1alpha1 import Endpoint
from manx_core.policy import NamedPort, PodKey, is_endpoint, named_ports
from manx_core.policy.scope import SERVICE_ACCOUNT
from manx_operator.model.classes import Alike, ClassTable, PodClass
from manx_operator.model.types import ObjectKey

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class PodFacts:
    """All of a pod that the model depends on."""

    uid: str
    node: str
    labels: dict[str, str]
    ports: tuple[NamedPort, ...]
    service_account: str = ""


def facts_of(pod: Pod | None) -> PodFacts | None:
    """None where there is no pod, or it is no endpoint."""
    if pod is None or not is_endpoint(pod):
        return None
    spec, meta = pod.spec, pod.metadata
    return PodFacts(meta.uid, spec.node_name, meta.labels, named_ports(pod), spec.service_account_name)


@dataclass(slots=True)
class _Namespace:
    """A namespace's pods, and what policies of that namespace read of them, each with the number of policies."""

    pods: dict[PodKey, None] = field(default_factory=dict)
    read: Counter[str] = field(default_factory=Counter)


class EndpointTable:
    """All endpoints."""

    def __init__(self, classes: ClassTable) -> None:
        self._classes = classes
        self._facts: dict[PodKey, PodFacts] = {}
        self._class_of: dict[PodKey, PodClass] = {}
        self._by_node: dict[str, dict[PodKey, None]] = {}
        self._by_account: dict[ObjectKey, dict[PodKey, None]] = {}
        self._awaited: set[ObjectKey] = set()
        """Service accounts of which nobody can tell yet what they are."""
        self._namespaces: dict[str, _Namespace] = {}
        self._read: Counter[str] = Counter()
        """What policies without a namespace read."""
        self._dirty: set[str] = set()

    # --- pods

    def facts(self, pod: PodKey) -> PodFacts | None:
        return self._facts.get(pod)

    def put(self, pod: PodKey, facts: PodFacts) -> None:
        """The pod is an endpoint. Its node stays the same: else it is removed first."""
        old = self._facts.get(pod)
        if old is None or old.uid != facts.uid:
            self._dirty.add(facts.node)
        if old is not None and old.service_account != facts.service_account:
            _discard(self._by_account, (pod[0], old.service_account), pod)
        self._facts[pod] = facts
        self._by_node.setdefault(facts.node, {})[pod] = None
        self._by_account.setdefault((pod[0], facts.service_account), {})[pod] = None
        self._namespace(pod[0]).pods[pod] = None
        self._classify(pod)

    def remove(self, pod: PodKey) -> None:
        """The pod, which was an endpoint, is none any more."""
        facts = self._facts.pop(pod)
        self._classes.leave(self._class_of.pop(pod), facts.node)
        self._dirty.add(facts.node)
        _discard(self._by_node, facts.node, pod)
        _discard(self._by_account, (pod[0], facts.service_account), pod)
        del self._namespaces[pod[0]].pods[pod]
        self._forget_empty(pod[0])

    def in_namespace(self, name: str) -> tuple[PodKey, ...]:
        return tuple(self._namespaces[name].pods) if name in self._namespaces else ()

    def of_service_account(self, key: ObjectKey) -> tuple[PodKey, ...]:
        return tuple(self._by_account.get(key, ()))

    def await_account(self, key: ObjectKey, awaited: bool) -> None:
        """Whether the service account's pods wait for it, closed."""
        (self._awaited.add if awaited else self._awaited.discard)(key)
        self._dirty.update(self._facts[pod].node for pod in self.of_service_account(key))

    # --- what policies read of pods

    def read(self, namespace: str, keys: Iterable[str]) -> None:
        """A policy more of the namespace (empty: of none) reads these of pods' flat labels."""
        counter, keys = self._counter(namespace), _own(keys)
        first = {key for key in keys if not counter[key]}
        counter.update(keys)
        self._reclassify(namespace, first)

    def unread(self, namespace: str, keys: Iterable[str]) -> None:
        """A policy less of the namespace reads these."""
        counter, keys = self._counter(namespace), _own(keys)
        counter.subtract(keys)
        last = {key for key in keys if not counter[key]}
        for key in last:
            del counter[key]
        self._reclassify(namespace, last)
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
        facts = self._facts[pod]
        waits = bool(self._awaited) and (pod[0], facts.service_account) in self._awaited
        found = "" if waits else self._classes.effective_name(self._class_of[pod])
        return Endpoint(namespace=pod[0], name=pod[1], uid=facts.uid, policy_class=found)

    # --- classes

    def _classify(self, pod: PodKey) -> None:
        """New class first, so that what both need is not given up in between."""
        facts, old = self._facts[pod], self._class_of.get(pod)
        alike = self._alike(pod[0], facts)
        if old is not None and old.alike == alike:
            return
        new = self._class_of[pod] = self._classes.join(alike, facts.node)
        if old is None:
            return
        if self._classes.effective_name(old) != self._classes.effective_name(new):
            self._dirty.add(facts.node)
        self._classes.leave(old, facts.node)

    def _alike(self, namespace: str, facts: PodFacts) -> Alike:
        here, everywhere = self._namespaces[namespace].read, self._read
        pairs = [(key, value) for key, value in facts.labels.items() if key in here or key in everywhere]
        if SERVICE_ACCOUNT in here or SERVICE_ACCOUNT in everywhere:
            pairs.append((SERVICE_ACCOUNT, facts.service_account))
        return namespace, tuple(sorted(pairs))

    def _reclassify(self, namespace: str, keys: set[str]) -> None:
        if not keys:
            return
        pods = self._namespaces[namespace].pods if namespace else self._facts
        for pod in pods:
            if SERVICE_ACCOUNT in keys or not keys.isdisjoint(self._facts[pod].labels):
                self._classify(pod)

    # --- namespaces

    def _counter(self, namespace: str) -> Counter[str]:
        return self._namespace(namespace).read if namespace else self._read

    def _namespace(self, name: str) -> _Namespace:
        return self._namespaces.setdefault(name, _Namespace())

    def _forget_empty(self, name: str) -> None:
        state = self._namespaces.get(name)
        if state is not None and not state.pods and not state.read:
            del self._namespaces[name]


def _own(keys: Iterable[str]) -> frozenset[str]:
    """Of flat labels' keys, those by which pods of one namespace differ: labels of their own, which have no colon in
    front, and the service account, which stands for its labels, too."""
    return frozenset(
        SERVICE_ACCOUNT if key.startswith(SERVICE_ACCOUNT) else key
        for key in keys
        if not key.startswith(":") or key.startswith(SERVICE_ACCOUNT)
    )


def _discard(table: dict[K, dict[PodKey, None]], holder: K, pod: PodKey) -> None:
    del table[holder][pod]
    if not table[holder]:
        del table[holder]
