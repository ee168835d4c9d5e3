"""Pools against each other, and against the networks around them.

Owns: finding ranges that overlap, and saying so for the pool that has to give way.
Must not: know where pools and networks come from.

Why the older pool stays: an overlap is made by whoever comes second, and what worked before must go on working. Equal
ages are decided by name, so that every replica decides alike.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from manx_core.api.fields import Problem
from manx_core.api.ip_pool import CROSS_SUBNET, Network, Pool

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What pools must keep clear of. Keys name things for messages."""

    node_addresses: Mapping[str, Collection[Address]] = field(default_factory=dict)
    """Node's name → its addresses."""
    node_networks: Mapping[str, Collection[Network]] = field(default_factory=dict)
    """Node's name → the subnets of its underlay, as far as known."""
    service_networks: Collection[Network] = ()


def review(pools: Iterable[Pool], around: Surroundings) -> dict[str, tuple[Problem, ...]]:
    """Problems of each pool by name; a pool without any may be used. O(n²) in the number of pools, which are few."""
    accepted: list[Pool] = []
    found: dict[str, tuple[Problem, ...]] = {}
    for pool in sorted(pools, key=lambda pool: (pool.created, pool.name)):
        problems = (*_with_pools(pool, accepted), *_with_nodes(pool, around), *_with_services(pool, around))
        found[pool.name] = problems
        if not problems:
            accepted.append(pool)
    return found


def _with_pools(pool: Pool, older: Iterable[Pool]) -> Iterable[Problem]:
    for other in older:
        if overlap(pool.cidr, other.cidr):
            yield Problem("spec.cidr", f"{pool.cidr} overlaps IPPool {other.name} ({other.cidr}), which is older")


def _with_nodes(pool: Pool, around: Surroundings) -> Iterable[Problem]:
    inside = sorted(
        f"{node} ({address})"
        for node, addresses in around.node_addresses.items()
        for address in addresses
        if address in pool.cidr
    )
    if inside:
        yield Problem("spec.cidr", f"{pool.cidr} holds addresses of nodes: {_some(inside)}")
        return
    networks = {net for nets in around.node_networks.values() for net in nets if overlap(pool.cidr, net)}
    if networks:
        yield Problem("spec.cidr", f"{pool.cidr} overlaps the nodes' network {_some(sorted(map(str, networks)))}")


def _with_services(pool: Pool, around: Surroundings) -> Iterable[Problem]:
    for net in around.service_networks:
        if overlap(pool.cidr, net):
            yield Problem("spec.cidr", f"{pool.cidr} overlaps the services' network {net}")


def overlap(one: Network, other: Network) -> bool:
    """Whether two networks have an address in common; never for different families."""
    return one.version == other.version and one.overlaps(other)


def one_subnet(pool: Pool, subnets: Collection[Network]) -> tuple[Problem, ...]:
    """For a CrossSubnet pool, what stands against it where nodes are in several subnets: encapsulating is not supported
    yet."""
    distinct = sorted(str(net) for net in set(subnets) if net.version == pool.cidr.version)
    if pool.encapsulation not in CROSS_SUBNET or len(distinct) <= 1:
        return ()
    mode = "spec.ipipMode" if pool.encapsulation.startswith("IPIP") else "spec.vxlanMode"
    return (Problem(mode, f"CrossSubnet is not supported yet where nodes are in several subnets ({_some(distinct)})"),)


def in_use(pools: Collection[str], blocks: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Pools that blocks are of and that are not there: pool's name → its blocks' names. `blocks`: name → pool."""
    orphans: dict[str, list[str]] = {}
    for block, pool in sorted(blocks.items()):
        if pool not in pools:
            orphans.setdefault(pool, []).append(block)
    return {pool: tuple(names) for pool, names in orphans.items()}


def _some(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
