"""Which blocks there are and which are planned, by node.

Owns: that index, and the names that others took. Must not: decide anything; `blocks` does.

Why planned blocks count at once: two nodes planned in one step must not be given the same block.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from manx_core.api.v1alpha1 import IPAMBlock, IPAMBlockSpec
from manx_core.ipam import need
from manx_core.ipam.blocks import block_name, cidr_of, size, version
from manx_kube.resources import IPAM_BLOCKS
from manx_operator.observed import Key, Observed


@dataclass(slots=True)
class KnownBlocks:
    """`planned`, `taken_by_others` and `releasing` are known only here, and found anew after a failover."""

    observed: Observed
    planned: dict[str, IPAMBlockSpec] = field(default_factory=dict)
    taken_by_others: set[str] = field(default_factory=set)
    releasing: set[str] = field(default_factory=set)
    _by_node: dict[str, set[str]] = field(default_factory=dict)
    _node_of: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for block in self.observed.all(IPAM_BLOCKS):
            self.changed(block.metadata.name)

    def changed(self, name: str) -> set[str]:
        """What is at the API server may be another; returns the nodes concerned."""
        block = self.get(name)
        old, new = self._node_of.pop(name, ""), block.spec.node if block is not None else ""
        concerned = {old, new}
        if old and old != new:
            self._by_node[old].discard(name)
        if new:
            self._node_of[name] = new
            self._by_node.setdefault(new, set()).add(name)
            planned = self.planned.pop(name, None)
            concerned.add(planned.node if planned is not None else "")
            self.taken_by_others.discard(name)
        else:
            self.releasing.discard(name)
        return concerned - {""}

    def get(self, name: str) -> IPAMBlock | None:
        found: IPAMBlock | None = self.observed.get(Key(IPAM_BLOCKS, name))
        return found

    def nodes(self) -> set[str]:
        """Those that have blocks, or had."""
        return set(self._by_node)

    def names_of(self, node: str) -> tuple[str, ...]:
        """Of the node's blocks that are there."""
        return tuple(sorted(self._by_node.get(node, ())))

    def of(self, node: str) -> list[IPAMBlock]:
        return [found for name in self.names_of(node) if (found := self.get(name)) is not None]

    def planned_for(self, node: str) -> list[IPAMBlockSpec]:
        return [spec for spec in self.planned.values() if spec.node == node]

    def drop_node(self, node: str) -> None:
        """The node has no blocks any more."""
        self._by_node.pop(node, None)

    def drop_planned(self, node: str) -> None:
        for name in [name for name, spec in self.planned.items() if spec.node == node]:
            del self.planned[name]

    def keys_of(self, nodes: Iterable[str]) -> set[Key]:
        """The keys of these nodes' blocks, planned ones too."""
        wanted = set(nodes)
        names = {name for node in wanted for name in self._by_node.get(node, ())}
        names |= {name for name, spec in self.planned.items() if spec.node in wanted}
        return {Key(IPAM_BLOCKS, name) for name in names}

    def cidrs(self) -> list[str]:
        """All that may not be given to anybody: blocks there, blocks planned, and those that others took."""
        there = [block.spec.cidr for block in self.observed.all(IPAM_BLOCKS)]
        others = [cidr_of(name) for name in self.taken_by_others]
        return [*there, *others, *(spec.cidr for spec in self.planned.values())]

    def families(self, node: str) -> set[int]:
        """Of the blocks from which the node may take addresses."""
        return {version(block.spec.cidr) for block in self.of(node) if self.is_usable(block)}

    def uses(self, node: str, family: int) -> list[need.BlockUse]:
        """How full the node's blocks of one family are, planned ones too."""
        there = [self._use(block) for block in self.of(node) if version(block.spec.cidr) == family]
        planned = [spec.cidr for spec in self.planned_for(node) if version(spec.cidr) == family]
        return there + [need.BlockUse(block_name(cidr), size(cidr)) for cidr in planned]

    def _use(self, block: IPAMBlock) -> need.BlockUse:
        return need.BlockUse(
            block.metadata.name,
            size(block.spec.cidr),
            len(block.status.allocations),
            quarantined(block),
            self.is_usable(block),
        )

    def is_usable(self, block: IPAMBlock) -> bool:
        """Whether new addresses may come from it."""
        return block.spec.state == "Active" and block.metadata.name not in self.releasing


def quarantined(block: IPAMBlock) -> int:
    """How many freed addresses may not be given again yet."""
    return sum(freed.sequence > block.spec.forgotten for freed in block.status.freed)
