"""Much at once: how many writes it takes until everything is as it shall be, and how long.

Owns: the bursts, and holding their writes to what their change allows. Must not: assert a time.

Beside the writes of each burst stands the number of objects that are another after it, which is the fewest there could
be. That there are no more than elements that are another (`snapshots`), and no more at a time than the ceiling allows,
is checked; the latter by when they are heard of, so with leave for hearing late: while the API server collects its
garbage nothing is heard, and then all at once (1,197 sent in a second were 1,269 heard in one).
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import msgspec

from bench.figures import Figure
from bench.scale import changes, load
from bench.scale.lags import Lags
from bench.scale.load import Obj
from bench.scale.processes import until
from bench.scale.pulse import Pulse, most_beyond, most_in_a_second
from bench.scale.server import seen
from bench.scale.snapshots import difference, snapshot
from bench.scale.world import World, kubectl
from manx_kube.client import PatchType
from manx_kube.resources import NAMESPACES, NETWORK_POLICIES, NODES, PODS, SERVICE_ACCOUNTS

RATE, AT_ONCE = 1000.0, 200.0
CEILING = {"MANX_WRITE_RATE": str(RATE), "MANX_WRITE_BURST": str(AT_ONCE)}
"""As they are where nothing else is said."""
LATE = 0.5
"""Seconds by which a write is heard of later than another, at most."""
NAMESPACE, NODE = "burst", "node-drained"
WRITTEN = "everything is written"


@dataclass(frozen=True)
class Plan:
    """How many of each; `down`: seconds without an operator, with `rate` relabellings each; `killed`: whether also with
    it killed; `calm`: seconds without a write that are a burst's end."""

    pods: int
    policies: int
    drained: int
    down: float
    killed: bool
    calm: float
    rate: float = 100.0


QUICK = Plan(pods=60, policies=20, drained=20, down=1, killed=False, calm=1.5)
FULL = Plan(pods=1_000, policies=500, drained=250, down=60, killed=True, calm=5)


async def rows(found: World, plan: Plan, lease: dict[str, str]) -> AsyncGenerator[Figure]:
    """Raises RuntimeError where there were more writes than the change allows; KubeError, TimeoutError."""
    bursts = Bursts(found, plan, {**CEILING, **lease})
    await bursts.fill()
    for burst in bursts.all() if plan.killed else bursts.all()[:-1]:
        for figure in await burst():
            yield figure
    bursts.operator.end()


class Bursts:
    def __init__(self, found: World, plan: Plan, env: dict[str, str]) -> None:
        self._world, self._plan, self._client, self._env = found, plan, found.client, env
        self.operator = found.operator(**env)

    def all(self) -> list[Callable[[], Awaitable[list[Figure]]]]:
        plan = self._plan
        return [
            lambda: self._burst("namespace", f"a namespace of {plan.pods} pods relabelled", self._namespace,
                                exact=True),
            lambda: self._burst("pods", f"{plan.pods} pods relabelled, as fast as the API server can", self._pods),
            lambda: self._burst("policies", f"{plan.policies} policies by one kubectl create", self._policies),
            lambda: self._burst("drain", f"a node of {plan.drained} pods drained", self._drain),
            lambda: self._burst("stopped", f"operator stopped for {plan.down:g} s, {plan.rate:g} relabellings each",
                                self._stopped),
            lambda: self._burst("killed", f"operator gone for {plan.down:g} s, {plan.rate:g} relabellings each",
                                self._killed),
        ]  # fmt: skip

    # --- what it happens to -------------------------------------------------------------------------------------------

    async def fill(self) -> None:
        """A namespace with pods on all nodes, and a node with pods of all namespaces."""
        await until(lambda: self.operator.says(WRITTEN), "everything to be written")
        await self._client.create(NAMESPACES, {"metadata": {"name": NAMESPACE, "labels": {"team": "team-0"}}})
        await self._client.create(SERVICE_ACCOUNTS, {"metadata": {"namespace": NAMESPACE, "name": "default"}})
        await self._client.create(NODES, {"metadata": {"name": NODE}})
        status = load.node_status(self._world.size.nodes + 1)
        await self._client.patch(NODES, dict[str, Any], NODE, status, subresource="status")
        await load.together(self._client.create(NETWORK_POLICIES, self._policy(n, f"policy-{n}")) for n in range(10))
        await load.together(self._client.create(PODS, self._pod(n)) for n in range(self._plan.pods))
        await load.together(self._client.create(PODS, self._drained(n)) for n in range(self._plan.drained))
        await self._world.quiet(2 * self._plan.calm)

    def _pod(self, number: int) -> Obj:
        size = self._world.size
        pod = load.pod(size.here + number, size)
        app = f"app-{number % load.APPS}"
        pod["metadata"] = {"namespace": NAMESPACE, "name": f"{NAMESPACE}-{number}", "labels": {"app": app}}
        return pod

    def _drained(self, number: int) -> Obj:
        pod = load.pod(number, self._world.size)
        pod["metadata"]["name"] = f"drained-{number}"
        pod["spec"]["nodeName"] = NODE
        return pod

    def _policy(self, number: int, name: str) -> Obj:
        """In the namespace; each selects an app and allows another."""
        policy = load.policy(number * self._world.size.namespaces, self._world.size)
        return {**policy, "metadata": {"namespace": NAMESPACE, "name": name}}

    # --- one burst ----------------------------------------------------------------------------------------------------

    async def _burst(
        self, key: str, name: str, change: Callable[[], Awaitable[float]], *, exact: bool = False
    ) -> list[Figure]:
        """`change` returns when (by time.perf_counter) the operator could begin."""
        async with AsyncExitStack() as stack:
            before, counted = await snapshot(self._client), await seen(self._client)
            pulse = await stack.enter_async_context(Pulse(self._client))
            began = await change()
            await self._world.quiet(self._plan.calm)
            counted = (await seen(self._client)).since(counted)
            fewest = difference(before, await snapshot(self._client))
            times = pulse.take()
        peak, beyond = most_in_a_second(times), most_beyond(times, RATE)
        self._world.say(f"{name}: {counted.writes} writes, {fewest}, {peak} in a second at most")
        if counted.writes > fewest.elements or beyond > AT_ONCE + LATE * RATE:
            raise RuntimeError(f"{name}: {counted.writes} writes for {fewest}, a burst of {beyond:.0f}")
        key = f"burst.{key}"
        took = max(0.0, times[-1] - began) if times else 0.0
        return [
            Figure(f"{key}.time", f"{name} → all written, statuses too", "s", (took,),
                   "those objects at the ceiling's pace", (fewest.objects / RATE,)),
            Figure(f"{key}.writes", "  writes", "writes", (counted.writes,), "objects that are others then",
                   (fewest.objects,), exact=exact),
            Figure(f"{key}.rate", "  in the second that had most", "writes", (peak,)),
        ]  # fmt: skip

    async def _namespace(self) -> float:
        began = time.perf_counter()
        patch = {"metadata": {"labels": {"team": "team-1"}}}
        await self._client.patch(NAMESPACES, dict[str, Any], NAMESPACE, patch, how=PatchType.MERGE)
        return began

    async def _pods(self) -> float:
        began = time.perf_counter()
        await load.together(
            changes.set_labels(self._client, self._pod(n), app=f"app-{(n + 1) % load.APPS}")
            for n in range(self._plan.pods)
        )
        return began

    async def _policies(self) -> float:
        items = [self._policy(n % 10, f"many-{n}") for n in range(self._plan.policies)]
        for number, item in enumerate(items):
            item["apiVersion"], item["kind"] = NETWORK_POLICIES.api_version, NETWORK_POLICIES.kind
            item["spec"]["ingress"][0]["ports"] = [{"port": 10_000 + number}]
        text = msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": items}).decode()
        began = time.perf_counter()
        await asyncio.to_thread(kubectl, self._world.server, "create", "-f", "-", given=text)
        return began

    async def _drain(self) -> float:
        began = time.perf_counter()
        await load.together(self._delete(self._drained(n)["metadata"]) for n in range(self._plan.drained))
        return began

    async def _delete(self, meta: Obj) -> None:
        """At once, as once the kubelet has ended it."""
        path = PODS.path(meta["namespace"], meta["name"])
        await self._client.transport.request("DELETE", path, body=b'{"gracePeriodSeconds":0}')

    async def _stopped(self) -> float:
        self.operator.signal(signal.SIGSTOP)
        await self._relabel(step=5)
        self.operator.signal(signal.SIGCONT)
        return time.perf_counter()

    async def _killed(self) -> float:
        self.operator.end(kill=True)
        await self._relabel(step=6)
        self.operator = self._world.operator(**self._env)
        began = time.perf_counter()
        await until(lambda: self.operator.says(WRITTEN), "everything to be written")
        return began

    async def _relabel(self, step: int) -> None:
        async with Lags(self._client, self._world.size, step) as lags:
            await lags.relabel(self._plan.rate, self._plan.down)
