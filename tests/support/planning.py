"""A world for the planner of blocks without any server: nodes, pools, blocks and time, as a test sets them."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import msgspec

from manx_core.api.core_v1 import Node, ObjectMeta
from manx_core.api.ip_pool import Pool
from manx_core.api.v1alpha1 import Allocation, FreedAddress, IPAMBlock, IPAMBlockStatus
from manx_core.selectors.calico import parse
from manx_kube.resources import IPAM_BLOCKS
from manx_operator.blocks import Blocks, Surplus, World
from manx_operator.decide import Wanted
from manx_operator.observed import Key, Observed
from manx_operator.user_kinds import PoolRule


@dataclass
class Cache:
    """What Observed needs of an informer."""

    cache: dict[tuple[str, str], Any] = field(default_factory=dict)
    resource_version: str = "0"

    def get(self, name: str) -> Any | None:
        return self.cache.get(("", name))


def pool_rule(name: str, cidr: str, length: int = 30, selector: str = "", **fields: Any) -> PoolRule:
    return PoolRule(Pool(name, ip_network(cidr), length, **fields), parse(selector))


class Planning:
    """`step` plans, and does to the blocks what the writer and the agents would."""

    def __init__(self, *pools: PoolRule, node_gone_after: float = 10.0, block_after: float = 10.0) -> None:
        self.now = 0.0
        self.version = 0
        self.nodes: dict[tuple[str, str], Node] = {}
        self.waiting: dict[str, int] = {}
        self.pods: dict[str, int] = {}
        self.pools = {rule.pool.name: rule for rule in pools}
        self.unusable: set[str] = set()
        self.invalid: set[str] = set()
        self.due: dict[str, float] = {}
        self.informer = Cache()
        self.observed = Observed({IPAM_BLOCKS: self.informer}, lambda key: None, lambda: None)  # type: ignore[dict-item]
        world = World(
            nodes=self.nodes,
            waiting=lambda node: self.waiting.get(node, 0),
            pods=lambda node: self.pods.get(node, 0),
            usable=lambda: {name: rule for name, rule in self.valid().items() if name not in self.unusable},
            valid=self.valid,
            declared=lambda name: name in self.pools,
            clock=lambda: self.now,
            later=lambda node, seconds: self.due.update({node: self.now + seconds}),
        )
        self.blocks = Blocks(self.observed, world, Surplus(node_gone_after, block_after))

    def valid(self) -> dict[str, PoolRule]:
        return {name: rule for name, rule in self.pools.items() if name not in self.invalid}

    def add_node(self, name: str, **labels: str) -> None:
        self.nodes[("", name)] = Node(metadata=ObjectMeta(name=name, uid=f"uid-{name}", labels=labels))
        self.blocks.touch(name)

    def remove_node(self, name: str) -> None:
        self.nodes.pop(("", name), None)
        self.blocks.touch(name)

    def step(self) -> None:
        """Plan what is due and touched, and write what is wanted, as the only writer."""
        for node, at in list(self.due.items()):
            if at <= self.now:
                del self.due[node]
                self.blocks.touch(node)
        touched = self.blocks.plan()
        for key in self.blocks.blocks_of(touched) | {Key(IPAM_BLOCKS, name) for name in self.there()}:
            self.write(key.name, self.blocks.wanted(key.name))

    def write(self, name: str, wanted: Wanted | None) -> None:
        have = self.informer.get(name)
        if wanted is None:
            if have is not None:
                self.put(name, None)
        elif have is None or have.spec != wanted.spec:
            meta = ObjectMeta(name=name, uid=f"uid-{name}-{self.version}")
            self.put(name, IPAMBlock(metadata=have.metadata if have else meta, spec=wanted.spec,
                                     status=have.status if have else IPAMBlockStatus()))  # fmt: skip

    def put(self, name: str, block: IPAMBlock | None) -> None:
        """The API server has it so now."""
        self.version += 1
        self.informer.resource_version = str(self.version)
        if block is None:
            del self.informer.cache[("", name)]
        else:
            meta = msgspec.structs.replace(block.metadata, resource_version=str(self.version))
            self.informer.cache[("", name)] = msgspec.structs.replace(block, metadata=meta)
        self.observed.heard(Key(IPAM_BLOCKS, name))
        self.blocks.block_changed(name)

    def there(self, node: str = "") -> dict[str, IPAMBlock]:
        return {name: b for (_, name), b in sorted(self.informer.cache.items()) if not node or b.spec.node == node}

    def set_status(self, name: str, allocated: int = 0, freed: tuple[int, ...] = (), released: bool = False) -> None:
        """`freed`: sequences."""
        block = self.informer.get(name)
        assert block is not None
        network = ip_network(block.spec.cidr)
        status = IPAMBlockStatus(
            allocations=tuple(
                Allocation(
                    address=str(network[i % network.num_addresses]),
                    namespace="d",
                    name=f"p{i}",
                    uid=f"u{i}",
                    container_id="c",
                )
                for i in range(allocated)
            ),
            freed=tuple(FreedAddress(address=str(network[s % network.num_addresses]), sequence=s) for s in freed),
            sequence=max(freed, default=0),
            released=released,
        )
        self.put(name, msgspec.structs.replace(block, status=status))
