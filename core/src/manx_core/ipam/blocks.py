"""Blocks of addresses: their names, their place in a pool, and which one to take next.

Owns: the arithmetic of CIDRs. Must not: know nodes' needs (need.py does) or objects.

A block's name is its CIDR, so that two blocks of one CIDR cannot exist: creating the object takes it. Blocks of other
sizes (a pool deleted and made anew) may lie in a pool too, so "free" means "overlaps none", not "name not taken".
All addresses of a block are usable, as every pod's address is a /32 or /128 on its own link.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

IPV6_GROUPS = 8
WIDE = 1 << 16
"""More places than any block of a size that a pool may have takes of another pool (2**12)."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Where blocks come from. `block_length`: the prefix length of its blocks, at least the CIDR's own."""

    name: str
    cidr: Network
    block_length: int = 26

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.cidr.version

    @property
    def blocks(self) -> int:
        """How many blocks it has room for."""
        return 1 << max(0, self.block_length - self.cidr.prefixlen)

    @property
    def block_addresses(self) -> int:
        return 1 << (self.cidr.max_prefixlen - self.block_length)

    def block(self, index: int) -> Network:
        start = int(self.cidr.network_address) + index * self.block_addresses
        kind = IPv4Network if self.version == 4 else IPv6Network
        return kind((start, self.block_length))


def block_name(cidr: Network | str) -> str:
    """ "10.244.0.64/26" → "10-244-0-64-26", "fd00::40/122" → "fd00--40-122". Of the text that RFC 5952 prescribes, so
    that a CIDR has one name; none begins with "::", since pools are not of ::/8 (`api.ip_pool`)."""
    return re.sub("[.:/]", "-", str(cidr))


def cidr_of(name: str) -> str:
    """The inverse of block_name."""
    text, _, length = name.rpartition("-")
    parts = text.split("-")
    is_ipv6 = "" in parts or len(parts) == IPV6_GROUPS
    return f"{(':' if is_ipv6 else '.').join(parts)}/{length}"


@lru_cache(maxsize=4096)
def network(cidr: str) -> Network | None:
    """A CIDR with no bit set beyond its prefix; None for anything else."""
    try:
        return ip_network(cidr)
    except ValueError:
        return None


def address(text: str) -> Address | None:
    """An address; None for anything else."""
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        return None


def version(cidr: str) -> int:
    """4 or 6, of a CIDR or an address as its text."""
    return 6 if ":" in cidr else 4


def holds(cidr: str, text: str) -> bool:
    """Whether a block of this CIDR holds this address; False where either is malformed."""
    narrow = _last_octets(cidr)
    if narrow is not None:
        start, ends = narrow
        return text.startswith(start) and text[len(start) :] in ends
    block, found = network(cidr), address(text)
    return block is not None and found is not None and found in block


@lru_cache(maxsize=4096)
def _last_octets(cidr: str) -> tuple[str, frozenset[str]] | None:
    """How the addresses' texts begin, and how they may end, where they differ in the last octet only: an IPv4 address
    has one text, and reading it as a number takes ten times as long. None for any other CIDR."""
    block = network(cidr)
    if not isinstance(block, IPv4Network) or block.prefixlen < 24:
        return None
    start, _, last = str(block.network_address).rpartition(".")
    return f"{start}.", _octets(int(last), block.num_addresses)


@lru_cache(maxsize=512)
def _octets(first: int, count: int) -> frozenset[str]:
    """One value for all blocks that begin at the same place of a /24."""
    return frozenset(map(str, range(first, first + count)))


def size(cidr: str) -> int:
    """How many addresses a block has; 0 where malformed."""
    block = network(cidr)
    return block.num_addresses if block is not None else 0


class Taken:
    """The blocks of one pool that are not free, by index. `cidrs`: all blocks there are, whatever pool they name."""

    def __init__(self, pool: Pool, cidrs: Iterable[str]) -> None:
        self.pool = pool
        self._indices: set[int] = set()
        self._wide: list[range] = []
        """Not place by place: a /8 would be too many of IPv6."""
        for cidr in cidrs:
            self.add(cidr)

    def add(self, cidr: str) -> None:
        block = network(cidr)
        if block is None or block.version != self.pool.version or not block.overlaps(self.pool.cidr):
            return
        covered = self._covered(block)
        if covered.stop - covered.start <= WIDE:
            self._indices.update(covered)
        else:
            self._wide.append(covered)

    def _is_free(self, index: int) -> bool:
        return index not in self._indices and not any(index in wide for wide in self._wide)

    def _covered(self, block: Network) -> range:
        start, step = int(self.pool.cidr.network_address), self.pool.block_addresses
        first = max(0, (int(block.network_address) - start) // step)
        last = min(self.pool.blocks - 1, (int(block.broadcast_address) - start) // step)
        return range(first, last + 1)

    def choose(self, node: str) -> Network | None:
        """The next free block for this node, None if the pool is full. Nodes start at places spread over the pool by
        their names, so that two operators, or one that has lost its memory, rarely want the same one, and a node's
        blocks lie side by side."""
        count = self.pool.blocks
        index = int.from_bytes(hashlib.sha256(node.encode()).digest()[:8]) % count
        left = count
        while left > 0 and not self._is_free(index):
            step = self._taken_from(index)
            index, left = (index + step) % count, left - step
        return self.pool.block(index) if left > 0 else None

    def _taken_from(self, index: int) -> int:
        """How many places from this one on, which is not free, need not be looked at."""
        return max((wide.stop - index for wide in self._wide if index in wide), default=1)


def choose_block(pools: Iterable[Pool], node: str, cidrs: Collection[str]) -> tuple[Pool, Network] | None:
    """The next free block for a node, from the first pool that has one; None if all are full."""
    for pool in pools:
        block = Taken(pool, cidrs).choose(node)
        if block is not None:
            return pool, block
    return None
