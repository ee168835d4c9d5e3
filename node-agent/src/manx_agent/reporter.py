"""Writes the node's report to the API server.

Owns: when the NodeReport is written, and its one writer. Must not: decide what it says (`report` does), or ever hold up
anything else: with the API server away it tries again until it is back.

Why coalesced: the operator waits for what is in force, so what comes alone is reported at once; but a burst of changes
is one report, a stream of them is reported ever less often, down to every other second, and a report that says nothing
new is not written. In a cluster where something changes all the time, reports would otherwise be most of an agent's
work, and of what the operator hears.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec

from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.v1alpha1 import NodeReport, NodeReportStatus
from manx_kube.client import KubeClient
from manx_kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from manx_kube.resources import NODE_REPORTS

log = logging.getLogger(__name__)

COALESCE = 0.1
"""Seconds between two reports at least."""
SLOWEST = 2.0
"""Seconds between two reports in a stream of changes: the pause doubles up to this as long as there is news in it."""
RETRY = 2.0


class Reporter:
    """`make` gives the report for now from the one before."""

    def __init__(self, client: KubeClient, node: str, make: Callable[[NodeReportStatus], NodeReportStatus]) -> None:
        self._client, self._node, self._make = client, node, make
        self._wake = asyncio.Event()
        self._last: NodeReport | None = None

    def wake(self) -> None:
        """Something that is reported may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Reports for ever."""
        pause = COALESCE
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._write()
            except KubeError as error:
                log.warning("could not write NodeReport %s, trying again: %s", self._node, error)
                self._wake.set()
                await asyncio.sleep(RETRY)
            await asyncio.sleep(pause)
            pause = min(pause * 2, SLOWEST) if self._wake.is_set() else COALESCE

    async def _write(self) -> None:
        before = self._last or await self._read()
        status = self._make(before.status)
        if status == before.status and before.metadata.resource_version:
            self._last = before
            return
        report = msgspec.structs.replace(before, status=status)
        self._last = None
        with suppress(Conflict, NotFound, AlreadyExists):
            self._last = await self._send(report)
        if self._last is None:
            self._wake.set()

    async def _read(self) -> NodeReport:
        try:
            return await self._client.get(NODE_REPORTS, NodeReport, self._node)
        except NotFound:
            return NodeReport(metadata=ObjectMeta(name=self._node))

    async def _send(self, report: NodeReport) -> NodeReport:
        if report.metadata.resource_version:
            return await self._client.replace(NODE_REPORTS, report, tracked=False)
        return await self._client.create(NODE_REPORTS, report)
