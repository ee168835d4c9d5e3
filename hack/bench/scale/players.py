"""The agents of all nodes but one, played: each gives the pods on its node addresses from its node's blocks.

Owns: watching NodeStates and IPAMBlocks of all nodes, and writing the blocks' status. Must not: be measured; it knows
the whole cluster, which no real agent does.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from bench.scale.load import HERE, together
from manx_core.api.lines import lines_of
from manx_core.api.v1alpha1 import IPAMBlock, NodeState
from manx_core.policy.endpoint import endpoint_of
from manx_kube.client import KubeClient
from manx_kube.errors import KubeError
from manx_kube.informer import Batch, Informer
from manx_kube.resources import IPAM_BLOCKS, NODE_STATES

Obj = dict[str, Any]


class Players:
    """An async context manager. `real`: whether a node has an agent of its own."""

    def __init__(self, client: KubeClient, real: Callable[[str], bool] = lambda node: node == HERE) -> None:
        self._client, self._real = client, real
        self._states: Informer[NodeState] = Informer(client, NODE_STATES, NodeState)
        self._blocks: Informer[IPAMBlock] = Informer(client, IPAM_BLOCKS, IPAMBlock)
        self._given: dict[str, dict[str, str]] = defaultdict(dict)
        """Node → pod's uid → address."""
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._states.add_handler(self._heard)
        self._blocks.add_handler(self._heard_blocks)

    async def __aenter__(self) -> Players:
        for informer in (self._states, self._blocks):
            informer.start()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._states.stop(), self._blocks.stop())

    def _heard(self, batch: Batch[NodeState]) -> None:
        self._touch(event.key[1] for event in batch.events if _pods(event.old) != _pods(event.new))

    def _heard_blocks(self, batch: Batch[IPAMBlock]) -> None:
        self._touch(event.new.spec.node for event in batch.events if event.new is not None)

    def _touch(self, nodes: Iterable[str]) -> None:
        self._dirty.update(node for node in nodes if not self._real(node))
        if self._dirty:
            self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            nodes, self._dirty = self._dirty, set()
            blocks = self._blocks_by_node()
            await together(self._play(node, blocks[node]) for node in sorted(nodes))

    def _blocks_by_node(self) -> dict[str, list[IPAMBlock]]:
        blocks: dict[str, list[IPAMBlock]] = defaultdict(list)
        for block in self._blocks.cache.values():
            blocks[block.spec.node].append(block)
        return blocks

    async def _play(self, node: str, blocks: list[IPAMBlock]) -> None:
        """Brings one node's blocks to what its NodeState lists."""
        state = self._states.get(node)
        if state is None or not blocks:
            return
        pods = {
            endpoint.uid: (endpoint.namespace, endpoint.name)
            for endpoint in map(endpoint_of, lines_of(state.spec.pods))
        }
        given = self._give(self._given[node], pods, blocks)
        for block in blocks:
            network = ipaddress.ip_network(block.spec.cidr)
            mine = [_allocation(uid, at, pods[uid]) for uid, at in given.items() if ipaddress.ip_address(at) in network]
            if [entry["uid"] for entry in mine] != [entry.uid for entry in block.status.allocations]:
                await self._write(node, block.metadata.name, {"status": {"allocations": mine}})

    @staticmethod
    def _give(given: dict[str, str], pods: dict[str, tuple[str, str]], blocks: list[IPAMBlock]) -> dict[str, str]:
        """Each pod an address, as long as there are any, in the order of the pods' names."""
        for uid in given.keys() - pods.keys():
            del given[uid]
        taken = set(given.values())
        addresses = (str(a) for block in blocks for a in ipaddress.ip_network(block.spec.cidr) if str(a) not in taken)
        given.update(zip(sorted(pods.keys() - given.keys(), key=pods.__getitem__), addresses, strict=False))
        return given

    async def _write(self, node: str, block: str, status: Obj) -> None:
        """Where it fails, the node has its turn again."""
        try:
            await self._client.patch(IPAM_BLOCKS, dict[str, Any], block, status, subresource="status")
        except KubeError:
            self._touch([node])


def _pods(state: NodeState | None) -> list[str]:
    """Without their classes, which are nothing to those who give addresses."""
    return [line.split(" ", 2)[1] for line in lines_of(state.spec.pods)] if state is not None else []


def _allocation(uid: str, address: str, pod: tuple[str, str]) -> Obj:
    return {"address": address, "namespace": pod[0], "name": pod[1], "uid": uid, "containerID": "c"}
