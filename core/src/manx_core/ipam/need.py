"""How many addresses a node needs, and which of its blocks it does not.

Owns: the balance of one node. Must not: choose blocks (blocks.py does), or know time.

Counted as used: what is allocated, what is freed but may not be given again yet, and every pod that is scheduled to
the node and has no address so far. Beyond that a quarter of a block (at most 16 addresses) is kept free, so that the
next block is there before the last is full. A block goes back only if twice that stays free without it, so that a pod
that comes and goes does not make a block come and go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_HEADROOM = 16


@dataclass(frozen=True, slots=True)
class BlockUse:
    """One of a node's blocks. `usable`: new addresses may come from it (Active)."""

    name: str
    addresses: int
    allocated: int = 0
    quarantined: int = 0
    usable: bool = True

    @property
    def empty(self) -> bool:
        return not self.allocated and not self.quarantined


def headroom(block_addresses: int) -> int:
    """Addresses to be kept free on a node."""
    return max(1, min(MAX_HEADROOM, block_addresses // 4))


def free(blocks: Sequence[BlockUse], waiting: int) -> int:
    """Addresses that can be given, less the pods that wait for one; negative if there are too few."""
    usable = [block for block in blocks if block.usable]
    return sum(block.addresses - block.allocated - block.quarantined for block in usable) - waiting


def missing(blocks: Sequence[BlockUse], waiting: int, block_addresses: int) -> int:
    """How many more blocks of this many addresses the node needs. A node always has one."""
    lacking = headroom(block_addresses) - free(blocks, waiting)
    wanted = max(0, -(-lacking // block_addresses))
    return wanted or (0 if any(block.usable for block in blocks) else 1)


def surplus(blocks: Sequence[BlockUse], waiting: int) -> str | None:
    """The name of one empty block that the node could do without, if there is one."""
    usable = [block for block in blocks if block.usable]
    left = free(blocks, waiting)
    for block in sorted(usable, key=lambda block: block.name, reverse=True):
        rest = left - block.addresses
        if block.empty and len(usable) > 1 and rest >= 2 * headroom(block.addresses):
            return block.name
    return None
