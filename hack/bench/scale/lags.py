"""How long a pod's relabelling takes to be in the AddressGroups: from the API server's answer to the chunk as watched.

Owns: listening to chunks, relabelling, and matching both by the pod's address. Must not: know which groups a pod is in.

What is timed is the last chunk that a relabelling concerns (it leaves and enters up to four). A relabelling that
concerns none is not counted; nor are groups that come or go whole, because some node came to need them or none does any
more: they would be counted for pods that were relabelled long before.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Self

from bench.scale import changes, load
from bench.scale.load import Size
from manx_core.api.v1alpha1 import AddressGroup, IPAMBlock
from manx_kube.client import KubeClient
from manx_kube.informer import Batch, Informer
from manx_kube.resources import ADDRESS_GROUPS, IPAM_BLOCKS


class Lags:
    """An async context manager. Pods have to have their addresses. `step`: by how much a pod's app changes from what
    the load had; another for each use, or nothing changes the second time."""

    def __init__(self, client: KubeClient, size: Size, step: int = 1) -> None:
        self._client, self._size, self._step = client, size, step
        self._chunks: Informer[AddressGroup] = Informer(client, ADDRESS_GROUPS, AddressGroup)
        self._addresses: dict[str, str] = {}
        self._moved: dict[str, float] = {}
        """Address → when a chunk was last heard to have gained or lost it."""
        self._answered: dict[int, float] = {}
        self._sent: dict[int, float] = {}
        self._slots = asyncio.Semaphore(load.PARALLEL)
        self._order = random.Random(changes.SEED).sample(range(size.pods), size.pods)

    async def __aenter__(self) -> Self:
        blocks = await self._client.list_all(IPAM_BLOCKS, IPAMBlock)
        self._addresses = {entry.name: entry.address for block in blocks.items for entry in block.status.allocations}
        self._chunks.start()
        await self._chunks.wait_synced()
        self._chunks.add_handler(self._heard)
        self._moved.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._chunks.stop()

    def _heard(self, batch: Batch[AddressGroup]) -> None:
        now = time.perf_counter()
        for event in batch.events:
            if event.old is not None and event.new is not None:
                for member in _members(event.old) ^ _members(event.new):
                    self._moved[member] = now

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
        """When the pod's relabelling was last heard of in a chunk; 0.0 if it was not."""
        moved = self._moved.get(self._addresses.get(f"pod-{number}", ""), 0.0)
        return moved if moved >= self._sent[number] else 0.0

    def found(self) -> Iterator[float]:
        """Seconds, of each relabelling that some chunk had to follow."""
        for number, answered in self._answered.items():
            if at := self.heard(number):
                yield max(0.0, at - answered)

    def _app(self, number: int) -> int:
        return number // self._size.namespaces % load.APPS


def _members(chunk: AddressGroup) -> frozenset[str]:
    return frozenset(chunk.spec.members)
