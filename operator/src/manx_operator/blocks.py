"""Which node has which blocks: enough for its pods, and some more, as long as the pools last.

A pod gets one address of each family that its node has pools of, so each family is planned by itself.

Owns: planning IPAMBlocks' specs. Must not: write them, or give out single addresses (agents do, in their status).

A block that is not there yet is planned, and counts from then on; whether it can be had shows when it is created: its
name is the lock. If another has it, the next one is planned.
A block goes back in two steps: Releasing, from which there is no way back; then, once its agent has acknowledged that
nothing is allocated, and nothing freed is remembered anywhere, it is deleted. The blocks of a node that is gone need no
acknowledgement, but time: its Node object is deleted for so long, no pod claims to be there, and every other node has
forgotten its addresses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

import msgspec

from manx_core.api.core_v1 import Node
from manx_core.api.v1alpha1 import IPAMBlock, IPAMBlockSpec
from manx_core.ipam import need
from manx_core.ipam.blocks import Network, Pool, Taken, block_name, network
from manx_kube.resources import IPAM_BLOCKS
from manx_operator.decide import Wanted
from manx_operator.known_blocks import KnownBlocks
from manx_operator.observed import Key, Observed
from manx_operator.quarantine import Quarantine
from manx_operator.user_kinds import PoolRule

log = logging.getLogger(__name__)

NO_POOL_ADDRESSES = 64
"""The size of a block where no pool says it."""
BUSY_AGAIN = 10.0
"""Seconds until a deleted Node's pods are looked at again."""


@dataclass(frozen=True, slots=True)
class Surplus:
    """Seconds for which things that are not needed are kept."""

    node_gone_after: float = 300.0
    block_after: float = 600.0


@dataclass(slots=True)
class World:
    """What planning reads. `waiting(node)`: pods there without an address; `pods(node)`: all pods there; `usable`: the
    pools that new blocks may come from; `declared`: pools that exist, whether valid or not; `valid`: those that are."""

    nodes: Mapping[tuple[str, str], Node]
    waiting: Callable[[str], int]
    pods: Callable[[str], int]
    usable: Callable[[], Mapping[str, PoolRule]]
    valid: Callable[[], Mapping[str, PoolRule]]
    declared: Callable[[str], bool]
    clock: Callable[[], float]
    later: Callable[[str, float], None]
    """Asks for a node to be planned again after some seconds."""


@dataclass(slots=True)
class _Memory:
    """What is known of nodes only here, and found anew after a failover."""

    gone_since: dict[str, float] = field(default_factory=dict)
    surplus_since: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    exhausted: dict[str, frozenset[str]] = field(default_factory=dict)


class Blocks:
    """`touch` what changed, then `plan`."""

    def __init__(self, observed: Observed, world: World, keep: Surplus) -> None:
        self._world = world
        self._keep = keep
        self._memory = _Memory()
        self._known = KnownBlocks(observed)
        self.quarantine = Quarantine(self._known, self._is_gone)
        self._touched = self._known.nodes()

    # --- what changed -------------------------------------------------------------------------------------------------

    def touch(self, node: str) -> None:
        if node:
            self._touched.add(node)

    def touch_all(self) -> None:
        self._touched |= {name for _, name in self._world.nodes} | self._known.nodes()

    def block_changed(self, name: str) -> None:
        self._touched |= self._known.changed(name)
        if self._known.get(name) is None:
            self.quarantine.drop(name)

    def lost(self, name: str) -> None:
        """A planned block could not be created, because there is one of that name."""
        spec = self._known.planned.pop(name, None)
        if spec is not None:
            self._known.taken_by_others.add(name)
            self.touch(spec.node)

    # --- what is wanted -----------------------------------------------------------------------------------------------

    def wanted(self, name: str) -> Wanted | None:
        block = self._known.get(name)
        if block is None:
            planned = self._known.planned.get(name)
            return _for_its_node(planned) if planned is not None else None
        if self.quarantine.may_go(block):
            return None
        return _for_its_node(self._spec(block))

    def _spec(self, block: IPAMBlock) -> IPAMBlockSpec:
        spec, name = block.spec, block.metadata.name
        node = self._world.nodes.get(("", spec.node))
        return msgspec.structs.replace(
            spec,
            epoch=0,
            node_uid=node.metadata.uid if node is not None else spec.node_uid,
            state="Releasing" if name in self._known.releasing else spec.state,
            forgotten=self.quarantine.forgotten(block),
        )

    def cidrs(self, node: str) -> tuple[str, ...]:
        """The blocks that others shall accept from a node, planned ones too."""
        there = [block.spec.cidr for block in self._known.of(node)]
        return tuple(sorted({*there, *(spec.cidr for spec in self._known.planned_for(node))}))

    def problem(self, node: str) -> str:
        """Why the node cannot have more addresses; "" if it can."""
        return self._memory.problems.get(node, "")

    def exhausted(self) -> frozenset[str]:
        """Pools that some node needs a block of and that have none left."""
        return frozenset().union(*self._memory.exhausted.values())

    def pools_in_use(self) -> frozenset[str]:
        return frozenset(block.spec.pool for block in self._known.observed.all(IPAM_BLOCKS))

    # --- planning -----------------------------------------------------------------------------------------------------

    def plan(self) -> set[str]:
        """Plan the nodes touched; returns the nodes whose blocks or problems may be others now."""
        touched, self._touched = self._touched, set()
        for name in sorted(touched):
            node = self._world.nodes.get(("", name))
            if node is None:
                self._plan_gone(name)
            else:
                self._plan(node)
        return touched

    def blocks_of(self, nodes: Iterable[str]) -> set[Key]:
        """The keys of these nodes' blocks, planned ones too."""
        return self._known.keys_of(nodes)

    def _plan(self, node: Node) -> None:
        name = node.metadata.name
        self._memory.gone_since.pop(name, None)
        for block in self._known.of(name):
            if not self._belongs(block, node):
                self._release(block.metadata.name, "its pool does not serve the node any more")
        self._extend(node)
        self._shrink(name)

    def _extend(self, node: Node) -> None:
        name = node.metadata.name
        pools = [_pool(rule) for rule in self._world.usable().values() if _serves(rule, node)]
        before = self._memory.problems.pop(name, "")
        self._memory.exhausted.pop(name, None)
        families = {pool.version for pool in pools} | self._known.families(name)
        lacking = {family for family in families if not self._extend_family(node, family, pools)}
        if lacking or not families:
            self._full(name, [pool for pool in pools if pool.version in lacking], lacking if pools else (), before)

    def _extend_family(self, node: Node, family: int, all_pools: Iterable[Pool]) -> bool:
        """Plan what the node needs of one family; whether it could be had."""
        name = node.metadata.name
        pools = [pool for pool in all_pools if pool.version == family]
        uses, waiting = self._known.uses(name, family), self._world.waiting(name)
        addresses = pools[0].block_addresses if pools else NO_POOL_ADDRESSES
        taken: list[Taken] = []
        while need.missing(uses, waiting, addresses):
            taken = taken or [Taken(pool, self._known.cidrs()) for pool in pools]
            found = self._choose(name, taken)
            if found is None:
                return False
            pool, block = found
            self._known.planned[block_name(block)] = self._new(pool, block, node)
            uses.append(need.BlockUse(block_name(block), block.num_addresses))
        return True

    @staticmethod
    def _choose(node: str, taken: Iterable[Taken]) -> tuple[Pool, Network] | None:
        for one in taken:
            block = one.choose(node)
            if block is not None:
                one.add(str(block))
                return one.pool, block
        return None

    @staticmethod
    def _new(pool: Pool, block: Network, node: Node) -> IPAMBlockSpec:
        return IPAMBlockSpec(
            epoch=0, cidr=str(block), pool=pool.name, node=node.metadata.name, node_uid=node.metadata.uid
        )

    def _full(self, node: str, pools: Collection[Pool], families: Collection[int], before: str) -> None:
        """`families`: those that are short; `before`: the problem that the node had so far, which was told already."""
        found = [f"IPPool {pool.name} ({pool.cidr}): all {pool.blocks} blocks are in use" for pool in pools]
        without = set(families) - {pool.version for pool in pools}
        found += [f"no valid and enabled IPv{family} IPPool serves this node" for family in sorted(without)]
        problem = "; ".join(found) or "no valid and enabled IPPool serves this node"
        if before != problem:
            log.warning("node %s cannot have another block: %s", node, problem)
        self._memory.problems[node] = problem
        self._memory.exhausted[node] = frozenset(pool.name for pool in pools)

    def _shrink(self, node: str) -> None:
        for family in self._known.families(node):
            self._shrink_family(node, family)

    def _shrink_family(self, node: str, family: int) -> None:
        """One surplus block at a time, after it has been surplus for long enough."""
        uses = self._known.uses(node, family)
        name = need.surplus(uses, self._world.waiting(node))
        for use in uses:
            if use.name != name:
                self._memory.surplus_since.pop(use.name, None)
        if name is None or name in self._known.planned:
            return
        now = self._world.clock()
        left = self._memory.surplus_since.setdefault(name, now) + self._keep.block_after - now
        if left > 0:
            self._world.later(node, left)
        else:
            self._release(name, "it is empty and the node has others")

    def _plan_gone(self, node: str) -> None:
        memory = self._memory
        self._known.drop_planned(node)
        memory.problems.pop(node, None)
        memory.exhausted.pop(node, None)
        if not self._known.names_of(node):
            memory.gone_since.pop(node, None)
            self._known.drop_node(node)
            return
        now = self._world.clock()
        left = memory.gone_since.setdefault(node, now) + self._keep.node_gone_after - now
        if left <= 0 and self._world.pods(node):
            left = BUSY_AGAIN
        if left > 0:
            self._world.later(node, left)
            return
        for name in self._known.names_of(node):
            self._release(name, "its node is gone")

    def _is_gone(self, node: str) -> bool:
        return ("", node) not in self._world.nodes and node in self._memory.gone_since

    def _release(self, name: str, why: str) -> None:
        if name not in self._known.releasing:
            log.info("block %s is released: %s", name, why)
            self._known.releasing.add(name)

    def _belongs(self, block: IPAMBlock, node: Node) -> bool:
        """Whether new addresses may go on coming from it. A pool that is there but not valid changes nothing."""
        rule = self._world.valid().get(block.spec.pool)
        if rule is None:
            return self._world.declared(block.spec.pool)
        return _serves(rule, node) and _is_within(block.spec.cidr, rule.pool.cidr)


def _serves(rule: PoolRule, node: Node) -> bool:
    return not rule.pool.disabled and rule.pool.for_pods and rule.selector.matches(node.metadata.labels)


def _pool(rule: PoolRule) -> Pool:
    return Pool(rule.pool.name, rule.pool.cidr, rule.pool.block_size)


def _is_within(cidr: str, pool: Network) -> bool:
    match network(cidr), pool:
        case (IPv4Network() as block, IPv4Network()) | (IPv6Network() as block, IPv6Network()):
            return block.subnet_of(pool)  # type: ignore[arg-type]
    return False


def _for_its_node(spec: IPAMBlockSpec) -> Wanted:
    """The label is how that node's agent hears of its blocks, and of no others."""
    return Wanted(spec, frozenset({spec.node}))
