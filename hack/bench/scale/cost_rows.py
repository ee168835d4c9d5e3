"""What each kind of change costs: time, writes, bytes written, and what one node's agent hears of it.

Owns: one change of each kind that the design's cost table has, on a cluster that is quiet otherwise, and what it led
to. Must not: sum up; "flat, or the growth explained" is for who reads the sizes beside each other.

A change is over when nothing was heard for a while; its time is that of the last thing heard, statuses left out. The
node that is measured has its agent running; what that hears is counted by watches like its own.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

from bench.figures import Figure
from bench.scale import changes, floors, load
from bench.scale.ears import Ear, Heard, everything, share_of
from bench.scale.load import HERE, Obj, Size
from bench.scale.node import MeasuredNode
from bench.scale.world import World
from manx_kube.client import PatchType
from manx_kube.resources import NAMESPACES, NETWORK_POLICIES, NODES, PODS, SERVICE_ACCOUNTS

CALM = 1.5
"""Seconds without a word after which a change is over (statuses are written a second after what they tell of)."""
POLICIES_OF_COLD = 100
ROUNDS = 3
THROUGH = "a policy created → heard, through the API server alone"
_NEW = "cost"


class Cost:
    """Changes on one world, each returning what was heard of it by all (`everything`) and by the node's agent."""

    def __init__(self, world: World, node: MeasuredNode, written: Ear, mine: Ear) -> None:
        self._world, self._node, self._written, self._mine = world, node, written, mine
        self._size, self._client = world.size, world.client
        self.rows: dict[str, tuple[str, Callable[[], Awaitable[object]]]] = {
            "pod": ("a pod is scheduled here", self._pod),
            "address": ("it gets its address (ADD)", self._address),
            "relabel": ("a pod elsewhere is relabelled", self._relabel),
            "namespace": ("a namespace is relabelled", self._namespace),
            "policy": ("a policy is created", self._policy),
            "rules": ("its rules change", self._rules),
            "nopolicy": ("it is deleted", self._no_policy),
            "node": ("a node joins", self._join),
            "nonode": ("it leaves", self._leave),
        }

    async def figures(self) -> list[Figure]:
        found: list[Figure] = []
        through = tuple(took * 1000 for took in await floors.through_server(self._client, ROUNDS))
        await self._written.quiet(CALM)
        self._written.take(), self._mine.take()
        for key, (text, change) in self.rows.items():
            began = time.perf_counter()
            await change()
            await self._written.anything()
            await self._written.quiet(CALM)
            heard, mine = self._written.take(), self._mine.take()
            self._world.say(f"{text}: {dict(heard.events)}, of which the agent heard {dict(mine.events)}")
            found += self._of(key, text, heard, mine, began, through)
        return found

    def _of(
        self, key: str, text: str, heard: Heard, mine: Heard, began: float, through: tuple[float, ...]
    ) -> Iterator[Figure]:
        key, pods = f"cost.{key}.{self._size.pods}", f"{self._size.pods} pods"
        took = max(0.0, heard.last - began)
        yield Figure(f"{key}.time", f"{text}: over after ({pods})", "ms", (took * 1000,), THROUGH, through)
        yield _counted(f"{key}.writes", "  writes", "writes", heard.count, heard.fewest)
        yield _counted(f"{key}.written", "  written (name, labels, spec)", "bytes", heard.sized, heard.least)
        yield Figure(f"{key}.statuses", "  statuses of policies", "writes", (heard.statuses,))
        yield _counted(f"{key}.heard", "  events heard by the node's agent", "events", mine.count, mine.fewest)
        yield _counted(f"{key}.octets", "  heard by it (name, labels, spec)", "bytes", mine.sized, mine.least)

    # --- the changes --------------------------------------------------------------------------------------------------

    def _new_pod(self) -> Obj:
        """One more here, like those that are here."""
        pod = load.pod(0, self._size)
        pod["metadata"] |= {"name": f"pod-{_NEW}"}
        return pod

    async def _pod(self) -> None:
        await self._client.create(PODS, self._new_pod())

    async def _address(self) -> None:
        await self._node.attach([self._new_pod()])

    async def _relabel(self) -> None:
        """Out of the app that the pods here let in, in the namespace of one of them, into the next one; both are in
        groups."""
        first = self._size.here - self._size.here % self._size.namespaces + self._size.namespaces
        numbers = range(first, self._size.pods, self._size.namespaces)
        number = next(number for number in numbers if load.app(number, self._size) == 1)
        await changes.set_labels(self._client, load.pod(number, self._size), app="app-2")

    async def _namespace(self) -> None:
        patch = {"metadata": {"labels": {"team": "team-1"}}}
        await self._client.patch(NAMESPACES, dict[str, Any], "ns-0", patch, how=PatchType.MERGE)

    def _new_policy(self, port: int) -> Obj:
        """Selects pods of one namespace, here and elsewhere."""
        policy = load.policy(0, self._size)
        policy["metadata"] |= {"name": f"policy-{_NEW}"}
        policy["spec"]["ingress"][0]["ports"] = [{"port": port}]
        return policy

    async def _policy(self) -> None:
        await self._client.create(NETWORK_POLICIES, self._new_policy(9001))

    async def _rules(self) -> None:
        policy = self._new_policy(9002)
        name, namespace = policy["metadata"]["name"], policy["metadata"]["namespace"]
        patch = {"spec": policy["spec"]}
        await self._client.patch(NETWORK_POLICIES, dict[str, Any], name, patch, namespace=namespace)

    async def _no_policy(self) -> None:
        await changes.delete_policy(self._client, self._new_policy(9002))

    async def _join(self) -> None:
        """As a kubelet makes it, addresses and all."""
        number = self._size.nodes
        await self._client.create(NODES, {**load.node(number), **load.node_status(number)})

    async def _leave(self) -> None:
        await self._client.delete(NODES, f"node-{self._size.nodes}")


def _counted(key: str, name: str, unit: str, found: int, fewest: int) -> Figure:
    return Figure(key, name, unit, (found,), "each object that is another, once", (fewest,), exact=True)


async def rows(world: World, node: MeasuredNode) -> list[Figure]:
    """All changes. The node's agent has to be running. Raises KubeError, RuntimeError; TimeoutError where a change led
    to nothing."""
    async with AsyncExitStack() as stack:
        written = await stack.enter_async_context(Ear(world.client, everything()))
        mine = await stack.enter_async_context(Ear(world.client, share_of(HERE)))
        return await Cost(world, node, written, mine).figures()


async def cold(world: World, node: MeasuredNode) -> Figure:
    """A pod that needs policies of which its node has none yet: created (answered) → its ADD answered. The floor is the
    same for the next pod, which finds them there."""
    namespace: Obj = {"metadata": {"name": "cold"}}
    await world.client.create(NAMESPACES, namespace)
    await world.client.create(SERVICE_ACCOUNTS, {"metadata": {"namespace": "cold", "name": "default"}})
    await load.together(world.client.create(NETWORK_POLICIES, _cold_policy(n)) for n in range(POLICIES_OF_COLD))
    await world.client.create(PODS, _cold_pod("other", "node-1"))
    first, second = [await _started(world, node, name) for name in ("first", "second")]
    text = f"first pod of {POLICIES_OF_COLD} policies on a node: created → ADD done ({world.size.pods} pods)"
    return Figure(f"cost.cold.{world.size.pods}", text, "ms", (first,), "the second one's", (second,))


async def _started(world: World, node: MeasuredNode, name: str) -> float:
    """Milliseconds."""
    await world.quiet()
    began = time.perf_counter()
    await world.client.create(PODS, _cold_pod(name, HERE))
    await node.attach([_cold_pod(name, HERE)])
    return (time.perf_counter() - began) * 1000


def _cold_pod(name: str, node: str) -> Obj:
    pod = load.pod(0, Size())
    pod["metadata"] |= {"namespace": "cold", "name": name}
    pod["spec"]["nodeName"] = node
    return pod


def _cold_policy(number: int) -> Obj:
    """Each allows another app, on another port. All apply by one selector, and are too many to be inside a class: the
    node has to hear of each."""
    policy = load.policy(number * Size().namespaces, Size())
    policy["metadata"] = {"namespace": "cold", "name": f"policy-{number}"}
    policy["spec"]["podSelector"] = {}
    policy["spec"]["ingress"][0]["ports"] = [{"port": 10000 + number}]
    return policy
