"""The operator on ten thousand pods: its start, memory, idle and busy CPU, lag, failover, and bursts.

Owns: these rows, each beside its floor of the same run, and how many writes each takes. Must not: count by what the
operator says it did: the API server's own counts are taken.

The start is measured in parts, because a start from nothing waits for agents to give addresses: everything but
addresses, from nothing; then addresses for all pods at once; then with everything already right; then with addresses
known and all else gone.
"""

from __future__ import annotations

import asyncio
import functools
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from bench.figures import Figure, percentile
from bench.measures import Given
from bench.scale import bursts, floors, load
from bench.scale.lags import Lags
from bench.scale.load import Size
from bench.scale.players import Players
from bench.scale.processes import Process, imported, share, until
from bench.scale.server import seen
from bench.scale.world import OURS, World, world
from manx_core.api.v1alpha1 import IPAMBlock
from manx_kube.resources import IPAM_BLOCKS, NAMESPACES, NETWORK_POLICIES, NODES, PODS, SERVICE_ACCOUNTS

WRITTEN, READY = "everything is written", "operator ready"
OPERATOR = "manx_operator.main"
RELABELS = 100
USUAL = {"MANX_LEASE_DURATION": "15", "MANX_LEASE_RENEW_DEADLINE": "10", "MANX_LEASE_RETRY_PERIOD": "2"}
"""The Lease's timing where nothing else is said."""
_INPUTS = (PODS, NETWORK_POLICIES, NAMESPACES, NODES, SERVICE_ACCOUNTS)


@dataclass(frozen=True)
class Plan:
    """How much of each. Times in seconds. `calm`: nothing written for so long is the end."""

    size: Size
    idle: float
    relabel: float
    failovers: int
    rounds: int
    bursts: bursts.Plan
    lease: dict[str, str]
    calm: float


QUICK = Plan(load.QUICK, idle=1, relabel=1, failovers=0, rounds=1, bursts=bursts.QUICK, lease=USUAL, calm=1.5)
FULL = Plan(load.FULL, idle=30, relabel=30, failovers=3, rounds=10, bursts=bursts.FULL, lease=USUAL, calm=5)


def measure(given: Given) -> Iterator[Figure]:
    """Raises AssertionError, RuntimeError, TimeoutError, KubeError where something does not come up."""
    plan = QUICK if given.quick else FULL
    with asyncio.Runner() as runner:
        yield from runner.run(_collected(plan))


async def _collected(plan: Plan) -> list[Figure]:
    async with world(plan.size, players=False) as found:
        rows = Rows(plan, found)
        figures = []
        async for figure in rows.all():
            found.say(f"{figure.name}: {statistics.median(figure.samples):.2f} {figure.unit}")
            figures.append(figure)
        return figures


class Rows:
    """One run on one world."""

    def __init__(self, plan: Plan, found: World) -> None:
        self._plan, self._world, self._client = plan, found, found.client
        imported(OPERATOR)  # compiled now, where it was not
        self._imports = tuple(floors.took(lambda: imported(OPERATOR)) for _ in range(plan.rounds))

    async def all(self) -> AsyncIterator[Figure]:
        for part in (self._floors, self._nothing, self._addresses, self._again, self._anew, self._busy, self._failover):
            for figure in await part():
                yield figure
        for figure in await bursts.rows(self._world, self._plan.bursts, self._plan.lease):
            yield figure

    # --- starts -------------------------------------------------------------------------------------------------------

    async def _floors(self) -> list[Figure]:
        rounds = range(self._plan.rounds)
        listed = tuple([await self._list() for _ in rounds])
        return [
            Figure("floor.list", "floor: the API server's own list of pods, policies, nodes", "s", listed),
            Figure("floor.loop.operator", f"floor: a loop of {floors.LOOP} in Python", "s",
                   tuple(floors.loop() for _ in rounds)),
        ]  # fmt: skip

    async def _list(self) -> float:
        """Seconds; what comes is not decoded."""
        began = time.perf_counter()
        for resource in _INPUTS:
            await self._client.transport.request("GET", resource.path())
        return time.perf_counter() - began

    async def _nothing(self) -> list[Figure]:
        return await self._start("nothing", "operator, from nothing: start → everything written but addresses")

    async def _again(self) -> list[Figure]:
        return await self._start("again", "operator, everything right already: start → looked at")

    async def _anew(self) -> list[Figure]:
        for resource in OURS:
            if resource != IPAM_BLOCKS:
                await self._client.transport.request("DELETE", resource.path())
        return await self._start("anew", "operator, addresses known and all else gone: start → everything written")

    async def _start(self, key: str, name: str) -> list[Figure]:
        """Ends as it began: with no operator."""
        before = await seen(self._client)
        operator = self._world.operator()
        await until(lambda: operator.says(WRITTEN), "everything to be written")
        took, cpu = time.perf_counter() - operator.started, operator.usage().cpu
        await self._world.quiet(self._plan.calm)
        after = operator.usage()
        operator.end()
        counted = (await seen(self._client)).since(before)
        key = f"operator.start.{key}"
        objects = await self._objects()
        return [
            Figure(key, name, "s", (took,), "Python's start with the operator's imports", self._imports),
            Figure(f"{key}.cpu", "  processor time", "s", (cpu,)),
            Figure(f"{key}.resident", "  resident after that", "MB", (after.resident,)),
            Figure(f"{key}.peak", "  at its peak", "MB", (after.peak,)),
            Figure(f"{key}.writes", "  writes", "writes", (counted.writes,), "objects", (objects,), exact=True),
            Figure(f"{key}.refused", "  refused", "writes", (counted.refused.total(),)),
            Figure(f"{key}.statuses", "  statuses of policies", "writes", (counted.statuses,)),
        ]

    async def _objects(self) -> int:
        """How many there are of ours."""
        return sum([len((await self._client.list_all(resource, dict)).items) for resource in OURS])

    async def _addresses(self) -> list[Figure]:
        """All pods get their addresses as fast as the API server takes them."""
        operator = self._world.operator()
        await until(lambda: operator.says(WRITTEN), "everything to be written")
        await self._world.quiet(self._plan.calm)
        cpu, before, began = operator.usage().cpu, await seen(self._client), time.perf_counter()
        await self._world.stack.enter_async_context(Players(self._client, real=lambda _: False))
        await self._all_addressed()
        took = await self._world.quiet(self._plan.calm) - began
        counted, used = (await seen(self._client)).since(before), operator.usage()
        operator.end()
        key, text = "operator.addresses", "all pods given addresses at once → every group written"
        return [
            Figure(key, text, "s", (took,)),
            Figure(f"{key}.cpu", "  processor time", "s", (used.cpu - cpu,)),
            Figure(f"{key}.writes", "  writes", "writes", (counted.writes,), "pods", (self._plan.size.pods,)),
            Figure(f"{key}.peak", "  operator at its peak", "MB", (used.peak,)),
        ]

    async def _all_addressed(self) -> None:
        given = 0
        while given < self._plan.size.pods:
            await asyncio.sleep(self._plan.calm / 5)
            blocks = await self._client.list_all(IPAM_BLOCKS, IPAMBlock)
            given = sum(len(block.status.allocations) for block in blocks.items)

    # --- at work ------------------------------------------------------------------------------------------------------

    async def _ready(self) -> Process:
        operator = self._world.operator()
        await until(lambda: operator.says(WRITTEN), "everything to be written")
        await self._world.quiet(self._plan.calm)
        return operator

    async def _busy(self) -> list[Figure]:
        operator = await self._ready()
        idle = await share({"operator": operator.pid}, asyncio.sleep(self._plan.idle))
        through = tuple(x * 1000 for x in await floors.through_server(self._client, self._plan.rounds))
        async with Lags(self._client, self._plan.size) as lags:
            before, began = await seen(self._client), time.perf_counter()
            busy = await share({"operator": operator.pid}, lags.relabel(RELABELS, self._plan.relabel))
            pace = RELABELS * self._plan.relabel / (time.perf_counter() - began)
            await self._world.quiet(self._plan.calm)
            counted = (await seen(self._client)).since(before)
            found = tuple(x * 1000 for x in lags.found())
        used = operator.usage()
        operator.end()
        return [
            Figure("operator.idle.cpu", "operator idle", "% of a core", (idle["operator"],)),
            Figure("operator.relabel.cpu", f"operator while {RELABELS} pods a second are relabelled", "% of a core",
                   (busy["operator"],)),
            Figure("operator.relabel.pace", "  the API server kept up with", "pods/s", (pace,)),
            *_lag_figures(found, through),
            Figure("operator.relabel.writes", "  writes for each relabelling", "writes",
                   (counted.writes / (RELABELS * self._plan.relabel),)),
            Figure("operator.resident", "operator resident after that", "MB", (used.resident,)),
            Figure("operator.peak", "  at its peak", "MB", (used.peak,)),
        ]  # fmt: skip

    # --- failover -----------------------------------------------------------------------------------------------------

    async def _failover(self) -> list[Figure]:
        if not self._plan.failovers:
            return []
        lease = self._plan.lease
        leader = self._world.operator("operator-0", **lease)
        await until(lambda: leader.says(WRITTEN), "the first to lead")
        took, standing = [], 0.0
        for turn in range(self._plan.failovers):
            standby = self._world.operator(f"operator-{turn + 1}", **lease)
            await until(functools.partial(standby.says, READY), "the other to stand by")
            await self._world.quiet(self._plan.calm)
            standing = standby.usage().resident
            took.append(await self._kill(leader, turn + 2))
            leader = standby
        leader.end()
        seconds = lease["MANX_LEASE_DURATION"]
        name = f"leader killed → a change made then is in the groups (Lease of {seconds} s)"
        return [
            Figure("operator.failover", name, "s", tuple(took), "the Lease's duration", (float(seconds),)),
            Figure("operator.standby.resident", "operator that stands by, resident", "MB", (standing,)),
        ]

    async def _kill(self, leader: Process, step: int) -> float:
        async with Lags(self._client, self._plan.size, step) as lags:
            leader.end(kill=True)
            began = time.perf_counter()
            number = await lags.one(sure=True)
            await until(lambda: lags.heard(number), "the change to be in the groups")
            return lags.heard(number) - began


def _lag_figures(found: tuple[float, ...], through: tuple[float, ...]) -> Iterator[Figure]:
    floor = "a policy created → heard, through the API server alone"
    yield Figure("operator.relabel.lag", "  patch answered → its last chunk heard", "ms", found, floor, through)
    yield Figure("operator.relabel.lag.p99", "  the same, 99th percentile", "ms", (percentile(found, 99),))
