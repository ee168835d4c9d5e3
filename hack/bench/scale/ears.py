"""Listening as an agent does, or to everything, to count what is heard: events and bytes.

Owns: bare watches on our kinds, and the counts. Must not: keep a cache, or understand objects beyond what makes their
size the same in every run.

A watch's line is what goes over the wire, TLS and HTTP left out. Its size varies a little from run to run (a
resourceVersion's digits, an address's, managedFields' times). Counts that must be the same are therefore taken of name,
labels and spec (and a block's allocations) alone, addresses written with three digits to each byte. Events that change
nothing but the rest of a status are counted by themselves: how many there are depends on which node reports when.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import msgspec

from bench.scale.processes import until
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
PATIENCE = 60.0


@dataclass
class Heard:
    """What came since the last look. `events` by kind; `sized`: bytes that are the same in every run; `octets`: all;
    `last`: when the last of `events` came, by time.perf_counter; `objects`: what each object that they tell of was
    before (None: nothing), is since, and the bytes that told the last of it."""

    events: Counter[str] = field(default_factory=Counter)
    sized: int = 0
    octets: int = 0
    statuses: int = 0
    last: float = 0.0
    objects: dict[tuple[str, str], tuple[bytes | None, bytes | None, int]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return self.events.total()

    @property
    def fewest(self) -> int:
        """Objects that are others now: one event for each would have told as much."""
        return sum(before != now for before, now, _ in self.objects.values())

    @property
    def least(self) -> int:
        """Bytes (as `sized`) of those events."""
        return sum(sized for before, now, sized in self.objects.values() if before != now)


class Line(NamedTuple):
    """An event, and when it was heard."""

    kind: str
    event: watch.WatchLine
    at: float


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
        self._lines: list[Line] = []
        self._known: dict[tuple[str, str], bytes] = {}
        """(kind, name) → what is counted of the object."""
        self.last = time.perf_counter()
        """When anything was heard."""
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for resource, selectors in self._selected:
            label, field_ = selectors.get("labelSelector"), selectors.get("fieldSelector")
            listed = await self._client.list_all(resource, dict[str, Any], label_selector=label, field_selector=field_)
            self._known |= {(resource.kind, obj["metadata"]["name"]): counted(obj) for obj in listed.items}
            params = {**selectors, "resourceVersion": listed.resource_version}
            self._tasks.append(asyncio.create_task(self._listen(resource, params)))
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
                self._lines += [Line(resource.kind, line, self.last) for line in lines]

    async def anything(self) -> None:
        """Until there is something to `take`. Raises TimeoutError."""
        await until(lambda: self._lines, "something to be heard", PATIENCE, every=0.001)

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
        heard = Heard()
        for line in lines:
            self._count(line, heard)
        return heard

    def _count(self, line: Line, heard: Heard) -> None:
        obj: dict[str, Any] = msgspec.json.decode(line.event.object)
        key, now = (line.kind, obj["metadata"]["name"]), counted(obj)
        before = self._known.pop(key, None)
        heard.octets += len(line.event.object)
        if line.event.type != "DELETED":
            self._known[key] = now
            if before == now:
                heard.statuses += 1
                return
        heard.events[line.kind] += 1
        sized = len(_ADDRESS.sub(b"000.000.000.000", now))
        heard.sized += sized
        heard.last = line.at
        first = heard.objects[key][0] if key in heard.objects else before
        heard.objects[key] = (first, self._known.get(key), sized)


def counted(obj: Mapping[str, Any]) -> bytes:
    """What an object says that agents act on."""
    meta, status = obj["metadata"], obj.get("status", {})
    said = [meta["name"], meta.get("labels", {}), obj.get("spec", {}), status.get("allocations", [])]
    return msgspec.json.encode(said, order="sorted")
