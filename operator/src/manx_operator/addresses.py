"""Whose address is whose, as far as the operator believes it.

Owns: from agents' allocations and the pods that exist to the addresses that count in policy. Must not: allocate.

An allocation is believed only if the pod of that uid exists, runs on the node that the block belongs to, and the
address lies in the block: an agent can thus put no pod of another node, and no address of another's block, into any
group. (That it writes only to its own blocks, the API server sees to.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from manx_core.api.core_v1 import Pod
from manx_core.api.v1alpha1 import Allocation, IPAMBlock
from manx_core.ipam.blocks import holds

PodKey = tuple[str, str]
Tell = Callable[[PodKey, str, tuple[str, ...]], None]
"""(pod, uid, addresses): what the policy model's set_addresses takes."""


_Held = tuple[str, Allocation]
"""A block's name, and an allocation of it."""


class Addresses:
    """`pods`: the cache; `tell`: gets each pod's addresses whenever they change."""

    def __init__(self, pods: Mapping[PodKey, Pod], tell: Tell) -> None:
        self._pods = pods
        self._tell = tell
        self._blocks: dict[str, IPAMBlock] = {}
        self._by_pod: dict[PodKey, tuple[_Held, ...]] = {}
        self._told: dict[PodKey, tuple[str, tuple[str, ...]]] = {}
        """The pods that have addresses, each with its uid."""

    def block_changed(self, name: str, block: IPAMBlock | None) -> None:
        """None: gone."""
        old = self._blocks.pop(name, None)
        if block is not None:
            self._blocks[name] = block
        before, after = _grouped(name, old), _grouped(name, block)
        moved = old is not None and block is not None and _place(old) != _place(block)
        for key in (before.keys() | after.keys()) if before else after:
            if moved or before.get(key) != after.get(key):
                self._set(key, name, after.get(key, ()))
                self.pod_changed(key)

    def pod_changed(self, key: PodKey) -> None:
        """The pod came, went or is another."""
        pod, told = self._pods.get(key), self._told.get(key)
        found = self._believed(pod, self._by_pod.get(key, ())) if pod is not None else ()
        now = (pod.metadata.uid, found) if pod is not None and found else None
        if now == told:
            return
        if told is not None and (now is None or now[0] != told[0]):
            del self._told[key]
            self._tell(key, told[0], ())
        if now is not None:
            self._told[key] = now
            self._tell(key, *now)

    def allocated(self, key: PodKey, uid: str) -> bool:
        """Whether the pod of that uid has an address, in any block."""
        return any(found.uid == uid for _, found in self._by_pod.get(key, ()))

    def _set(self, key: PodKey, block: str, allocations: tuple[_Held, ...]) -> None:
        held = self._by_pod.get(key)
        if held is not None:
            allocations = (*(one for one in held if one[0] != block), *allocations)
        if allocations:
            self._by_pod[key] = allocations
        elif held is not None:
            del self._by_pod[key]

    def _believed(self, pod: Pod, held: tuple[_Held, ...]) -> tuple[str, ...]:
        """Sorted, each once."""
        found = [one.address for name, one in held if believable(pod, one, self._blocks[name])]
        return tuple(sorted(set(found))) if len(found) > 1 else tuple(found)


def believable(pod: Pod, allocation: Allocation, block: IPAMBlock) -> bool:
    """Whether this pod may have this address by this block."""
    return (
        allocation.uid == pod.metadata.uid
        and block.spec.node == pod.spec.node_name
        and holds(block.spec.cidr, allocation.address)
    )


def _grouped(name: str, block: IPAMBlock | None) -> dict[PodKey, tuple[_Held, ...]]:
    """The block's allocations, by pod."""
    found: dict[PodKey, tuple[_Held, ...]] = {}
    for one in block.status.allocations if block is not None else ():
        key = (one.namespace, one.name)
        others = found.get(key)
        found[key] = ((name, one),) if others is None else (*others, (name, one))
    return found


def _place(block: IPAMBlock) -> tuple[str, str]:
    return block.spec.node, block.spec.cidr
