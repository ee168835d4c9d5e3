"""Counting, on a real API server, what is written and what each node's agent hears.

The ledger watches every manx.dev object, without selectors: one watch event is one write. Fake agents watch as real
ones do (`manx_agent.watches`), count what they hear, and report, coalesced, that it is in force.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.v1alpha1 import NodeReport
from manx_core.span import EVERYWHERE, span_label
from manx_kube.client import KubeClient, PatchType
from manx_kube.informer import Batch, Informer
from manx_kube.resources import (
    ADDRESS_GROUPS,
    IPAM_BLOCKS,
    MESH_NODES,
    NODE_REPORTS,
    NODE_STATES,
    POLICY_CLASSES,
    POLICY_PROGRAMS,
    Resource,
)
from manx_operator.inputs import OURS

REPORT_AFTER = 0.3
"""Seconds for which an agent gathers what it reports: longer than the kinds' watches may lie apart."""

Counts = Counter[str]


class Ledger:
    """`writes["MODIFIED nodestates"]`: how many since `clear`; `names`: of which objects."""

    def __init__(self, client: KubeClient) -> None:
        self.writes: Counts = Counter()
        self.names: dict[str, set[str]] = {}
        self.informers = [Informer(client, resource, type_) for resource, type_ in OURS.items()]
        for informer in self.informers:
            informer.add_handler(self._counting(informer.resource))

    def _counting(self, resource: Resource) -> Callable[[Batch[Any]], None]:
        def count(batch: Batch[Any]) -> None:
            for event in batch.events:
                kind = f"{event.kind.value} {resource.plural}"
                self.writes[kind] += 1
                self.names.setdefault(kind, set()).add(event.key[1])

        return count

    def clear(self) -> None:
        self.writes.clear()
        self.names.clear()

    def without_reports(self) -> dict[str, int]:
        return {kind: count for kind, count in sorted(self.writes.items()) if not kind.endswith("nodereports")}


class FakeAgent:
    """One node's agent: hears its share, counts it, and says that it is in force."""

    def __init__(self, client: KubeClient, node: str) -> None:
        self.node = node
        self.heard: Counts = Counter()
        self.reports = 0
        """How many it has written."""
        self._client = client
        self._due: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        own, everywhere = {"label_selector": span_label(node)}, {"label_selector": EVERYWHERE}
        self.informers = {
            "nodestates": self._watch(NODE_STATES, field_selector=f"metadata.name={node}"),
            "meshnodes": self._watch(MESH_NODES),
            "ipamblocks": self._watch(IPAM_BLOCKS, **own),
        }
        for resource in (POLICY_CLASSES, POLICY_PROGRAMS, ADDRESS_GROUPS):
            self.informers[resource.plural] = self._watch(resource, **own)
            self.informers[f"{resource.plural}Everywhere"] = self._watch(resource, **everywhere)

    def _watch(self, resource: Resource, **selectors: str) -> Informer[Any]:
        informer = Informer(self._client, resource, OURS[resource], **selectors)  # type: ignore[arg-type]

        def hear(batch: Batch[Any]) -> None:
            self.heard[resource.plural] += len(batch.events)
            if resource not in (IPAM_BLOCKS, MESH_NODES):
                self._report_soon()

        informer.add_handler(hear)
        return informer

    def _report_soon(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(REPORT_AFTER, self._report)

    def _report(self) -> None:
        self._due = None
        task = asyncio.create_task(self._write_report())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write_report(self) -> None:
        applied = {name: informer.resource_version for name, informer in self.informers.items()}
        patch = {
            "status": {"applied": {name: v for name, v in applied.items() if name not in ("meshnodes", "ipamblocks")}}
        }
        await self._client.patch(NODE_REPORTS, NodeReport, self.node, patch, how=PatchType.MERGE)
        self.reports += 1

    async def start(self) -> None:
        await self._client.create(NODE_REPORTS, NodeReport(metadata=ObjectMeta(name=self.node)))
        for informer in self.informers.values():
            informer.start()
        for informer in self.informers.values():
            await informer.wait_synced()

    async def stop(self) -> None:
        if self._due is not None:
            self._due.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(informer.stop() for informer in self.informers.values()))

    @property
    def quiet(self) -> bool:
        return self._due is None and not self._tasks


@asynccontextmanager
async def ledger(client: KubeClient) -> AsyncIterator[Ledger]:
    found = Ledger(client)
    async with AsyncExitStack() as stack:
        for informer in found.informers:
            await stack.enter_async_context(informer)
            await informer.wait_synced()
        yield found


async def caught_up(informers: list[Informer[Any]]) -> None:
    """Until each has heard all that was written before this call."""
    await asyncio.gather(*(informer.reach_consistent() for informer in informers))
