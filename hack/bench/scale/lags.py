"""How long a pod's relabelling takes to be in the AddressGroups: from the API server's answer to the chunk as watched.

Owns: listening to chunks, relabelling, and matching both by the pod's address. Must not: know which groups a pod is in,
or take from the machine what it measures on: nothing is decoded before it is asked for.

What is timed is the last chunk that a relabelling concerns (it leaves and enters up to four). A relabelling that
concerns none is not counted; nor are groups that come or go whole, because some node came to need them or none does any
more: they would be counted for pods that were relabelled long before.

Of a few namespaces' pods it is also heard when a watch tells of them: up to there it was the API server, from there on
the operator, and the way of what it writes.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Self

from bench.scale import changes, load
from bench.scale.load import Size
from bench.scale.wire import Wire
from manx_core.api.core_v1 import Pod
from manx_core.api.lines import lines_of
from manx_core.api.v1alpha1 import AddressGroup, IPAMBlock
from manx_kube import codec
from manx_kube.client import KubeClient
from manx_kube.resources import ADDRESS_GROUPS, IPAM_BLOCKS, PODS

WATCHED = 5
"""Namespaces, out of the hundred of the full size: a watch of all pods would cost the API server as much again as the
operator's does."""


class Lags:
    """An async context manager. Pods have to have their addresses. `step`: by how much a pod's app changes from what
    the load had; another for each use, or nothing changes the second time."""

    def __init__(self, client: KubeClient, size: Size, step: int = 1) -> None:
        self._client, self._size, self._step = client, size, step
        self._stack = AsyncExitStack()
        self._chunks: Wire
        self._pods: list[Wire] = []
        """Of each watched namespace."""
        self._members: dict[str, frozenset[str]] = {}
        """Chunk's name → its members, as of what was decoded so far."""
        self._addresses: dict[str, str] = {}
        self._moved: dict[str, float] = {}
        """Address → when a chunk was last heard to have gained or lost it."""
        self._told: dict[str, float] = {}
        """Pod of a watched namespace → when it was last heard of."""
        self._answered: dict[int, float] = {}
        self._sent: dict[int, float] = {}
        self._slots = asyncio.Semaphore(load.PARALLEL)
        self._order = random.Random(changes.SEED).sample(range(size.pods), size.pods)

    async def __aenter__(self) -> Self:
        blocks = await self._client.list_all(IPAM_BLOCKS, IPAMBlock)
        self._addresses = {entry.name: entry.address for block in blocks.items for entry in block.status.allocations}
        chunks = await self._client.list_all(ADDRESS_GROUPS, AddressGroup)
        self._members = {chunk.metadata.name: _members(chunk) for chunk in chunks.items}
        version = await self._client.current_resource_version(PODS)
        spaces = [load.namespace(number)["metadata"]["name"] for number in range(min(WATCHED, self._size.namespaces))]
        self._chunks = Wire(self._client, ADDRESS_GROUPS, chunks.resource_version)
        self._pods = [Wire(self._client, PODS, version, space) for space in spaces]
        for wire in (self._chunks, *self._pods):
            await self._stack.enter_async_context(wire)
        gc.collect()
        gc.freeze()  # or all that this process knows is looked through now and then, a pause in what is timed
        return self

    async def __aexit__(self, *_: object) -> None:
        gc.unfreeze()
        await self._stack.aclose()

    async def relabel(self, rate: float, seconds: float) -> None:
        """Pods that were not relabelled yet get another app, at an even pace; slower where the API server does not keep
        up with as many at a time as `load.PARALLEL`. Raises KubeError."""
        began, tasks = time.perf_counter(), []
        for turn in range(min(int(rate * seconds), len(self._order))):
            tasks.append(asyncio.create_task(self.one()))
            await asyncio.sleep(max(0.0, began + (turn + 1) / rate - time.perf_counter()))
        await asyncio.gather(*tasks)

    async def one(self, *, sure: bool = False) -> int:
        """The next pod (`sure`: that is in groups before and after); returns its number. Raises KubeError."""
        at = next(
            at for at in reversed(range(len(self._order)))
            if not sure or 1 <= self._app(self._order[at]) <= 10 - self._step
        )  # fmt: skip
        number = self._order.pop(at)
        app = (self._app(number) + self._step) % load.APPS
        async with self._slots:
            self._sent[number] = time.perf_counter()
            await changes.set_labels(self._client, load.pod(number, self._size), app=f"app-{app}")
        self._answered[number] = time.perf_counter()
        return number

    def heard(self, number: int) -> float:
        """When the pod's relabelling was last heard of in a chunk; 0.0 if it was not. Raises KubeError where the
        watch has ended."""
        self._take()
        moved = self._moved.get(self._addresses.get(f"pod-{number}", ""), 0.0)
        return moved if moved >= self._sent[number] else 0.0

    def found(self) -> Iterator[float]:
        """Seconds, of each relabelling that some chunk had to follow. Raises KubeError as `heard` does."""
        for number, answered in self._answered.items():
            if at := self.heard(number):
                yield max(0.0, at - answered)

    def parts(self) -> Iterator[tuple[float, float]]:
        """Of those in watched namespaces, seconds: from the answer to a watch of pods, and from there to the chunk.
        Raises KubeError as `heard` does."""
        for number, answered in self._answered.items():
            at, told = self.heard(number), self._told.get(f"pod-{number}", 0.0)
            if at and told >= self._sent[number]:
                yield max(0.0, told - answered), max(0.0, at - max(told, answered))

    def _take(self) -> None:
        for at, line in self._chunks.take():
            chunk = codec.decode(line.object, AddressGroup)
            name, now = chunk.metadata.name, _members(chunk)
            if line.type == "DELETED":
                self._members.pop(name, None)
                continue
            self._moved.update(dict.fromkeys(self._members.get(name, now) ^ now, at))
            self._members[name] = now
        for wire in self._pods:
            self._told.update((codec.decode(line.object, Pod).metadata.name, at) for at, line in wire.take())

    def _app(self, number: int) -> int:
        return number // self._size.namespaces % load.APPS


def _members(chunk: AddressGroup) -> frozenset[str]:
    return frozenset(lines_of(chunk.spec.members))
