"""A process with many listeners in it: agents' watches, or clients that watch everything.

    python -m bench.scale.listening KUBECONFIG agents NODES
    python -m bench.scale.listening KUBECONFIG everything CLIENTS
    python -m bench.scale.listening KUBECONFIG share NODE
    python -m bench.scale.listening KUBECONFIG concerned|unconcerned WATCHES

Owns: the listeners, when each event reached each of them, and saying so (JSON, in a line of its own) when it is
told to end by SIGTERM. Must not: cause anything.

An agent is its nine informers, selectors, caches and decoding as `manx_agent.watches` has them, on connections of its
own. An event's lag is from when the first listener of this process had it, one more that listens to everything among
them: what the API server, or this process, takes longer for some than for others. What should have been heard is known
from that one: each agent hears of an object that has its label, or had it before.
Clients that watch everything hear pods, policies and namespaces, and do not decode them: theirs is the server's cost.
So does the one that hears a node's share: it is the least that an agent could do.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench.figures import percentile
from bench.scale.ears import Selected, share_of
from manx_core.api.v1alpha1 import AddressGroup, IPAMBlock, MeshNode, NodeState, PolicyClass, PolicyProgram
from manx_core.span import EVERYWHERE, span_label
from manx_kube.client import KubeClient
from manx_kube.config import ApiConfig
from manx_kube.informer import Batch, Informer
from manx_kube.resources import (
    ADDRESS_GROUPS,
    IPAM_BLOCKS,
    MESH_NODES,
    NAMESPACES,
    NETWORK_POLICIES,
    NODE_STATES,
    PODS,
    POLICY_CLASSES,
    POLICY_PROGRAMS,
    Resource,
)

LISTENING = "listening"
_TYPES: dict[Resource, type[Any]] = {
    NODE_STATES: NodeState, MESH_NODES: MeshNode, IPAM_BLOCKS: IPAMBlock,
    POLICY_CLASSES: PolicyClass, POLICY_PROGRAMS: PolicyProgram, ADDRESS_GROUPS: AddressGroup,
}  # fmt: skip
_HOUR = 3600
_AT_ONCE = 8
_PATIENCE = 20
_EACH = 10
"""Watches of one client."""
LABEL = "manx.dev/fanout"


class Agents:
    """`nodes` of them, as node-0, node-1 …"""

    def __init__(self, config: ApiConfig, nodes: int, stack: AsyncExitStack) -> None:
        self._config, self._stack = config, stack
        self._names = [f"node-{number}" for number in range(nodes)]
        self._labels = Counter(map(span_label, self._names))
        self._first: dict[tuple[str, str], float] = {}
        self._lags: list[float] = []
        self._delivered: Counter[str] = Counter()
        self._due: Counter[str] = Counter()
        self._counting = False
        self._informers: list[Informer[Any]] = []

    async def start(self) -> None:
        await self._listen([(resource, {}) for resource in _TYPES], reference=True)
        for start in range(0, len(self._names), _AT_ONCE):
            await asyncio.gather(*(self._listen(share_of(name)) for name in self._names[start : start + _AT_ONCE]))
        self._counting = True

    async def _listen(self, selected: Iterable[tuple[Resource, dict[str, str]]], *, reference: bool = False) -> None:
        client = await self._stack.enter_async_context(KubeClient(self._config, timeout=60.0))
        informers = [self._informer(client, resource, selectors) for resource, selectors in selected]
        for informer in informers:
            self._stack.push_async_callback(informer.stop)
            informer.start()
        await asyncio.gather(*(informer.wait_synced() for informer in informers))
        for informer in informers:
            self._hear(informer, reference)
        self._informers += informers

    @staticmethod
    def _informer(client: KubeClient, resource: Resource, selectors: dict[str, str]) -> Informer[Any]:
        return Informer(
            client, resource, _TYPES[resource],
            label_selector=selectors.get("labelSelector"), field_selector=selectors.get("fieldSelector"),
        )  # fmt: skip

    def _hear(self, informer: Informer[Any], reference: bool) -> None:
        resource = informer.resource

        def heard(batch: Batch[Any]) -> None:
            if self._counting:
                now = time.perf_counter()
                for event in batch.events:
                    self._event(resource, event, now, reference)

        informer.add_handler(heard)

    def _event(self, resource: Resource, event: Any, now: float, reference: bool) -> None:
        version = event.new.metadata.resource_version if event.new is not None else event.deleted_at
        first = self._first.setdefault((resource.plural, version), now)
        if reference:
            self._due[resource.plural] += self._ears_of(resource, event)
        else:
            self._delivered[resource.plural] += 1
            self._lags.append(now - first)

    def _ears_of(self, resource: Resource, event: Any) -> int:
        """How many watches of agents are to hear of it: an object may have an agent's own label and the one for all."""
        if resource == MESH_NODES:
            return len(self._names)
        if resource == NODE_STATES:
            return int(event.key[1] in self._names)
        labels = {label for obj in (event.old, event.new) if obj is not None for label in obj.metadata.labels}
        everywhere = len(self._names) if EVERYWHERE in labels else 0
        return everywhere + sum(self._labels[label] for label in labels)

    def heard(self) -> int:
        """Events."""
        return self._delivered.total()

    def found(self) -> dict[str, Any]:
        """`lags`: percentiles, from the lowest to the highest, in ms."""
        lags = sorted(lag * 1000 for lag in self._lags) or [0.0]
        missed = {kind: count - self._delivered[kind] for kind, count in self._due.items()}
        return {
            "watches": len(self._informers) - len(_TYPES),
            "events": self._delivered.total(),
            "due": self._due.total(),
            "missed": sum(abs(count) for count in missed.values()),
            "lags": [percentile(lags, share) for share in range(101)],
        }


class Bare:
    """Clients that hear, and do nothing with it: `clients` of them, each with watches of its own."""

    def __init__(self, config: ApiConfig, clients: int, selected: list[Selected], stack: AsyncExitStack) -> None:
        self._config, self._clients, self._selected, self._stack = config, clients, selected, stack
        self._events: Counter[int] = Counter()
        """Of each client."""
        self._octets = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for number in range(self._clients):
            client = await self._stack.enter_async_context(KubeClient(self._config, timeout=60.0))
            for resource, selectors in self._selected:
                params = {**selectors, "resourceVersion": await client.current_resource_version(resource)}
                self._tasks.append(asyncio.create_task(self._listen(client, number, resource, params)))
        self._stack.push_async_callback(self._end)
        await asyncio.sleep(1)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, client: KubeClient, number: int, resource: Resource, params: dict[str, str]) -> None:
        params = {**params, "watch": "true", "timeoutSeconds": str(_HOUR)}
        async with client.transport.stream(resource.path(), params=params, idle_timeout=_HOUR) as pieces:
            async for piece in pieces:
                self._octets += len(piece)
                self._events[number] += piece.count(b"\n")

    def heard(self) -> int:
        """Events."""
        return self._events.total()

    def found(self) -> dict[str, Any]:
        """What the client heard that heard most is due to each."""
        done, heard = [task for task in self._tasks if task.done()], self._events.total()
        due = max(self._events.values(), default=0) * self._clients
        return {
            "watches": len(self._tasks), "events": heard, "due": due, "missed": due - heard,
            "octets": self._octets, "ended": len(done), "why": Counter(str(task.exception()) for task in done),
        }  # fmt: skip


def listeners(config: ApiConfig, what: str, which: str, stack: AsyncExitStack) -> Agents | Bare:
    if what == "agents":
        return Agents(config, int(which), stack)
    if what == "share":
        return Bare(config, 1, share_of(which), stack)
    if what in ("concerned", "unconcerned"):
        one: Selected = (ADDRESS_GROUPS, {"labelSelector": LABEL if what == "concerned" else f"{LABEL}-not"})
        return Bare(config, int(which) // _EACH, [one] * _EACH, stack)
    return Bare(config, int(which), [(resource, {}) for resource in (PODS, NETWORK_POLICIES, NAMESPACES)], stack)


async def main(kubeconfig: str, what: str, which: str) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with AsyncExitStack() as stack:
        found = listeners(ApiConfig.from_kubeconfig(Path(kubeconfig)), what, which, stack)
        await found.start()
        print(LISTENING, flush=True)
        await ended.wait()
        await _caught_up(found)
        print(json.dumps(found.found()), flush=True)


async def _caught_up(listeners: Agents | Bare) -> None:
    """Until nothing more comes: what is late is not lost. Not for ever."""
    for _ in range(_PATIENCE):
        before = listeners.heard()
        await asyncio.sleep(1)
        if listeners.heard() == before:
            return


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
