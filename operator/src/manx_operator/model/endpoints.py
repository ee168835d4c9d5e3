"""Endpoints: the pods that policy applies to, by what makes them alike, and by node.

Owns: which pods exist, what counts of them, and each node's list. Must not: know policies; it is told what they read of
the pods of one namespace, or of all.

Pods of one namespace that have the same labels and the same service account have one shape: whatever selects, selects
all of them or none. So labels are matched, and classes found, once for each shape, and a Deployment's pods cost one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from manx_core.api.core_v1 import Pod
from manx_core.policy import NamedPort, PodKey, named_ports
from manx_core.policy.endpoint import Endpoint, line_of
from manx_core.policy.scope import SERVICE_ACCOUNT
from manx_operator.model.classes import Alike, ClassTable, PodClass
from manx_operator.model.groups import Facts
from manx_operator.model.types import ObjectKey

ShapeKey = tuple[str, tuple[tuple[str, str], ...], str]
"""Namespace, sorted labels, service account."""


class Shape:
    """Pods alike. An item of `GroupTable`."""

    __slots__ = ("key", "labels", "pod_class", "pods")

    def __init__(self, key: ShapeKey, labels: Mapping[str, str]) -> None:
        self.key = key
        self.labels = labels
        self.pods: dict[PodKey, PodFacts] = {}
        self.pod_class: PodClass

    @property
    def namespace(self) -> str:
        return self.key[0]

    @property
    def service_account(self) -> str:
        return self.key[2]

    def holders(self) -> Iterator[Facts]:
        return (pod.held for pod in self.pods.values())

    def same_ports(self, ports: tuple[NamedPort, ...]) -> tuple[NamedPort, ...]:
        """These ports, as the one value that the pods have already, if they have."""
        for pod in self.pods.values():
            return pod.ports if pod.ports == ports else ports
        return ports


class PodFacts:
    """All of a pod that the model depends on."""

    __slots__ = ("_line", "_of_class", "addresses", "node", "ports", "shape", "uid")

    def __init__(self, uid: str, node: str, shape: Shape, ports: tuple[NamedPort, ...]) -> None:
        self.uid = uid
        self.node = node
        self.shape = shape
        self.ports = ports
        self.addresses: tuple[str, ...] = ()
        self._line = self._of_class = ""

    def line(self, pod: PodKey, policy_class: str) -> str:
        """As NodeState lists it. It is asked for whenever another pod of the node is another."""
        if not self._line or self._of_class != policy_class:
            self._line = line_of(Endpoint(*pod, self.uid, policy_class, self.ports))
            self._of_class = policy_class
        return self._line

    @property
    def held(self) -> Facts:
        """What it adds to groups."""
        return self.addresses, self.ports


@dataclass(slots=True)
class _Namespace:
    """A namespace's shapes, and what policies of that namespace read of them, each with the number of policies."""

    shapes: dict[Shape, None] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)


class EndpointTable:
    """All endpoints."""

    def __init__(self, classes: ClassTable) -> None:
        self._classes = classes
        self._pods: dict[PodKey, PodFacts] = {}
        self._shapes: dict[ShapeKey, Shape] = {}
        self._by_node: dict[str, dict[PodKey, PodFacts]] = {}
        self._namespaces: dict[str, _Namespace] = {}
        self._read: dict[str, int] = {}
        """What policies without a namespace read."""
        self._awaited: set[ObjectKey] = set()
        """Service accounts of which nobody can tell yet what they are."""
        self._dirty: set[str] = set()

    # --- pods

    def get(self, pod: PodKey) -> PodFacts | None:
        return self._pods.get(pod)

    def facts_of(self, namespace: str, pod: Pod, old: PodFacts | None) -> PodFacts:
        """What counts of this pod, which is an endpoint: `old` itself where that is the same. Its shape may be a new
        one, without pods; then `put` follows."""
        meta, spec = pod.metadata, pod.spec
        labels, account, ports = meta.labels, spec.service_account_name, named_ports(pod)
        if old is not None and old.shape.labels == labels and old.shape.service_account == account:
            if old.uid == meta.uid and old.node == spec.node_name and old.ports == ports:
                return old
            shape = old.shape
        else:
            shape = self._shape(namespace, labels, account)
        return PodFacts(meta.uid, spec.node_name, shape, shape.same_ports(ports))

    def put(self, pod: PodKey, facts: PodFacts) -> None:
        """The pod is an endpoint. Its node stays the same: else it is removed first."""
        old, shape, node = self._pods.get(pod), facts.shape, facts.node
        if old is None or _seen(old) != _seen(facts):
            self._dirty.add(node)
        self._pods[pod] = shape.pods[pod] = facts
        of_node = self._by_node.get(node)
        if of_node is None:
            of_node = self._by_node[node] = {}
        of_node[pod] = facts
        if old is None:
            self._classes.join(shape.pod_class, node)
        elif old.shape is not shape:
            self._go_over(old.shape.pod_class, shape.pod_class, (node,))
            del old.shape.pods[pod]

    def remove(self, pod: PodKey) -> Shape:
        """The pod, which was an endpoint, is none any more. Returns its shape."""
        facts = self._pods.pop(pod)
        self._dirty.add(facts.node)
        of_node = self._by_node[facts.node]
        del of_node[pod], facts.shape.pods[pod]
        if not of_node:
            del self._by_node[facts.node]
        self._classes.leave(facts.shape.pod_class, facts.node)
        return facts.shape

    # --- shapes

    def await_account(self, key: ObjectKey, awaited: bool) -> None:
        """Whether the service account's pods wait for it, closed."""
        (self._awaited.add if awaited else self._awaited.discard)(key)
        self._dirty.update(pod.node for shape in self.of_service_account(key) for pod in shape.pods.values())

    def in_namespace(self, name: str) -> tuple[Shape, ...]:
        return tuple(self._namespaces[name].shapes) if name in self._namespaces else ()

    def of_service_account(self, key: ObjectKey) -> tuple[Shape, ...]:
        return tuple(shape for shape in self.in_namespace(key[0]) if shape.service_account == key[1])

    def discard(self, shape: Shape) -> bool:
        """Whether the shape, having no pods, is no more."""
        if shape.pods:
            return False
        del self._shapes[shape.key], self._namespaces[shape.namespace].shapes[shape]
        self._forget_empty(shape.namespace)
        return True

    def _shape(self, namespace: str, labels: Mapping[str, str], account: str) -> Shape:
        key = (namespace, tuple(sorted(labels.items())), account)
        found = self._shapes.get(key)
        if found is None:
            found = self._shapes[key] = Shape(key, labels)
            self._namespace(namespace).shapes[found] = None
            found.pod_class = self._classes.of(self._alike(found))
        return found

    # --- what policies read of pods

    def read(self, namespace: str, keys: frozenset[str]) -> None:
        """A policy more of the namespace (empty: of none) reads these of pods' flat labels."""
        counts, first = self._counts(namespace), set()
        for key in _own(keys):
            before = counts.get(key, 0)
            counts[key] = before + 1
            if not before:
                first.add(key)
        self._reclassify(namespace, first)

    def unread(self, namespace: str, keys: frozenset[str]) -> None:
        """A policy less of the namespace reads these."""
        counts, last = self._counts(namespace), set()
        for key in _own(keys):
            counts[key] -= 1
            if not counts[key]:
                del counts[key]
                last.add(key)
        self._reclassify(namespace, last)
        self._forget_empty(namespace)

    # --- what comes of it

    def drain(self) -> set[str]:
        """The nodes whose endpoints may have changed since the last drain."""
        changed, self._dirty = self._dirty, set()
        return changed

    def nodes(self) -> frozenset[str]:
        return frozenset(self._by_node)

    def lines(self, node: str) -> tuple[str, ...]:
        """The node's endpoints, sorted by namespace and name."""
        found = sorted(self._by_node.get(node, {}).items(), key=_pod_of)
        return tuple([facts.line(pod, self._class_named(facts.shape)) for pod, facts in found])

    def _class_named(self, shape: Shape) -> str:
        waits = bool(self._awaited) and (shape.namespace, shape.service_account) in self._awaited
        return "" if waits else self._classes.effective_name(shape.pod_class)

    # --- classes

    def _alike(self, shape: Shape) -> Alike:
        here, everywhere = self._namespaces[shape.namespace].read, self._read
        pairs = [pair for pair in shape.labels.items() if pair[0] in here or pair[0] in everywhere]
        if SERVICE_ACCOUNT in here or SERVICE_ACCOUNT in everywhere:
            pairs.append((SERVICE_ACCOUNT, shape.service_account))
        return shape.namespace, tuple(sorted(pairs))

    def _reclassify(self, namespace: str, keys: set[str]) -> None:
        if not keys:
            return
        for shape in self._namespaces[namespace].shapes if namespace else self._shapes.values():
            if SERVICE_ACCOUNT in keys or not keys.isdisjoint(shape.labels):
                self._classify(shape)

    def _classify(self, shape: Shape) -> None:
        old, alike = shape.pod_class, self._alike(shape)
        if old.alike != alike:
            shape.pod_class = self._classes.of(alike)
            self._go_over(old, shape.pod_class, [facts.node for facts in shape.pods.values()])

    def _go_over(self, old: PodClass, new: PodClass, nodes: Iterable[str]) -> None:
        """Pods on these nodes. New class first, so that what both need is not given up in between."""
        if old is new:
            return
        for node in nodes:
            self._classes.join(new, node)
        if self._classes.effective_name(old) != self._classes.effective_name(new):
            self._dirty.update(nodes)
        for node in nodes:
            self._classes.leave(old, node)

    # --- namespaces

    def _counts(self, namespace: str) -> dict[str, int]:
        return self._namespace(namespace).read if namespace else self._read

    def _namespace(self, name: str) -> _Namespace:
        found = self._namespaces.get(name)
        if found is None:
            found = self._namespaces[name] = _Namespace()
        return found

    def _forget_empty(self, name: str) -> None:
        state = self._namespaces.get(name)
        if state is not None and not state.shapes and not state.read:
            del self._namespaces[name]


@lru_cache(maxsize=1024)
def _own(keys: frozenset[str]) -> frozenset[str]:
    """Of flat labels' keys, those by which pods of one namespace differ: labels of their own, which have no colon in
    front, and the service account, which stands for its labels, too."""
    return frozenset(
        SERVICE_ACCOUNT if key.startswith(SERVICE_ACCOUNT) else key
        for key in keys
        if not key.startswith(":") or key.startswith(SERVICE_ACCOUNT)
    )


def _seen(facts: PodFacts) -> tuple[object, ...]:
    """What the node is told of the pod, beside its class."""
    return facts.uid, facts.ports, facts.shape.service_account


def _pod_of(entry: tuple[PodKey, PodFacts]) -> PodKey:
    return entry[0]
