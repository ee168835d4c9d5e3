"""Listening as an agent does, or to everything, to count what is heard: events and bytes.

Owns: bare watches on our kinds, and the counts. Must not: keep a cache, or understand objects beyond what makes their
size the same in every run.

A watch's line is what goes over the wire, TLS and HTTP left out. Its size varies a little from run to run (a
resourceVersion's digits, an address's, managedFields' times). Counts that must be the same are therefore taken of name,
labels and spec alone, addresses written with three digits to each byte.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from bench.scale.world import OURS
from manx_core.span import EVERYWHERE, span_label
from manx_kube import watch
from manx_kube.client import KubeClient
from manx_kube.resources import (
    ADDRESS_GROUPS,
    IPAM_BLOCKS,
    MESH_NODES,
    NODE_STATES,
    POLICY_CLASSES,
    POLICY_PROGRAMS,
    Resource,
)

Selected = tuple[Resource, dict[str, str]]
_ADDRESS = re.compile(rb"\b\d{1,3}(\.\d{1,3}){3}\b")
_HOUR = "3600"


@dataclass(frozen=True)
class Heard:
    """What came since the last look. `events` by kind; `sized`: the part of `octets` that is the same in every run."""

    events: Counter[str]
    octets: int
    sized: int
    last: float

    @property
    def count(self) -> int:
        return self.events.total()


def everything() -> list[Selected]:
    """One event for each write of the operator's (and each of an address by an agent)."""
    return [(resource, {}) for resource in OURS]


def share_of(node: str) -> list[Selected]:
    """The watches of a node's agent (`manx_agent.watches`)."""
    sides = [{"labelSelector": span_label(node)}, {"labelSelector": EVERYWHERE}]
    policy = [(resource, side) for resource in (POLICY_CLASSES, POLICY_PROGRAMS, ADDRESS_GROUPS) for side in sides]
    return [
        (NODE_STATES, {"fieldSelector": f"metadata.name={node}"}),
        (MESH_NODES, {}),
        (IPAM_BLOCKS, sides[0]),
        *policy,
    ]


class Ear:
    """An async context manager; hears what is written after it was entered."""

    def __init__(self, client: KubeClient, selected: list[Selected]) -> None:
        self._client, self._selected = client, selected
        self._lines: list[tuple[str, watch.WatchLine]] = []
        self._octets = 0
        self.last = time.perf_counter()
        """When something was heard."""
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for resource, selectors in self._selected:
            version = await self._client.current_resource_version(resource)
            self._tasks.append(asyncio.create_task(self._listen(resource, {**selectors, "resourceVersion": version})))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, resource: Resource, params: Mapping[str, str]) -> None:
        params = {**params, "watch": "true", "timeoutSeconds": _HOUR}
        async with self._client.transport.stream(resource.path(), params=params, idle_timeout=3600) as pieces:
            async for lines in watch.events(pieces):
                self.last = time.perf_counter()
                self._lines += [(resource.kind, line) for line in lines]
                self._octets += sum(len(line.object) for line in lines)

    async def quiet(self, seconds: float) -> float:
        """Until nothing was heard for so long; when the last was. Raises what a watch raised."""
        began = time.perf_counter()
        while time.perf_counter() - max(self.last, began) < seconds:
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)
        return self.last

    def take(self) -> Heard:
        """What was heard since `take` was last called."""
        lines, self._lines = self._lines, []
        octets, self._octets = self._octets, 0
        return Heard(Counter(kind for kind, _ in lines), octets, sum(sized(line) for _, line in lines), self.last)


def sized(line: watch.WatchLine) -> int:
    """Bytes of what an event says that is the same in every run."""
    obj: dict[str, Any] = msgspec.json.decode(line.object)
    meta, status = obj["metadata"], obj.get("status", {})
    said = [line.type, meta["name"], meta.get("labels", {}), obj.get("spec", {}), status.get("allocations", [])]
    return len(_ADDRESS.sub(b"000.000.000.000", msgspec.json.encode(said)))
