"""The pools: which may give out blocks, and what every node's kernel must know of them.

Owns: judging valid IPPools against each other and the nodes' addresses. Must not: allocate, or tell users.

A pool that something stands against gives out no new block. It stays known to the kernels (masquerading) as long as
any block is of it: what worked goes on working.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_address, ip_network
from typing import Literal, cast

from manx_core.api.ip_pool import Network
from manx_core.api.pools import Address, Surroundings, review
from manx_core.api.v1alpha1 import PoolSettings
from manx_core.bgp.nodes import Speaker
from manx_operator.user_kinds import PoolRule, UserKinds

Encapsulation = Literal["None", "IPIPCrossSubnet", "VXLANCrossSubnet"]


class Pools:
    """`accepted`: those that nothing stands against, disabled ones too; `settings`: what NodeStates say; `ipv6`:
    whether any of these is of IPv6, so that nodes take part in it."""

    def __init__(self, kinds: UserKinds, services: Collection[Network] = ()) -> None:
        """`services`: the services' networks, which no pool may overlap."""
        self._kinds = kinds
        self._services = services
        self.accepted: dict[str, PoolRule] = {}
        self.settings: tuple[PoolSettings, ...] = ()

    @property
    def ipv6(self) -> bool:
        return any(":" in known.cidr for known in self.settings)

    def refresh(self, nodes: Iterable[Speaker], with_blocks: Collection[str]) -> bool:
        """Judge again; whether anything came out otherwise. `with_blocks`: names of the pools that blocks are of."""
        rules = dict(sorted(self._kinds.pools.valid.items()))
        problems = review([rule.pool for rule in rules.values()], _surroundings(nodes, self._services))
        accepted = {name: rule for name, rule in rules.items() if not problems[name]}
        known = [rule for name, rule in rules.items() if name in accepted or name in with_blocks]
        before = self.accepted, self.settings
        self.accepted, self.settings = accepted, tuple(_settings(rule) for rule in known)
        return (self.accepted, self.settings) != before


def _settings(rule: PoolRule) -> PoolSettings:
    pool = rule.pool
    return PoolSettings(
        name=pool.name,
        cidr=str(pool.cidr),
        nat_outgoing=pool.nat_outgoing,
        encapsulation=cast(Encapsulation, pool.encapsulation),  # a valid one has no other
    )


def _surroundings(nodes: Iterable[Speaker], services: Collection[Network]) -> Surroundings:
    addresses: dict[str, list[Address]] = {}
    networks: dict[str, list[Network]] = {}
    for node in nodes:
        addresses[node.name] = [ip_address(text) for text in (node.ipv4, node.ipv6) if text]
        networks[node.name] = [ip_network(text) for text in (node.ipv4_network, node.ipv6_network) if text]
    return Surroundings(node_addresses=addresses, node_networks=networks, service_networks=services)
