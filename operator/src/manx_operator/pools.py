"""The pools: which may give out blocks, and what every node's kernel must know of them.

Owns: judging valid IPPools against each other and the nodes' addresses. Must not: allocate, or tell users.

Before any block is given out, all pools that the Installation asks for are waited for, for some seconds: else the first
pods would get an address of that family alone whose pool came first.
A pool that something stands against gives out no new block. It stays known to the kernels (masquerading) as long as
any block is of it: what worked goes on working.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from ipaddress import ip_address, ip_network
from typing import Literal, cast

from manx_core.api.ip_pool import Network
from manx_core.api.pools import Address, Surroundings, review
from manx_core.api.v1alpha1 import PoolSettings
from manx_core.bgp.nodes import Speaker
from manx_operator.user_kinds import PoolRule, UserKinds

WAIT = 10.0
"""Seconds for which pools that the Installation asks for are waited for; the API server may refuse one."""
Encapsulation = Literal["None", "IPIPCrossSubnet", "VXLANCrossSubnet"]


class Pools:
    """`accepted`: those that nothing stands against, disabled ones too; `settings`: what NodeStates say; `ipv6`:
    whether any of these is of IPv6, so that nodes take part in it."""

    def __init__(
        self,
        kinds: UserKinds,
        services: Collection[Network] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`services`: the services' networks, which no pool may overlap."""
        self._kinds = kinds
        self._services = services
        self._clock = clock
        self._waiting_since: float | None = None
        self.waiting = False
        """Whether to refresh again after WAIT seconds."""
        self.accepted: dict[str, PoolRule] = {}
        self.settings: tuple[PoolSettings, ...] = ()

    @property
    def ipv6(self) -> bool:
        return any(":" in known.cidr for known in self.settings)

    def refresh(self, nodes: Iterable[Speaker], with_blocks: Collection[str]) -> bool:
        """Judge again; whether anything came out otherwise. `with_blocks`: names of the pools that blocks are of."""
        rules = dict(sorted(self._kinds.pools.valid.items()))
        problems = review([rule.pool for rule in rules.values()], _surroundings(nodes, self._services))
        good = {name: rule for name, rule in rules.items() if not problems[name]}
        self.waiting = self._waits(with_blocks)
        accepted = {} if self.waiting else good
        known = [rule for name, rule in rules.items() if name in good or name in with_blocks]
        before = self.accepted, self.settings
        self.accepted, self.settings = accepted, tuple(_settings(rule) for rule in known)
        return (self.accepted, self.settings) != before

    def _waits(self, with_blocks: Collection[str]) -> bool:
        now = self._clock()
        if with_blocks or not self._kinds.pools_to_come:
            self._waiting_since = None
            return False
        self._waiting_since = now if self._waiting_since is None else self._waiting_since
        return now - self._waiting_since < WAIT


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
