"""Which pods are on which node, and which of them have no address yet.

Owns: that index. Must not: know blocks (it is told who has an address).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from manx_core.api.core_v1 import Pod
from manx_core.policy import is_endpoint

PodKey = tuple[str, str]


class PodsByNode:
    """`pods`: the cache; `allocated(key, uid)`: whether that pod has an address."""

    def __init__(self, pods: Mapping[PodKey, Pod], allocated: Callable[[PodKey, str], bool]) -> None:
        self._pods = pods
        self._allocated = allocated
        self._node_of: dict[PodKey, str] = {}
        self._by_node: dict[str, set[PodKey]] = {}
        for key in pods:
            self.changed(key)

    def changed(self, key: PodKey, before: Pod | None = None) -> Iterable[str]:
        """The pod came, went or is another than `before` (None: not known); returns the nodes of which `pods` or
        `waiting` may say something else now."""
        pod = self._pods.get(key)
        if pod is not None and before is not None and _claim(pod) == _claim(before):
            return ()
        old, new = self._node_of.get(key, ""), pod.spec.node_name if pod is not None else ""
        if old != new:
            self._move(key, old, new)
        return {old, new} - {""}

    def _move(self, key: PodKey, old: str, new: str) -> None:
        if old:
            self._by_node[old].discard(key)
            if not self._by_node[old]:
                del self._by_node[old]
            del self._node_of[key]
        if new:
            self._by_node.setdefault(new, set()).add(key)
            self._node_of[key] = new

    def pods(self, node: str) -> int:
        return len(self._by_node.get(node, ()))

    def waiting(self, node: str) -> int:
        """Pods that will want an address. One that is being deleted and has none will not."""
        return sum(self._waits(key, self._pods[key]) for key in self._by_node.get(node, ()) if key in self._pods)

    def _waits(self, key: PodKey, pod: Pod) -> bool:
        return _wants(pod) and not self._allocated(key, pod.metadata.uid)


def _wants(pod: Pod) -> bool:
    """Whether the pod has an address or will want one."""
    return is_endpoint(pod) and pod.metadata.deletion_timestamp is None


def _claim(pod: Pod) -> tuple[str, str, bool]:
    """All of a pod that is read here."""
    return pod.metadata.uid, pod.spec.node_name, _wants(pod)
