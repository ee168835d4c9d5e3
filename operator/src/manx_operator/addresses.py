"""Whose address is whose, as far as the operator believes it.

Owns: from agents' allocations and the pods that exist to the addresses that count in policy. Must not: allocate.

An allocation is believed only if the pod of that uid exists, runs on the node that the block belongs to, and the
address lies in the block: an agent can thus put no pod of another node, and no address of another's block, into any
group. (That it writes only to its own blocks, the API server sees to.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from manx_core.api.core_v1 import Pod
from manx_core.api.v1alpha1 import Allocation, IPAMBlock
from manx_core.ipam.blocks import holds

PodKey = tuple[str, str]
Tell = Callable[[PodKey, str, tuple[str, ...]], None]
"""(pod, uid, addresses): what the policy model's set_addresses takes."""


class Addresses:
    """`pods`: the cache; `tell`: gets each pod's addresses whenever they change."""

    def __init__(self, pods: Mapping[PodKey, Pod], tell: Tell) -> None:
        self._pods = pods
        self._tell = tell
        self._blocks: dict[str, IPAMBlock] = {}
        self._by_pod: dict[PodKey, dict[str, tuple[Allocation, ...]]] = {}
        self._told: dict[PodKey, tuple[str, tuple[str, ...]]] = {}

    def block_changed(self, name: str, block: IPAMBlock | None) -> None:
        """None: gone."""
        old = self._blocks.pop(name, None)
        if block is not None:
            self._blocks[name] = block
        before, after = _grouped(old), _grouped(block)
        moved = old is not None and block is not None and _place(old) != _place(block)
        for key in before.keys() | after.keys():
            if moved or before.get(key) != after.get(key):
                self._set(key, name, after.get(key, ()))
                self.pod_changed(key)

    def pod_changed(self, key: PodKey) -> None:
        """The pod came, went or is another."""
        pod, allocations = self._pods.get(key), self._by_pod.get(key, {})
        uid = pod.metadata.uid if pod is not None else ""
        found = tuple(sorted(self._believed(pod, allocations))) if pod is not None else ()
        told_uid, told = self._told.get(key, ("", ()))
        if told and told_uid != uid:
            self._tell(key, told_uid, ())
        if found:
            self._told[key] = (uid, found)
        else:
            self._told.pop(key, None)
        if found != (told if told_uid == uid else ()):
            self._tell(key, uid, found)

    def allocated(self, key: PodKey, uid: str) -> bool:
        """Whether the pod of that uid has an address, in any block."""
        return any(found.uid == uid for held in self._by_pod.get(key, {}).values() for found in held)

    def _set(self, key: PodKey, block: str, allocations: tuple[Allocation, ...]) -> None:
        held = self._by_pod.setdefault(key, {})
        held.pop(block, None)
        if allocations:
            held[block] = allocations
        if not held:
            del self._by_pod[key]

    def _believed(self, pod: Pod, held: Mapping[str, Iterable[Allocation]]) -> set[str]:
        return {
            found.address
            for name, allocations in held.items()
            for found in allocations
            if believable(pod, found, self._blocks[name])
        }


def believable(pod: Pod, allocation: Allocation, block: IPAMBlock) -> bool:
    """Whether this pod may have this address by this block."""
    return (
        allocation.uid == pod.metadata.uid
        and block.spec.node == pod.spec.node_name
        and holds(block.spec.cidr, allocation.address)
    )


def _grouped(block: IPAMBlock | None) -> dict[PodKey, tuple[Allocation, ...]]:
    found: dict[PodKey, list[Allocation]] = {}
    for allocation in block.status.allocations if block is not None else ():
        found.setdefault((allocation.namespace, allocation.name), []).append(allocation)
    return {key: tuple(allocations) for key, allocations in found.items()}


def _place(block: IPAMBlock) -> tuple[str, str]:
    return block.spec.node, block.spec.cidr
