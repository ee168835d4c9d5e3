"""The agent on ten thousand pods: its start, memory, idle and busy CPU, and how soon a policy is in its kernel.

Owns: these rows, each beside its floor of the same run. Must not: believe the agent: what it says is in the kernel is
compared with what was there when it had all the time it wanted.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass

from bench.figures import Figure
from bench.measures import Given, streamed
from bench.nft_events import NftEvents
from bench.scale import changes, cost_rows, floors, load
from bench.scale.listener import Listener
from bench.scale.load import Size
from bench.scale.node import MeasuredNode
from bench.scale.processes import Process, Usage, share, usage
from bench.scale.world import World, world
from manx_agent.render import names

FELIX = "Calico Felix v3.33-dev, iptables-nft:"
PEERS = {
    "start": f"{FELIX} 1.83 s, 1.78 CPU-seconds",
    "resident": f"{FELIX} 139 MB (Felix alone)",
    "peak": f"{FELIX} 187 MB (Felix alone)",
    "relabel": f"{FELIX} 15 % of a core",
    "idle": f"{FELIX} 1.6 % of a core",
    "policy": f"{FELIX} about 110 ms",
}
RELABELS = 100
IMPORTS = "a Python with the agent's imports"
_TOLD_LATER = 2.0
"""Seconds after which the agent has also said what it came to, and nothing of its start is still going on."""


@dataclass(frozen=True)
class Plan:
    """How much of each. Times in seconds."""

    size: Size
    starts: int
    idle: float
    relabel: float
    rounds: int
    cold: bool = False
    """Whether to try a pod that needs many policies on a node that has none of them."""
    growth: tuple[Size, ...] = ()
    """Other sizes at which changes are counted."""


QUICK = Plan(load.QUICK, starts=1, idle=3, relabel=2, rounds=3)
FULL = Plan(load.FULL, starts=5, idle=60, relabel=30, rounds=30, cold=True, growth=(load.THOUSAND,))


def measure(given: Given) -> Iterator[Figure]:
    """Raises AssertionError, RuntimeError, TimeoutError, KubeError where something does not come up."""
    yield from streamed(_collected(QUICK if given.quick else FULL))


async def _collected(plan: Plan) -> AsyncGenerator[Figure]:
    async for figure in _rows(plan):
        yield figure
    for size in plan.growth:
        async for figure in costs(size):
            yield figure


async def costs(size: Size) -> AsyncGenerator[Figure]:
    """Those of changes alone, on a cluster of its own."""
    async with world(size) as found:
        node = await settled(found)
        await node.ready_agent()
        for figure in (*await cost_rows.rows(found, node), await cost_rows.cold(found, node)):
            yield figure


async def _rows(plan: Plan) -> AsyncIterator[Figure]:
    async with world(plan.size) as found:
        node = await settled(found)
        async for figure in _agent_rows(plan, found, node):
            found.say(f"{figure.name}: {statistics.median(figure.samples):.2f} {figure.unit}")
            yield figure


async def settled(found: World) -> MeasuredNode:
    """Operator and players have come to their end, and all pods of the node are attached; the agent has ended."""
    operator = found.operator()
    await found.written(operator)
    found.say("attaching pods")
    node = MeasuredNode(found)
    agent = await node.ready_agent()
    await node.attach()
    await found.quiet()
    agent.end()
    return node


async def _agent_rows(plan: Plan, found: World, node: MeasuredNode) -> AsyncIterator[Figure]:
    for figure in await _starts(plan, node):
        yield figure
    agent = await node.ready_agent()
    speaker = node.speaker()
    await asyncio.sleep(_TOLD_LATER + 3)
    for figure in _resident(agent, speaker):
        yield figure
    yield await _busy("idle", "agent idle", found, agent, asyncio.sleep(plan.idle))
    for figure in await _policy(plan, found, node):
        yield figure
    for figure in await cost_rows.rows(found, node):
        yield figure
    work = changes.relabel(found.client, found.size, RELABELS, plan.relabel)
    yield await _busy("relabel", f"agent while {RELABELS} pods a second are relabelled", found, agent, work)
    if plan.cold:  # last: the node goes on hearing of its hundred policies
        yield await cost_rows.cold(found, node)
    for figure in _after(agent, speaker):
        yield figure
    for process in (speaker, agent):
        process.end()


# --- start ------------------------------------------------------------------------------------------------------------


@dataclass
class Starts:
    """Seconds, of each start."""

    took: list[float]
    cpu: list[float]


async def _starts(plan: Plan, node: MeasuredNode) -> list[Figure]:
    whole = node.rules(), node.sets()
    empty, kept = Starts([], []), Starts([], [])
    for _ in range(plan.starts):
        node.wipe()
        await _start(node, whole, empty)
        await _start(node, whole, kept)
    rules, sets = node.saved()
    imports = tuple(floors.imports() for _ in range(plan.starts))
    return [
        *_start_figures("agent.start", "agent start → whole state in an empty kernel", empty, imports),
        *_start_figures("agent.restart", "agent start → whole state found there", kept, imports),
        Figure("agent.rules", "rules of Manx's on the node", "rules", (len(whole[0]),), exact=True),
        Figure("agent.members", "members of sets on the node", "members", (len(whole[1]),), exact=True),
        *_floor_figures(plan, rules, sets),
    ]


async def _start(node: MeasuredNode, whole: tuple[list[str], list[str]], into: Starts) -> None:
    """Raises AssertionError where the agent says that it is done and the kernel says that it is not."""
    agent = await node.ready_agent()
    into.took.append(time.perf_counter() - agent.started)
    into.cpu.append(agent.usage().cpu)
    if (there := (node.rules(), node.sets())) != whole:
        raise AssertionError(f"ready with {len(there[0])} rules of {len(whole[0])}, {len(there[1])} members of sets")
    await asyncio.sleep(_TOLD_LATER)
    agent.end()


def _start_figures(key: str, name: str, starts: Starts, imports: tuple[floors.Start, ...]) -> Iterator[Figure]:
    floor = "Python's start with the agent's imports"
    took, cpu = tuple(one.took for one in imports), tuple(one.cpu for one in imports)
    yield Figure(key, name, "s", tuple(starts.took), floor, took, peer=PEERS["start"])
    yield Figure(f"{key}.cpu", "… processor time", "s", tuple(starts.cpu), floor, cpu)


def _floor_figures(plan: Plan, rules: str, sets: str) -> Iterator[Figure]:
    rounds, calico = range(plan.starts), floors.calico_rules()
    same = tuple(floors.restore(rules, sets) for _ in rounds)
    yield Figure("floor.restore", "floor: iptables-nft-restore of the same rules", "s", same)
    more = tuple(floors.restore(calico) for _ in rounds)
    yield Figure("floor.restore.calico", f"floor: … of {floors.CALICO_RULES} rules laid out as Felix does", "s", more)
    yield Figure("floor.loop", f"floor: a loop of {floors.LOOP} in Python", "s", tuple(floors.loop() for _ in rounds))


# --- memory and CPU ---------------------------------------------------------------------------------------------------


def _parts(agent: Process, speaker: Process) -> dict[str, Usage]:
    """All that a node carries: the agent, ExaBGP, and the relay where that is a process."""
    relay = {name: usage(pid) for name, pid in zip(("relay",), speaker.children(), strict=False)}
    return {"agent": agent.usage(), "ExaBGP": speaker.usage(), **relay}


def _resident(agent: Process, speaker: Process) -> Iterator[Figure]:
    parts, floor = _parts(agent, speaker), floors.memory()
    whole, shared = (sum(getattr(one, kind) for one in parts.values()) for kind in ("resident", "proportional"))
    yield Figure("agent.resident", f"{' and '.join(parts)}: resident", "MB", (whole,), IMPORTS, (floor.resident,),
                 peer=PEERS["resident"])  # fmt: skip
    yield Figure("agent.proportional", "… shared pages divided", "MB", (shared,), IMPORTS, (floor.proportional,))
    for name, one in parts.items():
        yield Figure(f"agent.resident.{name.lower()}", f"  {name} resident", "MB", (one.resident,))


def _after(agent: Process, speaker: Process) -> Iterator[Figure]:
    """Once they have gone through everything."""
    parts, floor = _parts(agent, speaker), (floors.memory().resident,)
    text, now = f"{' and '.join(parts)}: resident after all that", sum(one.resident for one in parts.values())
    yield Figure("agent.resident.after", text, "MB", (now,), IMPORTS, floor)
    peak = sum(one.peak for one in parts.values())
    yield Figure("agent.peak", "… at their peak in all that", "MB", (peak,), IMPORTS, floor, peer=PEERS["peak"])


async def _busy(key: str, name: str, found: World, agent: Process, work: Awaitable[object]) -> Figure:
    """Beside a process that hears the same and does nothing."""
    async with Listener(found, "share", load.HERE) as bare:
        taken = await share({"agent": agent.pid, "bare": bare.process.pid}, work)
    unit, floor = "% of a core", "hearing the same, undecoded"
    return Figure(f"agent.{key}.cpu", name, unit, (taken["agent"],), floor, (taken["bare"],), peer=PEERS[key])


# --- a policy ---------------------------------------------------------------------------------------------------------


async def _policy(plan: Plan, found: World, node: MeasuredNode) -> list[Figure]:
    """Created (answered) → its rule in the kernel, while nothing else happens."""
    kernel = NftEvents(found.netns.pid)
    took = [await _round(number, found, kernel) * 1000 for number in range(plan.rounds)]
    kernel.close()
    rules, sets = node.saved()
    chain = next(line.split()[1] for line in rules.splitlines() if line.startswith("-A manx-pi-"))
    with floors.OneRule(rules, sets, chain) as one:
        bare = tuple(one.restore() * 1000 for _ in range(plan.rounds))
    through = tuple(seconds * 1000 for seconds in await floors.through_server(found.client, plan.rounds))
    name = "policy created → its rule in the node's kernel"
    return [
        Figure("agent.policy", name, "ms", tuple(took), "iptables-nft-restore of it", bare, peer=PEERS["policy"]),
        Figure("floor.server", f"floor: {cost_rows.THROUGH}", "ms", through),
    ]


async def _round(number: int, found: World, kernel: NftEvents) -> float:
    policy = load.policy(number % found.size.namespaces, found.size)
    name = f"fresh-{number}"
    chain = names.program_ingress(f"knp.{policy['metadata']['namespace']}.{name}")
    there = kernel.rule_in(chain)
    sent = await changes.create_policy(found.client, policy, name)
    answered = time.perf_counter()
    async with asyncio.timeout(60):
        took = await there - answered
        gone = kernel.gone(chain)
        await changes.delete_policy(found.client, sent)
        await gone
    await asyncio.sleep(0.3)
    return took
