"""Blocks of addresses: their names, their place in a pool, and which one to take next.

Owns: the arithmetic of CIDRs. Must not: know nodes' needs (need.py does) or objects.

A block's name is its CIDR, so that two blocks of one CIDR cannot exist: creating the object takes it. Blocks of other
sizes (a pool deleted and made anew) may lie in a pool too, so "free" means "overlaps none", not "name not taken".
IPv4 only; all 2**(32 - length) addresses of a block are usable, as every pod's address is a /32 on its own link.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

MIN_BLOCK_LENGTH = 20
MAX_BLOCK_LENGTH = 32
"""Prefix lengths of a block that Calico allows for IPv4."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Where blocks come from. `block_length`: the prefix length of its blocks, at least the CIDR's own."""

    name: str
    cidr: IPv4Network
    block_length: int = 26

    @property
    def blocks(self) -> int:
        """How many blocks it has room for."""
        return 1 << max(0, self.block_length - self.cidr.prefixlen)

    @property
    def block_addresses(self) -> int:
        return 1 << (32 - self.block_length)

    def block(self, index: int) -> IPv4Network:
        return IPv4Network((int(self.cidr.network_address) + index * self.block_addresses, self.block_length))


def block_name(cidr: IPv4Network | str) -> str:
    """ "10.244.0.64/26" → "10-244-0-64-26"."""
    return str(cidr).replace(".", "-").replace("/", "-")


def network(cidr: str) -> IPv4Network | None:
    """A CIDR with no bit set beyond its prefix; None for anything else."""
    try:
        return IPv4Network(cidr)
    except (AddressValueError, NetmaskValueError, ValueError):
        return None


def address(text: str) -> IPv4Address | None:
    """An IPv4 address; None for anything else."""
    try:
        return IPv4Address(text)
    except (AddressValueError, ValueError):
        return None


def holds(cidr: str, text: str) -> bool:
    """Whether a block of this CIDR holds this address; False where either is malformed."""
    block, found = network(cidr), address(text)
    return block is not None and found is not None and found in block


def size(cidr: str) -> int:
    """How many addresses a block has; 0 where malformed."""
    block = network(cidr)
    return block.num_addresses if block is not None else 0


class Taken:
    """The blocks of one pool that are not free, by index. `cidrs`: all blocks there are, whatever pool they name."""

    def __init__(self, pool: Pool, cidrs: Iterable[str]) -> None:
        self.pool = pool
        self._indices: set[int] = set()
        for cidr in cidrs:
            self.add(cidr)

    def add(self, cidr: str) -> None:
        block = network(cidr)
        if block is not None and block.overlaps(self.pool.cidr):
            self._indices.update(self._covered(block))

    def __len__(self) -> int:
        return len(self._indices)

    def _covered(self, block: IPv4Network) -> range:
        start, step = int(self.pool.cidr.network_address), self.pool.block_addresses
        first = max(0, (int(block.network_address) - start) // step)
        last = min(self.pool.blocks - 1, (int(block.broadcast_address) - start) // step)
        return range(first, last + 1)

    def choose(self, node: str) -> IPv4Network | None:
        """The next free block for this node, None if the pool is full. Nodes start at places spread over the pool by
        their names, so that two operators, or one that has lost its memory, rarely want the same one, and a node's
        blocks lie side by side."""
        count = self.pool.blocks
        if len(self._indices) >= count:
            return None
        start = int.from_bytes(hashlib.sha256(node.encode()).digest()[:8]) % count
        index = next(i % count for i in range(start, start + count) if i % count not in self._indices)
        return self.pool.block(index)


def choose_block(pools: Iterable[Pool], node: str, cidrs: Collection[str]) -> tuple[Pool, IPv4Network] | None:
    """The next free block for a node, from the first pool that has one; None if all are full."""
    for pool in pools:
        block = Taken(pool, cidrs).choose(node)
        if block is not None:
            return pool, block
    return None
