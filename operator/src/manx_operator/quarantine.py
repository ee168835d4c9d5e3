"""Addresses that were freed and may be given again once every node has forgotten them, block by block.

Owns: which addresses wait, and what of them was forgotten so far. Must not: know who may still hold one (`forgetting`).

Why a number for each block and not a list: sequences only rise, so one `forgotten` says it for all freed before it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from manx_core.api.v1alpha1 import IPAMBlock
from manx_kube.resources import IPAM_BLOCKS
from manx_operator.forgetting import Item
from manx_operator.known_blocks import KnownBlocks, quarantined
from manx_operator.observed import Key


@dataclass(slots=True)
class Quarantine:
    """`is_gone(node)`: whether the node is gone, so that nobody will free what is allocated in its blocks."""

    known: KnownBlocks
    is_gone: Callable[[str], bool]
    _forgotten: dict[str, int] = field(default_factory=dict)
    _clear: set[str] = field(default_factory=set)

    def waiting(self) -> set[Item]:
        """Every address that waits to be forgotten."""
        return {item for block in self.known.observed.all(IPAM_BLOCKS) for item in self._items(block)}

    def forget(self, clear: Collection[Item]) -> set[Key]:
        """These may be given again; returns the blocks concerned."""
        by_block: dict[str, set[Item]] = {}
        for item in clear:
            by_block.setdefault(item.block, set()).add(item)
        for name, items in by_block.items():
            block = self.known.get(name)
            if block is not None:
                self._forget_in(block, items)
        return {Key(IPAM_BLOCKS, name) for name in by_block}

    def forgotten(self, block: IPAMBlock) -> int:
        """Up to which sequence the block's freed addresses may be given again."""
        return max(block.spec.forgotten, self._forgotten.get(block.metadata.name, 0))

    def may_go(self, block: IPAMBlock) -> bool:
        """Whether a block that is released can be deleted."""
        if block.spec.state != "Releasing":
            return False
        if self.is_gone(block.spec.node):
            return block.metadata.name in self._clear
        return block.status.released and not block.status.allocations and not quarantined(block)

    def drop(self, name: str) -> None:
        """The block is not there any more."""
        self._clear.discard(name)
        self._forgotten.pop(name, None)

    def _items(self, block: IPAMBlock) -> Iterator[Item]:
        meta = block.metadata
        if block.spec.state == "Releasing" and self.is_gone(block.spec.node):
            addresses = {allocation.address for allocation in block.status.allocations}
            addresses |= {freed.address for freed in block.status.freed}
            yield from (Item(meta.name, meta.uid, address, -1) for address in sorted(addresses))
            yield Item(meta.name, meta.uid, "", -1)  # a block without any goes the same way
            return
        for freed in block.status.freed:
            if freed.sequence > block.spec.forgotten:
                yield Item(meta.name, meta.uid, freed.address, freed.sequence)

    def _forget_in(self, block: IPAMBlock, clear: set[Item]) -> None:
        left = [item.sequence for item in self._items(block) if item not in clear]
        name = block.metadata.name
        if -1 in {item.sequence for item in clear}:
            if not left:
                self._clear.add(name)
            return
        limit = min(left, default=max(item.sequence for item in clear) + 1)
        found = [item.sequence for item in clear if item.sequence < limit]
        self._forgotten[name] = max(found, default=self._forgotten.get(name, 0))
