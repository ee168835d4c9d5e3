"""The operator on ten thousand pods: its start, memory, idle and busy CPU, lag, failover, and bursts.

Owns: these rows, each beside its floor of the same run, and how many writes each takes. Must not: count by what the
operator says it did: the API server's own counts are taken.

The start is measured in parts, because a start from nothing waits for agents to give addresses: everything but
addresses, from nothing; then addresses for all pods at once; then with everything already right; then, after the rows
of an operator at work, with addresses known and all else gone. No cluster has just lost everything: the API server has
that in its watch caches for a while, as much as half a minute of relabellings leaves there, and the lag would be that
of its collecting the garbage.
"""

from __future__ import annotations

import asyncio
import functools
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping
from dataclasses import dataclass

from bench.figures import Figure
from bench.measures import Given, streamed
from bench.scale import bursts, floors, load
from bench.scale.lag_figures import lag_figures
from bench.scale.lags import Lags
from bench.scale.listener import Listener
from bench.scale.load import Size
from bench.scale.players import Players
from bench.scale.processes import Process, share, until
from bench.scale.server import seen
from bench.scale.snapshots import difference, snapshot
from bench.scale.wire import Wire
from bench.scale.world import OURS, World, world
from manx_core.api.v1alpha1 import IPAMBlock
from manx_kube.resources import ADDRESS_GROUPS, IPAM_BLOCKS, NAMESPACES, NETWORK_POLICIES, NODES, PODS, SERVICE_ACCOUNTS

WRITTEN, READY = "everything is written", "operator ready"
RELABELS = 100
STATUS_RATE = 100
"""MANX_STATUS_RATE, where nothing else is said."""
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
    yield from streamed(_collected(QUICK if given.quick else FULL))


async def _collected(plan: Plan) -> AsyncGenerator[Figure]:
    async with world(plan.size, players=False) as found:
        async for figure in Rows(plan, found).all():
            found.say(f"{figure.name}: {statistics.median(figure.samples):.2f} {figure.unit}")
            yield figure


class Rows:
    """One run on one world."""

    def __init__(self, plan: Plan, found: World) -> None:
        self._plan, self._world, self._client = plan, found, found.client
        self._imports = tuple(floors.imports(floors.OPERATOR) for _ in range(plan.rounds))
        self._memory = (floors.memory(floors.OPERATOR).resident,)

    async def all(self) -> AsyncGenerator[Figure]:
        for part in (self._floors, self._nothing, self._addresses, self._again, self._busy, self._anew, self._failover):
            for figure in await part():
                yield figure
        async for figure in bursts.rows(self._world, self._plan.bursts, self._plan.lease):
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
        objects, before = await self._objects(), await seen(self._client)
        operator = self._world.operator()
        await until(lambda: operator.says(WRITTEN), "everything to be written")
        took, cpu = time.perf_counter() - operator.started, operator.usage().cpu
        await self._world.quiet(self._plan.calm)
        after = operator.usage()
        operator.end()
        counted = (await seen(self._client)).since(before)
        key = f"operator.start.{key}"
        least = (await self._objects() - objects,)
        took_least, cpu_least = tuple(one.took for one in self._imports), tuple(one.cpu for one in self._imports)
        return [
            Figure(key, name, "s", (took,), "Python's start with the operator's imports", took_least),
            Figure(f"{key}.cpu", "  processor time", "s", (cpu,), "of that", cpu_least),
            self._of_memory(f"{key}.resident", "  resident after that", after.resident),
            self._of_memory(f"{key}.peak", "  at its peak", after.peak),
            Figure(
                f"{key}.writes",
                "  writes",
                "writes",
                (counted.writes,),
                "objects that there were none of",
                least,
                exact=True,
            ),
            Figure(f"{key}.refused", "  refused", "writes", (counted.refused.total(),)),
            Figure(f"{key}.statuses", "  statuses of policies", "writes", (counted.statuses,)),
        ]

    def _of_memory(self, key: str, name: str, megabytes: float) -> Figure:
        return Figure(key, name, "MB", (megabytes,), "a Python with the operator's imports", self._memory)

    async def _objects(self) -> int:
        """How many there are of ours."""
        return sum([len((await self._client.list_all(resource, dict)).items) for resource in OURS])

    async def _addresses(self) -> list[Figure]:
        """All pods get their addresses as fast as the API server takes them. Then policies' statuses follow, at a pace
        of their own."""
        operator = self._world.operator()
        await until(lambda: operator.says(WRITTEN), "everything to be written")
        await self._world.quiet(self._plan.calm)
        objects, version = await snapshot(self._client), await self._client.current_resource_version(ADDRESS_GROUPS)
        wires = [Wire(self._client, resource, version) for resource in (IPAM_BLOCKS, ADDRESS_GROUPS)]
        async with wires[0], wires[1]:
            cpu, before, began = operator.usage().cpu, await seen(self._client), time.perf_counter()
            await self._world.stack.enter_async_context(Players(self._client, real=lambda _: False))
            await self._all_addressed()
            said = await self._world.quiet(self._plan.calm) - began
            given, took = (max(at for at, _ in wire.take()) - began for wire in wires)
        counted, used = (await seen(self._client)).since(before), operator.usage()
        fewest = difference(objects, await snapshot(self._client)).objects
        operator.end()
        key, text = "operator.addresses", "all pods given addresses at once → every group written"
        pace = counted.statuses / STATUS_RATE
        return [
            Figure(key, text, "s", (took,), "until the last has its address", (given,)),
            Figure(f"{key}.said", "  until statuses follow", "s", (said,), "so many at the pace of statuses", (pace,)),
            Figure(f"{key}.cpu", "  processor time", "s", (used.cpu - cpu,)),
            Figure(f"{key}.writes", "  writes", "writes", (counted.writes,), "objects that are others then", (fewest,)),
            self._of_memory(f"{key}.peak", "  operator at its peak", used.peak),
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
        """The lag first, and with nobody beside it who hears all, too: nodes' labels stay for `world.LINGER`, so each
        window leaves more of them to the next. The second moves the same pods, to other apps."""
        operator = await self._ready()
        through = tuple(x * 1000 for x in await floors.through_server(self._client, self._plan.rounds))
        idle = await self._beside_bare(operator, asyncio.sleep(self._plan.idle))
        lags = await self._lagging(through)
        async with Lags(self._client, self._plan.size, step=7) as others:
            busy = await self._beside_bare(operator, others.relabel(RELABELS, self._plan.relabel))
        await self._world.quiet(self._plan.calm)
        used = operator.usage()
        operator.end()
        return [
            _of_cpu("operator.idle.cpu", "operator idle", idle),
            _of_cpu("operator.relabel.cpu", f"operator while {RELABELS} pods a second are relabelled", busy),
            *lags,
            self._of_memory("operator.resident", "operator resident after that", used.resident),
            self._of_memory("operator.peak", "  at its peak", used.peak),
        ]

    async def _beside_bare(self, operator: Process, work: Awaitable[object]) -> dict[str, float]:
        """What the operator, and one that only hears, take of a core."""
        async with Listener(self._world, "everything", "1") as bare:
            return await share({"operator": operator.pid, "bare": bare.process.pid}, work)

    async def _lagging(self, through: tuple[float, ...]) -> list[Figure]:
        """Pods relabelled: what the operator wrote of it, and when. `through`: the floor, ms."""
        count = RELABELS * self._plan.relabel
        async with Lags(self._client, self._plan.size, step=1) as lags:
            objects, before, began = await snapshot(self._client), await seen(self._client), time.perf_counter()
            await lags.relabel(RELABELS, self._plan.relabel)
            pace = count / (time.perf_counter() - began)
            await self._world.quiet(self._plan.calm)
            counted = (await seen(self._client)).since(before)
            fewest = difference(objects, await snapshot(self._client)).objects / count
        return [
            Figure("operator.relabel.pace", "  the API server kept up with", "pods/s", (pace,)),
            Figure("operator.relabel.writes", "  writes for each relabelling", "writes", (counted.writes / count,),
                   "objects that are others in the end, for each", (fewest,)),
            *lag_figures(lags, counted, through),
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
            self._of_memory("operator.standby.resident", "operator that stands by, resident", standing),
        ]

    async def _kill(self, leader: Process, step: int) -> float:
        async with Lags(self._client, self._plan.size, step) as lags:
            leader.end(kill=True)
            began = time.perf_counter()
            number = await lags.one(sure=True)
            await until(lambda: lags.heard(number), "the change to be in the groups")
            return lags.heard(number) - began


def _of_cpu(key: str, name: str, taken: Mapping[str, float]) -> Figure:
    floor = "hearing pods, policies and namespaces, undecoded"
    return Figure(key, name, "% of a core", (taken["operator"],), floor, (taken["bare"],))
